"""Where a device's keys and certificates live in its TPM."""

from __future__ import annotations

from dataclasses import dataclass

from attestation.tpm import templates
from attestation.tpm.templates import KeyTemplate
from device_agent.errors import SettingsInvalid
from device_agent.ports import KeyRole

_PERSISTENT = range(0x81000000, 0x81800000)
"""Handles that the owner may persist to (TPM 2.0 Part 2, 7.2; Provisioning Guidance 2.3.1)."""

_NV = range(0x01000000, 0x02000000)


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmLayout:
    """Persistent handles, NV indices and templates; the defaults are TCG's where one exists.

    Attributes:
        template: TCG template of IDevID and IAK: H-1 (RSA-2048), H-2 (P-256) or H-3 (P-384).
        idevid_handle: Persistent handle of the IDevID key.
        iak_handle: Persistent handle of the IAK.
        srk_handle: Persistent handle of the storage root key, made if absent.
        ldevid_handle: Persistent handle of the LDevID key.
        ldevid_2_handle: Its other slot, for key rotation.
        idevid_certificate_nv: NV index of the IDevID certificate.
        iak_certificate_nv: NV index of the IAK certificate.
        idevid_unique: Contents of ``unique`` in the IDevID template; another label makes another
            key.
        iak_unique: The same for the IAK.

    Raises:
        SettingsInvalid: If a handle is outside the owner's range or used twice.
    """

    template: KeyTemplate = KeyTemplate.P_256
    idevid_handle: int = templates.IDEVID_HANDLE
    iak_handle: int = templates.IAK_HANDLE
    srk_handle: int = templates.SRK_HANDLE
    ldevid_handle: int = templates.LDEVID_HANDLE
    ldevid_2_handle: int = templates.LDEVID_HANDLE + 1
    idevid_certificate_nv: int = templates.IDEVID_CERTIFICATE_NV
    iak_certificate_nv: int = templates.IAK_CERTIFICATE_NV
    idevid_unique: bytes = templates.IDEVID_UNIQUE
    iak_unique: bytes = templates.IAK_UNIQUE

    def __post_init__(self) -> None:
        keys = (
            self.idevid_handle,
            self.iak_handle,
            self.srk_handle,
            self.ldevid_handle,
            self.ldevid_2_handle,
        )
        certificates = (self.idevid_certificate_nv, self.iak_certificate_nv)
        for handles, allowed, kind in (
            (keys, _PERSISTENT, "persistent handle"),
            (certificates, _NV, "NV index"),
        ):
            for handle in handles:
                if handle not in allowed:
                    raise SettingsInvalid(
                        f"{kind} 0x{handle:08x} is outside 0x{allowed.start:08x} to "
                        f"0x{allowed.stop - 1:08x}"
                    )
            if len(set(handles)) != len(handles):
                raise SettingsInvalid(f"a {kind} is used twice; give each key its own")

    def handle(self, role: KeyRole) -> int:
        """Return the persistent handle of a key."""
        match role:
            case KeyRole.IDEVID:
                return self.idevid_handle
            case KeyRole.IAK:
                return self.iak_handle
            case KeyRole.LDEVID:
                return self.ldevid_handle
            case KeyRole.LDEVID_2:
                return self.ldevid_2_handle

    def certificate_index(self, role: KeyRole) -> int:
        """Return the NV index of the certificate of IDEVID or IAK.

        Raises:
            ValueError: For an LDevID, whose certificate is a file.
        """
        match role:
            case KeyRole.IDEVID:
                return self.idevid_certificate_nv
            case KeyRole.IAK:
                return self.iak_certificate_nv
            case KeyRole.LDEVID | KeyRole.LDEVID_2:
                raise ValueError("the LDevID certificate is kept in the state folder, not in NV")
