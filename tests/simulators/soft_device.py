"""A TPM in software for tests and benches, and the manufacturer that certifies it.

``SoftTpm`` implements :class:`device_agent.ports.Tpm` with software keys and gives real
TPMT_PUBLIC, TPMS_ATTEST and TPMT_SIGNATURE bytes, so that the verifier judges what it would judge
in the field. It shares no code with what it tests: every structure is packed here by hand.
Set ``tpm.lies = Lies(...)`` to make it lie.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from attestation.algorithms import HashAlgorithm
from attestation.evidence import Quote
from attestation.pcr import PcrBanks, PcrSelection
from device_agent.errors import TpmKeyMissing, TpmRefused
from device_agent.ports import Endorsement, KeyRole, TpmStatus, WrappedKey
from tests.simulators.soft_endorsement import WRONG, SoftEk
from tests.simulators.soft_manufacturer import SoftManufacturer
from verifier.issuance.credential_activation import Credential

__all__ = ["Lies", "SoftKey", "SoftManufacturer", "SoftTpm", "soft_key"]

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

IAK_ATTRIBUTES: Final = 0x000500F2
IDEVID_ATTRIBUTES: Final = 0x000400F2
LDEVID_ATTRIBUTES: Final = 0x00040072
"""fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, sign."""
TPM_GENERATED: Final = 0xFF544347
QUOTE_TYPE: Final = 0x8018
CERTIFY_TYPE: Final = 0x8017
_ALG_RSA, _ALG_NULL, _ALG_RSASSA, _ALG_RSAPSS, _ALG_ECDSA, _ALG_ECC = 1, 16, 20, 22, 24, 35
_CURVES: Final = {"secp256r1": 3, "secp384r1": 4, "secp521r1": 5}
_POLICIES: Final = {
    KeyRole.IDEVID: "ad6b3a2284fd698a0710bf5cc1b9bdf15e2532e3f601fa4b93a6a8fa8de579ea",
    KeyRole.IAK: "5437182326e414fca797d5f174615a1641f61255797c3a2b22c21d120b2d1e07",
}
"""Published authPolicy digests for SHA-256 templates; other sizes get zero bytes here."""
_HIERARCHIES: Final = {
    KeyRole.IDEVID: 0x4000000B,
    KeyRole.IAK: 0x4000000B,
    KeyRole.LDEVID: 0x40000001,
    KeyRole.LDEVID_2: 0x40000001,
}


def _sized(content: bytes) -> bytes:
    return struct.pack(">H", len(content)) + content


def _hash_of(alg: HashAlgorithm) -> hashes.HashAlgorithm:
    return {32: hashes.SHA256(), 48: hashes.SHA384(), 64: hashes.SHA512()}[alg.size]


def new_key(kind: str) -> PrivateKey:
    """Make a key: ``p256``, ``p384``, ``p521``, ``rsa2048``…"""
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:] or 2048))
    curve = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}[kind]
    return ec.generate_private_key(curve)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftKey:
    """A software key with what makes it a TPM object."""

    private: PrivateKey
    attributes: int
    name_alg: HashAlgorithm = HashAlgorithm.SHA256
    scheme: int = _ALG_ECDSA
    scheme_hash: HashAlgorithm = HashAlgorithm.SHA256
    policy: bytes = b""
    hierarchy: int = 0x4000000B

    @property
    def public_area(self) -> bytes:
        """TPMT_PUBLIC (TPM 2.0 Part 2, 12.2.4)."""
        public = self.private.public_key()
        is_rsa = isinstance(public, rsa.RSAPublicKey)
        head = struct.pack(
            ">HHI", _ALG_RSA if is_rsa else _ALG_ECC, self.name_alg, self.attributes
        ) + _sized(self.policy)
        scheme = (
            struct.pack(">H", _ALG_NULL)
            if self.scheme == _ALG_NULL
            else struct.pack(">HH", self.scheme, self.scheme_hash)
        )
        head += struct.pack(">H", _ALG_NULL) + scheme
        if isinstance(public, rsa.RSAPublicKey):
            modulus = public.public_numbers().n.to_bytes(public.key_size // 8, "big")
            return head + struct.pack(">HI", public.key_size, 0) + _sized(modulus)
        width = (public.curve.key_size + 7) // 8
        numbers = public.public_numbers()
        head += struct.pack(">HH", _CURVES[public.curve.name], _ALG_NULL)
        x, y = numbers.x.to_bytes(width, "big"), numbers.y.to_bytes(width, "big")
        return head + _sized(x) + _sized(y)

    @property
    def name(self) -> bytes:
        """nameAlg || H(TPMT_PUBLIC)."""
        return struct.pack(">H", self.name_alg) + self.name_alg.digest(self.public_area)

    @property
    def qualified_name(self) -> bytes:
        """The qualified Name of a primary object (Part 1, 16)."""
        inner = struct.pack(">I", self.hierarchy) + self.name
        return struct.pack(">H", self.name_alg) + self.name_alg.digest(inner)

    def sign(self, message: bytes) -> bytes:
        """Return TPMT_SIGNATURE over ``message`` by the key's own scheme."""
        algorithm = _hash_of(self.scheme_hash)
        head = struct.pack(">HH", self.scheme, self.scheme_hash)
        if isinstance(self.private, rsa.RSAPrivateKey):
            pad: padding.AsymmetricPadding = (
                padding.PSS(padding.MGF1(algorithm), self.scheme_hash.size)
                if self.scheme == _ALG_RSAPSS
                else padding.PKCS1v15()
            )
            return head + _sized(self.private.sign(message, pad, algorithm))
        r, s = utils.decode_dss_signature(self.private.sign(message, ec.ECDSA(algorithm)))
        width = (self.private.curve.key_size + 7) // 8
        return head + _sized(r.to_bytes(width, "big")) + _sized(s.to_bytes(width, "big"))


def soft_key(kind: str, role: KeyRole, *, attributes: int | None = None) -> SoftKey:
    """Make the key of a role as its template says; ``rsa2048-ssa`` gives RSASSA."""
    defaults = {
        KeyRole.IAK: IAK_ATTRIBUTES,
        KeyRole.IDEVID: IDEVID_ATTRIBUTES,
        KeyRole.LDEVID: LDEVID_ATTRIBUTES,
        KeyRole.LDEVID_2: LDEVID_ATTRIBUTES,
    }
    base, _, variant = kind.partition("-")
    digest = {"p384": HashAlgorithm.SHA384, "p521": HashAlgorithm.SHA512}.get(
        base, HashAlgorithm.SHA256
    )
    scheme = _ALG_ECDSA
    if base.startswith("rsa"):
        scheme = _ALG_RSASSA if variant == "ssa" else _ALG_RSAPSS
        if role is KeyRole.IDEVID:
            scheme = _ALG_NULL
    policy = b""
    if role in _POLICIES:
        policy = bytes.fromhex(_POLICIES[role]) if digest.size == 32 else bytes(digest.size)
    return SoftKey(
        private=new_key(base),
        attributes=defaults[role] if attributes is None else attributes,
        name_alg=digest,
        scheme=scheme,
        scheme_hash=digest,
        policy=policy,
        hierarchy=_HIERARCHIES[role],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lies:
    """How a SoftTpm lies; every None or zero means the truth."""

    sign_with: SoftKey | None = None
    """Sign quotes and certifications with this key instead of the IAK."""
    magic: int = TPM_GENERATED
    attest_type: int | None = None
    selections: tuple[PcrSelection, ...] | None = None
    """Quote these PCRs instead of those asked."""
    pcr_digest: bytes | None = None
    extra: bytes | None = None
    """Put this in extraData instead of the qualifying data given."""
    trailing: bytes = b""
    """Signed together with TPMS_ATTEST, after its end."""
    certified_name: bytes | None = None
    clock_ms: int | None = None
    reset_count: int | None = None
    restart_count: int | None = None
    flip_signature: bool = False


class SoftTpm:
    """A TPM in software. Implements :class:`device_agent.ports.Tpm`.

    Args:
        manufacturer: Certifies IDevID and IAK; None for a TPM not yet manufactured.
        serial: The device's serial number (certificate subject).
        kind: Key kind of IAK and IDevID: ``p256``, ``p384``, ``rsa2048``, ``rsa2048-ssa``.
        iak_attributes: TPMA_OBJECT of the IAK, to make an unrestricted one.
        banks: PCR banks allocated.
    """

    def __init__(
        self,
        manufacturer: SoftManufacturer | None = None,
        *,
        serial: str = "SN-0001",
        kind: str = "p256",
        idevid_kind: str | None = None,
        iak_attributes: int | None = None,
        banks: Sequence[HashAlgorithm] = (HashAlgorithm.SHA1, HashAlgorithm.SHA256),
        firmware_version: int = 0x2023012400000000,
    ) -> None:
        self.serial = serial
        self.manufacturer = manufacturer
        self.lies = Lies()
        self.ek: SoftEk | None = None
        self.firmware_version = firmware_version
        self.clock_ms, self.reset_count, self.restart_count = 1_000, 1, 0
        self.lockout = False
        self.commands = 0
        self._banks = tuple(banks)
        self._pcrs: dict[HashAlgorithm, dict[int, bytes]] = {}
        self._clear_pcrs()
        self.keys: dict[KeyRole, SoftKey] = {
            KeyRole.IAK: soft_key(kind, KeyRole.IAK, attributes=iak_attributes),
            KeyRole.IDEVID: soft_key(idevid_kind or kind, KeyRole.IDEVID),
        }
        self.certificates: dict[KeyRole, bytes] = {}
        self.wrapped: dict[bytes, SoftKey] = {}
        if manufacturer is not None:
            for role, key in self.keys.items():
                self.certificates[role] = manufacturer.issue(role, key.private.public_key(), serial)

    def _clear_pcrs(self) -> None:
        self._pcrs = {
            bank: {
                index: (b"\xff" if 17 <= index <= 22 else b"\x00") * bank.size
                for index in range(24)
            }
            for bank in self._banks
        }

    # --- what a test does to the machine ---------------------------------------------------
    def extend(self, bank: HashAlgorithm, pcr: int, digest: bytes) -> None:
        """TPM2_PCR_Extend of one bank."""
        self._pcrs[bank][pcr] = hashlib.new(bank.label, self._pcrs[bank][pcr] + digest).digest()

    def load_pcrs(self, banks: Mapping[HashAlgorithm, Mapping[int, bytes]]) -> None:
        """Set PCRs to the values a real boot left (allocated banks only)."""
        for bank, values in banks.items():
            if bank in self._pcrs:
                self._pcrs[bank].update(values)

    def reboot(self) -> None:
        """Power cycle: PCRs start again, resetCount goes up, restartCount to zero."""
        self._clear_pcrs()
        self.reset_count += 1
        self.restart_count = 0

    def forget(self, role: KeyRole) -> None:
        """Lose a key."""
        self.keys.pop(role, None)

    # --- ports.Tpm -------------------------------------------------------------------------
    def status(self) -> TpmStatus:
        return TpmStatus(
            manufacturer="SOFT",
            firmware_version=self.firmware_version,
            in_lockout=self.lockout,
            lockout_counter=0,
            max_auth_fail=32,
            banks=tuple(bank.label for bank in self._banks),
        )

    def read_pcrs(self, selections: Sequence[PcrSelection]) -> PcrBanks:
        self._tick()
        return {
            item.bank: {index: self._pcrs[item.bank][index] for index in item.indices}
            for item in selections
        }

    def extend_pcr(self, pcr: int, digests: Mapping[HashAlgorithm, bytes]) -> None:
        self._tick()
        for bank, digest in digests.items():
            self.extend(bank, pcr, digest)

    def quote(self, selections: Sequence[PcrSelection], qualifying: bytes) -> Quote:
        chosen = self.lies.selections or tuple(selections)
        signer = self.lies.sign_with or self._key(KeyRole.IAK)
        composite = b"".join(self._pcrs[item.bank][i] for item in chosen for i in item.indices)
        digest = self.lies.pcr_digest or signer.scheme_hash.digest(composite)
        body = struct.pack(">I", len(chosen))
        for item in chosen:
            bits = sum(1 << index for index in item.indices)
            body += struct.pack(">HB", item.bank, 3) + bits.to_bytes(3, "little")
        return self._attest(QUOTE_TYPE, qualifying, body + _sized(digest))

    def certify(self, subject: KeyRole, qualifying: bytes) -> Quote:
        key = self._key(subject)
        name = self.lies.certified_name or key.name
        return self._attest(CERTIFY_TYPE, qualifying, _sized(name) + _sized(key.qualified_name))

    def certify_other(self, key: SoftKey, qualifying: bytes) -> Quote:
        """TPM2_Certify of a key that has no role: an AI agent's."""
        name = self.lies.certified_name or key.name
        return self._attest(CERTIFY_TYPE, qualifying, _sized(name) + _sized(key.qualified_name))

    def public_area(self, role: KeyRole) -> bytes:
        return self._key(role).public_area

    def has_key(self, role: KeyRole) -> bool:
        return role in self.keys

    def endorsement(self) -> Endorsement:
        """The endorsement key that a test has given this TPM."""
        if self.ek is None:
            raise TpmKeyMissing("this TPM has no endorsement key")
        leaf, *above = self.ek.chain or (None,)
        return Endorsement(
            template="L-2",
            public=self.ek.public_area,
            certificate=leaf,
            chain=tuple(der for der in above if der is not None),
        )

    def activate_credential(self, credential_blob: bytes, encrypted_secret: bytes) -> bytes:
        if self.ek is None:
            raise TpmKeyMissing("this TPM has no endorsement key")
        credential = Credential(blob=credential_blob, encrypted_seed=encrypted_secret)
        secret = self.ek.activate(self._key(KeyRole.IAK).name, credential)
        if secret == WRONG:
            raise TpmRefused("TPM_RC_INTEGRITY")
        return secret

    def create_iak(self) -> None:
        if KeyRole.IAK not in self.keys:
            self.keys[KeyRole.IAK] = soft_key("p256", KeyRole.IAK)

    def create_ldevid(self, slot: KeyRole = KeyRole.LDEVID) -> None:
        if slot not in self.keys:
            self.keys[slot] = soft_key("p256", slot)

    def evict_ldevid(self, slot: KeyRole) -> None:
        assert slot.is_ldevid
        self.keys.pop(slot, None)

    # --- ports.AgentKeys: wrapped here means named; only this TPM knows the name ----------------
    def create_wrapped(self) -> WrappedKey:
        key = soft_key("p256", KeyRole.LDEVID)
        wrapped = hashlib.sha256(b"wrapped" + key.public_area).digest()
        self.wrapped[wrapped] = key
        return WrappedKey(public=key.public_area, private=wrapped)

    def certify_wrapped(self, key: WrappedKey, qualifying: bytes) -> Quote:
        own = self._unwrap(key)
        return self._attest(CERTIFY_TYPE, qualifying, _sized(own.name) + _sized(own.qualified_name))

    def sign_wrapped(self, key: WrappedKey, digest: bytes) -> bytes:
        private = self._unwrap(key).private
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        return private.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))

    def csr_wrapped(self, key: WrappedKey, common_name: str, uris: Sequence[str]) -> bytes:
        return _request(self._unwrap(key), common_name, uris)

    def _unwrap(self, key: WrappedKey) -> SoftKey:
        own = self.wrapped.get(key.private)
        if own is None or own.public_area != key.public:
            raise TpmRefused("a wrapped key cannot be loaded")
        return own

    def certificate(self, role: KeyRole) -> bytes | None:
        return self.certificates.get(role)

    def sign_digest(self, role: KeyRole, digest: bytes) -> bytes:
        private = self._key(role).private
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        algorithm = {32: hashes.SHA256(), 48: hashes.SHA384(), 64: hashes.SHA512()}[len(digest)]
        return private.sign(digest, ec.ECDSA(utils.Prehashed(algorithm)))

    def csr(self, role: KeyRole, common_name: str, uris: Sequence[str]) -> bytes:
        return _request(self._key(role), common_name, uris)

    def close(self) -> None:
        """Nothing to close."""

    # --- inside ----------------------------------------------------------------------------
    def _key(self, role: KeyRole) -> SoftKey:
        if role not in self.keys:
            raise TpmKeyMissing(f"no {role.value} key in this TPM")
        return self.keys[role]

    def _tick(self) -> None:
        self.commands += 1
        self.clock_ms += 7

    def _attest(self, kind: int, qualifying: bytes, body: bytes) -> Quote:
        self._tick()
        lies, signer = self.lies, self.lies.sign_with or self._key(KeyRole.IAK)
        attest = (
            struct.pack(">IH", lies.magic, lies.attest_type or kind)
            + _sized(signer.qualified_name)
            + _sized(qualifying if lies.extra is None else lies.extra)
            + struct.pack(
                ">QIIBQ",
                self.clock_ms if lies.clock_ms is None else lies.clock_ms,
                self.reset_count if lies.reset_count is None else lies.reset_count,
                self.restart_count if lies.restart_count is None else lies.restart_count,
                1,
                self.firmware_version,
            )
            + body
            + lies.trailing
        )
        signature = signer.sign(attest)
        if lies.flip_signature:
            signature = signature[:-1] + bytes([signature[-1] ^ 1])
        return Quote(attest=attest, signature=signature)


def _request(key: SoftKey, common_name: str, uris: Sequence[str]) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = x509.CertificateSigningRequestBuilder(subject)
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key.private, hashes.SHA256()).public_bytes(Encoding.DER)
