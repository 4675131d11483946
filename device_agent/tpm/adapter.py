"""EsapiTpm: :class:`device_agent.ports.Tpm` on libtss2's ESAPI."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attestation.algorithms import HashAlgorithm
from attestation.evidence import Quote
from attestation.pcr import PcrBanks, PcrSelection
from attestation.tpm.signature import parse_signature
from device_agent.ports import Endorsement, KeyRole, TpmStatus, WrappedKey
from device_agent.tpm import (
    activation,
    capability,
    certify,
    csr,
    endorsement,
    keys,
    nv,
    quote,
    wrapped,
)
from device_agent.tpm.connection import Backoff, OpenTpm, TpmConnection
from device_agent.tpm.extend import Extension
from device_agent.tpm.layout import TpmLayout

if TYPE_CHECKING:
    from device_agent.factory import FactoryTpm
    from device_agent.ports import AgentKeys, Tpm


class EsapiTpm:
    """A TPM 2.0 as the daemon uses it; safe to share between threads.

    Args:
        tcti: ``device:/dev/tpmrm0``, ``tabrmd:…`` or ``swtpm:host=…,port=…``.
        layout: Handles, NV indices and templates.
        backoff: Patience with a busy TPM.
        shutdown_on_close: See :class:`device_agent.tpm.connection.TpmConnection`.

    Nothing is opened before the first call. All methods may raise ``TpmUnavailable``, ``TpmBusy``,
    ``TpmLockedOut``, ``TpmKeyMissing`` or ``TpmRefused``.

    Raises:
        SettingsInvalid: If the TCTI is not understood.
    """

    def __init__(
        self,
        tcti: str = "device:/dev/tpmrm0",
        *,
        layout: TpmLayout | None = None,
        backoff: Backoff | None = None,
        shutdown_on_close: bool = False,
    ) -> None:
        self._layout = layout or TpmLayout()
        self._connection = TpmConnection(tcti, backoff=backoff, shutdown_on_close=shutdown_on_close)

    def status(self) -> TpmStatus:
        """Read capability facts; never provokes the lockout."""
        return self._connection.run("read the TPM's status", capability.read_status)

    def read_pcrs(self, selections: Sequence[PcrSelection]) -> PcrBanks:
        """Read the selected PCRs, all banks, from one pcrUpdateCounter."""
        return self._connection.run("read PCRs", lambda tpm: quote.read_pcrs(tpm, selections))

    def extend_pcr(self, pcr: int, digests: Mapping[HashAlgorithm, bytes]) -> None:
        """TPM2_PCR_Extend, every given bank in one command; see :class:`ports.Tpm`."""
        self._connection.run("extend a PCR", Extension(pcr, digests))

    def quote(self, selections: Sequence[PcrSelection], qualifying: bytes) -> Quote:
        """TPM2_Quote by the IAK over the selected PCRs. ``qualifying`` is at most 32 bytes."""
        handle = self._layout.iak_handle
        return self._connection.run(
            "quote", lambda tpm: quote.quote(tpm, handle, selections, qualifying)
        )

    def certify(self, subject: KeyRole, qualifying: bytes) -> Quote:
        """TPM2_Certify of ``subject`` by the IAK. ``qualifying`` is at most 32 bytes."""
        return self._connection.run(
            f"certify the {subject} key",
            lambda tpm: certify.certify(tpm, self._layout, subject, qualifying),
        )

    def public_area(self, role: KeyRole) -> bytes:
        """Return the TPMT_PUBLIC of a key."""
        handle = self._layout.handle(role)
        return self._connection.run(
            f"read the {role} key", lambda tpm: keys.read_public(tpm, handle, role)
        )

    def has_key(self, role: KeyRole) -> bool:
        """Say whether the key is at its persistent handle."""
        handle = self._layout.handle(role)
        return self._connection.run(f"look for the {role} key", lambda tpm: tpm.exists(handle))

    def create_ldevid(self, slot: KeyRole = KeyRole.LDEVID) -> None:
        """Make the LDevID key under the SRK and persist it; does nothing if it is there."""
        self._connection.run(
            f"make the {slot} key", lambda tpm: keys.make_ldevid(tpm, self._layout, slot)
        )

    def evict_ldevid(self, slot: KeyRole) -> None:
        """Evict the key of an LDevID slot for good; does nothing if there is none."""
        self._connection.run(
            f"evict the {slot} key", lambda tpm: keys.evict_ldevid(tpm, self._layout, slot)
        )

    def create_wrapped(self) -> WrappedKey:
        """Make a key for an AI agent; see :mod:`device_agent.tpm.wrapped`."""
        return self._connection.run(
            "make an agent's key", lambda tpm: wrapped.create(tpm, self._layout)
        )

    def certify_wrapped(self, key: WrappedKey, qualifying: bytes) -> Quote:
        """TPM2_Certify of an agent's key by the IAK."""
        return self._connection.run(
            "certify an agent's key",
            lambda tpm: wrapped.certify(tpm, self._layout, key, qualifying),
        )

    def sign_wrapped(self, key: WrappedKey, digest: bytes) -> bytes:
        """Sign a SHA-256 digest with an agent's key; returns a DER ECDSA signature."""
        return self._connection.run(
            "sign with an agent's key", lambda tpm: wrapped.sign(tpm, self._layout, key, digest)
        )

    def csr_wrapped(self, key: WrappedKey, common_name: str, uris: Sequence[str]) -> bytes:
        """Make a PKCS#10 request signed by an agent's key; returns DER."""
        return self._connection.run(
            "sign a request with an agent's key",
            lambda tpm: wrapped.request(tpm, self._layout, key, common_name, uris),
        )

    def certificate(self, role: KeyRole) -> bytes | None:
        """Read the DER certificate of IDEVID or IAK from NV; None if the index is absent.

        Raises:
            SourceUnreadable: If the index holds something else than a certificate.
        """
        index = self._layout.certificate_index(role)
        return self._connection.run(
            f"read the {role} certificate", lambda tpm: nv.read_certificate(tpm, index)
        )

    def sign_digest(self, role: KeyRole, digest: bytes) -> bytes:
        """Sign a digest with IDEVID or LDEVID; returns a DER ECDSA signature.

        The IDevID's scheme is fixed by its template: with H-2 it signs SHA-256 digests only.
        """
        return parse_signature(self.sign_structure(role, digest)).der

    def csr(self, role: KeyRole, common_name: str, uris: Sequence[str]) -> bytes:
        """Make a PKCS#10 request signed by the key; returns DER."""
        handle = self._layout.handle(role)
        return self._connection.run(
            f"sign a request with the {role} key",
            lambda tpm: csr.make_csr(tpm, handle, role, common_name, uris),
        )

    def sign_structure(self, role: KeyRole, digest: bytes) -> bytes:
        """Sign a digest with IDEVID or LDEVID; returns a TPMT_SIGNATURE."""
        return self._connection.run(
            f"sign with the {role} key",
            lambda tpm: keys.sign(tpm, self._layout, role, digest),
        )

    def create_iak(self) -> None:
        """Make the IAK from its TCG template and persist it; does nothing if it is there."""
        self._connection.run(
            "make the iak key",
            lambda tpm: keys.make_identity_key(tpm, self._layout, KeyRole.IAK),
        )

    def create_identity_keys(self) -> None:
        """Make IDevID and IAK from their TCG templates; keeps those that are there (factory)."""
        for role in (KeyRole.IDEVID, KeyRole.IAK):
            make = functools.partial(keys.make_identity_key, layout=self._layout, role=role)
            self._connection.run(f"make the {role} key", make)

    def write_certificate(self, role: KeyRole, der: bytes) -> None:
        """Write the certificate of IDEVID or IAK to NV (factory)."""
        index = self._layout.certificate_index(role)
        self._connection.run(
            f"write the {role} certificate", lambda tpm: nv.write_certificate(tpm, index, der)
        )

    def ek_certificate(self) -> bytes | None:
        """Return the first EK certificate in NV, DER; None if the TPM came without (factory)."""
        found = self._connection.run("read the EK certificate", endorsement.ek_certificate)
        return None if found is None else found[1]

    def endorsement(self) -> Endorsement:
        """Return the endorsement key, its certificate and what stands above it."""

        def read(tpm: OpenTpm) -> Endorsement:
            with endorsement.loaded_ek(tpm, activation.DEFAULT_EK) as ek:
                return ek.endorsement

        return self._connection.run("read the endorsement key", read)

    def activate_credential(self, credential_blob: bytes, encrypted_secret: bytes) -> bytes:
        """TPM2_ActivateCredential of the IAK under the EK; see :func:`activation.activate`."""
        handle = self._layout.iak_handle
        return self._connection.run(
            "activate a credential",
            lambda tpm: activation.activate_credential(
                tpm, handle, credential_blob, encrypted_secret
            ),
        )

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        self._connection.close()


if TYPE_CHECKING:

    def _fits(tpm: EsapiTpm) -> tuple[Tpm, FactoryTpm, AgentKeys]:
        return tpm, tpm, tpm
