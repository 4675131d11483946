"""Keys in PKCS#11 tokens: HSMs, smart cards, SoftHSM, and TPMs behind tpm2-pkcs11.

The private key never leaves the token: :class:`TokenKey` hashes here and has the token sign
(CKM_ECDSA, PKCS#11 3.0, 2.3.6). A PIN that was refused once is not tried again by this process:
tokens lock after a few.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Never, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.utils import Buffer
from typing_extensions import override

from attestation.refusals import RefusalCode
from verifier.errors import SettingsInvalid, Unavailable
from verifier.keys.secret_source import SecretSource

if TYPE_CHECKING:
    from pkcs11 import Session
    from pkcs11 import Token as LoggedOutToken

# The module behind it is a shared library of the token's maker: it is loaded only where it is used.
# ruff: noqa: PLC0415

_CURVES: Final = frozenset({"secp256r1", "secp384r1"})
_PROBE: Final = b"certificate authority self-test"
_Found = TypeVar("_Found")


class Token:
    """One token, logged in when it is first needed.

    Args:
        module: Path of the token maker's PKCS#11 library.
        label: The token's label.
        pin: Where the user PIN is.

    Raises:
        SettingsInvalid: If python-pkcs11 is not installed.
    """

    def __init__(self, module: str, label: str, pin: SecretSource) -> None:
        if find_spec("pkcs11") is None:
            raise SettingsInvalid(
                "a key in a token needs python-pkcs11: pip install 'device-attestation[pkcs11]'"
            )
        self._module = module
        self._label = label
        self._pin = pin
        self._session: Session | None = None
        self._handles: dict[tuple[str, bytes], Any] = {}
        self._refused = ""
        self._lock = threading.RLock()

    def generate(self, label: str, identifier: bytes, curve: str = "secp256r1") -> TokenKey:
        """Make a key pair that the token never gives out.

        Raises:
            Unavailable: ``ca-token-absent`` or ``ca-pin-refused``.
        """

        def make(session: Session) -> None:
            from pkcs11 import Attribute, KeyType
            from pkcs11.util.ec import encode_named_curve_parameters

            parameters = session.create_domain_parameters(
                KeyType.EC,
                {Attribute.EC_PARAMS: encode_named_curve_parameters(curve)},
                local=True,
            )
            secret = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
            parameters.generate_keypair(
                store=True,
                label=label,
                id=identifier,
                private_template={**secret, Attribute.SIGN: True},
                public_template={Attribute.VERIFY: True},
            )

        self._in_session(make, again=False)
        return self.key(label, identifier)

    def adopt(self, label: str) -> tuple[TokenKey, bytes]:
        """Return a key that was made in the token by other means, and its CKA_ID.

        Raises:
            Unavailable: ``ca-token-absent`` if there is not exactly one of this label,
                ``keys-unusable`` if the token would give it out; else as :meth:`key`.
        """

        def look(session: Session) -> tuple[bytes, bool]:
            from pkcs11 import Attribute

            found = _private(session, label, None)
            return bytes(found[Attribute.ID]), bool(found[Attribute.EXTRACTABLE])

        identifier, extractable = self._in_session(look)
        if extractable:
            raise Unavailable(
                RefusalCode.KEYS_UNUSABLE,
                f"the key {label!r} may be taken out of token {self._label!r}; make one that is "
                "not extractable",
            )
        return self.key(label, identifier), identifier

    def key(self, label: str, identifier: bytes) -> TokenKey:
        """Return a key of the token; that it signs for its public part is tried out.

        Raises:
            Unavailable: ``ca-token-absent`` if it is not there, ``keys-unusable`` if its parts do
                not belong together, or it is not on P-256 or P-384.
        """
        public = self._in_session(lambda session: _public(session, label, identifier))
        key = TokenKey(self, label, identifier, public)
        hashed = ec.ECDSA(hashes.SHA256())
        try:
            public.verify(key.sign(_PROBE, hashed), _PROBE, hashed)
        except InvalidSignature as error:
            raise Unavailable(
                RefusalCode.KEYS_UNUSABLE,
                f"token {self._label!r}: private and public key {label!r} do not belong together",
            ) from error
        return key

    def remove(self, label: str, identifier: bytes) -> None:
        """Destroy a key pair.

        Raises:
            Unavailable: ``ca-token-absent``.
        """

        def destroy(session: Session) -> None:
            for one in list(session.get_objects(_wanted(label, identifier))):
                one.destroy()

        self._in_session(destroy)

    def sign_digest(self, label: str, identifier: bytes, digest: bytes) -> bytes:
        """Have the token sign a digest; returns r || s."""

        def sign(session: Session) -> bytes:
            from pkcs11 import Mechanism

            if (label, identifier) not in self._handles:
                self._handles[label, identifier] = _private(session, label, identifier)
            found: bytes = self._handles[label, identifier].sign(digest, mechanism=Mechanism.ECDSA)
            return found

        return self._in_session(sign)

    def require_pin(self) -> None:
        """Refuse a token whose PIN was refused; the token is not asked.

        Raises:
            Unavailable: ``ca-pin-refused``.
        """
        if self._refused:
            raise Unavailable(RefusalCode.CA_PIN_REFUSED, self._refused)

    def close(self) -> None:
        """Log out."""
        with self._lock:
            self._drop()

    def _in_session(self, act: Callable[[Session], _Found], *, again: bool = True) -> _Found:
        """Run ``act``; if the session was lost (token pulled, daemon restarted), once more."""
        from pkcs11.exceptions import PKCS11Error

        with self._lock:
            try:
                return act(self._opened())
            except PKCS11Error as error:
                self._drop()
                if not again or _is_lasting(error):
                    raise self._absent(error) from error
            try:
                return act(self._opened())
            except PKCS11Error as error:
                self._drop()
                raise self._absent(error) from error

    def _opened(self) -> Session:
        if self._session is None:
            self._session = self._open()
        return self._session

    def _open(self) -> Session:
        from pkcs11 import exceptions

        self.require_pin()
        token = self._find()
        pin = self._pin.read().decode("utf-8", "surrogateescape")
        try:
            return token.open(rw=True, user_pin=pin)
        except exceptions.UserAlreadyLoggedIn:
            return token.open(rw=True)
        except (
            exceptions.PinIncorrect,
            exceptions.PinInvalid,
            exceptions.PinLenRange,
            exceptions.PinLocked,
            exceptions.PinExpired,
            exceptions.UserPinNotInitialized,
        ) as error:
            locked = isinstance(error, exceptions.PinLocked)
            self._refused = (
                f"token {self._label!r} "
                + ("has locked its PIN; unlock it by the SO PIN" if locked else "refuses the PIN")
                + f" of {self._pin.path}; it is not tried again before a restart"
            )
            raise Unavailable(RefusalCode.CA_PIN_REFUSED, self._refused) from error

    def _find(self) -> LoggedOutToken:
        import pkcs11

        return pkcs11.lib(self._module).get_token(token_label=self._label)

    def _drop(self) -> None:
        from pkcs11.exceptions import PKCS11Error

        session, self._session = self._session, None
        self._handles.clear()
        if session is not None:
            try:
                session.close()
            except PKCS11Error:
                return  # It is gone already: that is why it is dropped.

    def _absent(self, error: Exception) -> Unavailable:
        said = type(error).__name__ + (f": {error}" if str(error) else "")
        return Unavailable(
            RefusalCode.CA_TOKEN_ABSENT,
            f"token {self._label!r} of {self._module} ([authority]): {said[:200]}",
        )


class TokenKey(ec.EllipticCurvePrivateKey):
    """A private key in a token, as cryptography's builders take it.

    Args:
        token: Where it is.
        label: CKA_LABEL.
        identifier: CKA_ID.
        public: Its public part.
    """

    def __init__(
        self, token: Token, label: str, identifier: bytes, public: ec.EllipticCurvePublicKey
    ) -> None:
        self._token = token
        self._label = label
        self._identifier = identifier
        self._public = public

    def require_pin(self) -> None:
        """Refuse a key whose token's PIN was refused. Raises Unavailable (``ca-pin-refused``)."""
        self._token.require_pin()

    @override
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Return the public part."""
        return self._public

    @property
    @override
    def curve(self) -> ec.EllipticCurve:
        """The curve."""
        return self._public.curve

    @property
    @override
    def key_size(self) -> int:
        """Bits of the curve."""
        return self._public.key_size

    @override
    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """Sign in the token.

        Raises:
            Unavailable: ``ca-token-absent`` or ``ca-pin-refused``.
            ValueError: For anything but ECDSA over bytes.
        """
        chosen = signature_algorithm.algorithm
        if not isinstance(signature_algorithm, ec.ECDSA) or not isinstance(
            chosen, hashes.HashAlgorithm
        ):
            raise ValueError("a token signs by ECDSA, over data that is hashed here")  # noqa: TRY004
        hasher = hashes.Hash(chosen)
        hasher.update(data)
        raw = self._token.sign_digest(self._label, self._identifier, hasher.finalize())
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))

    @override
    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> Never:
        """Refuse: this key signs."""
        raise ValueError("a CA's key signs, and does nothing else")

    @override
    def private_numbers(self) -> Never:
        """Refuse: the token does not give them out."""
        raise ValueError("the key does not leave its token")

    @override
    def private_bytes(
        self,
        encoding: serialization.Encoding,
        format: serialization.PrivateFormat,
        encryption_algorithm: serialization.KeySerializationEncryption,
    ) -> Never:
        """Refuse: the token does not give them out."""
        raise ValueError("the key does not leave its token")

    @override
    def __copy__(self) -> TokenKey:
        return self

    @override
    def __deepcopy__(self, memo: dict[Any, Any]) -> TokenKey:
        return self


def _wanted(label: str, identifier: bytes | None) -> dict[Any, Any]:
    from pkcs11 import Attribute

    wanted: dict[Any, Any] = {Attribute.LABEL: label}
    return wanted if identifier is None else {**wanted, Attribute.ID: identifier}


def _private(session: Session, label: str, identifier: bytes | None) -> Any:  # noqa: ANN401 - Key has no sign
    from pkcs11 import ObjectClass

    return _only(session, ObjectClass.PRIVATE_KEY, label, identifier)


def _only(session: Session, kind: object, label: str, identifier: bytes | None) -> Any:  # noqa: ANN401 - see above
    """Return the one object of a class, label and id; every search is read to its end."""
    from pkcs11 import Attribute
    from pkcs11.exceptions import MultipleObjectsReturned, NoSuchKey

    found = list(session.get_objects({Attribute.CLASS: kind, **_wanted(label, identifier)}))
    if len(found) > 1:
        raise MultipleObjectsReturned(f"{len(found)} keys have the label {label!r}")
    if not found:
        raise NoSuchKey(f"no key has the label {label!r}")
    return found[0]


def _public(session: Session, label: str, identifier: bytes) -> ec.EllipticCurvePublicKey:
    from pkcs11 import ObjectClass
    from pkcs11.util.ec import encode_ec_public_key

    found = _only(session, ObjectClass.PUBLIC_KEY, label, identifier)
    try:
        key = serialization.load_der_public_key(encode_ec_public_key(found))
    except (ValueError, TypeError, KeyError) as error:
        raise _unfit(label) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise _unfit(label)
    return key


def _unfit(label: str) -> Unavailable:
    return Unavailable(
        RefusalCode.KEYS_UNUSABLE, f"the key {label!r} of the token is not on P-256 or P-384"
    )


def _is_lasting(error: Exception) -> bool:
    """Return whether trying again cannot help: no such token, key or mechanism."""
    from pkcs11 import exceptions

    return isinstance(
        error,
        exceptions.NoSuchKey
        | exceptions.MultipleObjectsReturned
        | exceptions.MultipleTokensReturned
        | exceptions.MechanismInvalid,
    )
