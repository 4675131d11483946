"""The libssl and libcrypto that Python's ``_ssl`` itself is linked to, with guards before use.

Every function here is looked up through the ``_ssl`` module's own dependencies, so it is the very
copy that ``ssl`` uses, however many others this process has loaded (``cryptography`` and database
drivers bring their own). One fact is taken from CPython's insides: a ``_ssl._SSLContext`` object
begins with its ``SSL_CTX *``. That is proved on a scratch context before it is relied on.
"""

from __future__ import annotations

import _ssl
import ctypes
import functools
import ssl
import sys
import threading
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int, c_long, c_uint, c_uint64, c_ulong, c_void_p
from pathlib import Path
from typing import Any, Final

from device_agent.errors import TlsSeamUnusable

_CTRL_CHAIN: Final = 88
_CTRL_CHAIN_CERT: Final = 89
_EVP_PKEY_EC: Final = 408
_REQUIRED_MAJOR: Final = 3
_READ_BYTES: Final = 1024
"""Both fields that the layout proof reads lie within this much of an SSL_CTX (OpenSSL 3.0-3.5)."""

_SIGN: Final = ctypes.CFUNCTYPE(
    c_int, c_int, c_void_p, c_int, c_void_p, POINTER(c_uint), c_void_p, c_void_p, c_void_p
)
_SIGN_SIG: Final = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_int, c_void_p, c_void_p, c_void_p)

_PROTOTYPES: Final[dict[str, tuple[Any, list[Any]]]] = {
    "OpenSSL_version_num": (c_ulong, []),
    "ERR_clear_error": (None, []),
    "SSL_CTX_get_options": (c_uint64, [c_void_p]),
    "SSL_CTX_get_verify_mode": (c_int, [c_void_p]),
    "SSL_CTX_ctrl": (c_long, [c_void_p, c_int, c_long, c_void_p]),
    "SSL_CTX_use_certificate": (c_int, [c_void_p, c_void_p]),
    "SSL_CTX_use_PrivateKey": (c_int, [c_void_p, c_void_p]),
    "SSL_CTX_check_private_key": (c_int, [c_void_p]),
    "d2i_X509": (c_void_p, [c_void_p, POINTER(c_char_p), c_long]),
    "X509_free": (None, [c_void_p]),
    "d2i_EC_PUBKEY": (c_void_p, [c_void_p, POINTER(c_char_p), c_long]),
    "d2i_ECDSA_SIG": (c_void_p, [c_void_p, POINTER(c_char_p), c_long]),
    "EC_KEY_free": (None, [c_void_p]),
    "EC_KEY_OpenSSL": (c_void_p, []),
    "EC_KEY_METHOD_new": (c_void_p, [c_void_p]),
    "EC_KEY_METHOD_set_sign": (None, [c_void_p, c_void_p, c_void_p, c_void_p]),
    "EC_KEY_set_method": (c_int, [c_void_p, c_void_p]),
    "ECDSA_size": (c_int, [c_void_p]),
    "EVP_PKEY_new": (c_void_p, []),
    "EVP_PKEY_assign": (c_int, [c_void_p, c_int, c_void_p]),
    "EVP_PKEY_free": (None, [c_void_p]),
}

Signer = Callable[[bytes], bytes | None]
"""Digest to DER ECDSA signature; None says that it failed. Must not raise."""


class OpenSsl:
    """OpenSSL 3 as ``ssl`` uses it, with one EC_KEY_METHOD whose signatures are made by Python.

    The method and its callbacks live as long as the process: OpenSSL follows their addresses
    until the last connection is freed, and one set serves every key. Keys are told apart by the
    address of their EC_KEY, which an SSL_CTX shares with its connections and never copies.

    Raises:
        TlsSeamUnusable: If this interpreter or its OpenSSL is not what the seam was built for.
    """

    def __init__(self) -> None:
        self._lib = _bind()
        _require_version(int(self._lib.OpenSSL_version_num()))
        _require_layout(self._lib)
        self._signers: dict[int, Signer] = {}
        self._callbacks = (_SIGN(self._on_sign), _SIGN_SIG(self._on_sign_sig))
        sign, sign_sig = (ctypes.cast(callback, c_void_p) for callback in self._callbacks)
        self._method = self._lib.EC_KEY_METHOD_new(self._lib.EC_KEY_OpenSSL())
        self._lib.EC_KEY_METHOD_set_sign(self._method, sign, None, sign_sig)

    def install(
        self, context: ssl.SSLContext, chain_der: list[bytes], spki_der: bytes, signer: Signer
    ) -> int:
        """Give a context a certificate chain and a key that ``signer`` signs for.

        Args:
            context: Not yet in use by a connection.
            chain_der: Leaf first.
            spki_der: An elliptic curve SubjectPublicKeyInfo, the leaf's.
            signer: Called from whichever thread makes the handshake.

        Returns:
            The key's number, for :meth:`forget`.

        Raises:
            TlsSeamUnusable: If OpenSSL refuses the chain or the key.
        """
        try:
            pointer = _ssl_ctx(self._lib, context)
            self._use_chain(pointer, chain_der)
            return self._use_key(pointer, spki_der, signer)
        finally:
            self._lib.ERR_clear_error()  # else Python's ssl reports it for something else later

    def forget(self, key: int) -> None:
        """Drop the signer of a key whose context is gone."""
        self._signers.pop(key, None)

    def _use_chain(self, pointer: int, chain_der: list[bytes]) -> None:
        for number, der in enumerate(chain_der):
            certificate = self._lib.d2i_X509(None, _cursor(der), len(der))
            if not certificate:
                raise _refused("a certificate of the chain")
            try:
                if number == 0:
                    taken = self._lib.SSL_CTX_use_certificate(pointer, certificate)
                    taken = taken and self._lib.SSL_CTX_ctrl(pointer, _CTRL_CHAIN, 0, None)
                else:
                    taken = self._lib.SSL_CTX_ctrl(pointer, _CTRL_CHAIN_CERT, 1, certificate)
            finally:
                self._lib.X509_free(certificate)  # the context holds its own reference
            if taken != 1:
                raise _refused("a certificate of the chain")

    def _use_key(self, pointer: int, spki_der: bytes, signer: Signer) -> int:
        ec_key: int | None = self._lib.d2i_EC_PUBKEY(None, _cursor(spki_der), len(spki_der))
        if not ec_key:
            raise _refused("the public key")
        key = self._lib.EVP_PKEY_new()
        if (
            self._lib.EC_KEY_set_method(ec_key, self._method) != 1
            or self._lib.EVP_PKEY_assign(key, _EVP_PKEY_EC, ec_key) != 1
        ):
            self._lib.EC_KEY_free(ec_key)
            self._lib.EVP_PKEY_free(key)
            raise _refused("an EC_KEY_METHOD")
        self._signers[ec_key] = signer
        taken = self._lib.SSL_CTX_use_PrivateKey(pointer, key)
        self._lib.EVP_PKEY_free(key)
        if taken != 1 or self._lib.SSL_CTX_check_private_key(pointer) != 1:
            self.forget(ec_key)
            raise _refused("the key with this certificate")
        return ec_key

    def _sign(self, ec_key: int | None, digest: int | None, length: int) -> bytes | None:
        signer = self._signers.get(ec_key or 0)
        if signer is None or digest is None:
            return None
        return signer(ctypes.string_at(digest, length))

    def _on_sign(
        self,
        _kind: int,
        digest: int | None,
        length: int,
        signature: int,
        signature_length: Any,  # noqa: ANN401 - a ctypes pointer
        _kinv: int | None,
        _r: int | None,
        ec_key: int | None,
    ) -> int:
        der = self._sign(ec_key, digest, length)
        if der is None or len(der) > self._lib.ECDSA_size(ec_key):
            return 0
        ctypes.memmove(signature, der, len(der))
        signature_length[0] = len(der)
        return 1

    def _on_sign_sig(
        self,
        digest: int | None,
        length: int,
        _kinv: int | None,
        _r: int | None,
        ec_key: int | None,
    ) -> int | None:
        der = self._sign(ec_key, digest, length)
        if der is None:
            return None
        signature: int | None = self._lib.d2i_ECDSA_SIG(None, _cursor(der), len(der))
        return signature


_opening = threading.Lock()


def opened() -> OpenSsl:
    """Return the one :class:`OpenSsl` of this process; the guards run on the first call.

    Raises:
        TlsSeamUnusable: If a guard fails.
    """
    with _opening:
        return _open_once()


@functools.cache
def _open_once() -> OpenSsl:
    return OpenSsl()


def _bind() -> ctypes.CDLL:
    """Look every function up through ``_ssl``'s own dependencies."""
    place = getattr(_ssl, "__file__", None)
    if sys.implementation.name != "cpython" or place is None:
        raise TlsSeamUnusable(
            "this Python's ssl is not a CPython extension module linked to a shared OpenSSL; use "
            "the distribution's Python"
        )
    library = ctypes.CDLL(place)
    everywhere = ctypes.CDLL(None)
    for name, (answer, arguments) in _PROTOTYPES.items():
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise TlsSeamUnusable(
                f"{place} is not linked to a shared OpenSSL 3 that offers {name}; use the "
                "distribution's Python"
            ) from error
        preferred = getattr(everywhere, name, None)
        if preferred is not None and _address(preferred) != _address(function):
            raise TlsSeamUnusable(
                f"{name} is preloaded from another library than the one {place} was linked to; "
                "remove LD_PRELOAD"
            )
        function.restype = answer
        function.argtypes = arguments
    return library


def _require_version(seen: int) -> None:
    """Require that ctypes and ``ssl`` speak of one OpenSSL, and that it is a version 3."""
    if seen != ssl.OPENSSL_VERSION_NUMBER:
        raise TlsSeamUnusable(
            f"OpenSSL 0x{seen:x} was found where ssl uses 0x{ssl.OPENSSL_VERSION_NUMBER:x}"
        )
    if seen >> 28 != _REQUIRED_MAJOR:
        raise TlsSeamUnusable(
            f"{ssl.OPENSSL_VERSION} is not OpenSSL {_REQUIRED_MAJOR}, whose EC_KEY_METHOD is used"
        )


def _require_layout(lib: ctypes.CDLL) -> None:
    """Prove on a scratch context that what we take for its SSL_CTX follows what Python sets."""
    scratch = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    scratch.check_hostname = False
    for mode, flags in (
        (ssl.CERT_NONE, ssl.OP_NO_TICKET),
        (ssl.CERT_REQUIRED, ssl.OP_NO_RENEGOTIATION),
    ):
        for options in (scratch.options | flags, scratch.options & ~flags):
            scratch.options = options
            scratch.verify_mode = mode
            _ssl_ctx(lib, scratch)


def _ssl_ctx(lib: ctypes.CDLL, context: ssl.SSLContext) -> int:
    """Return a context's ``SSL_CTX *`` after comparing it with the Python object.

    The address is read from inside the Python object, and must lie in writable memory before
    anything is read through it, so a wrong guess is refused and never followed.
    """
    header = object.__basicsize__
    if ssl.SSLContext.__basicsize__ < header + ctypes.sizeof(c_void_p):
        raise _layout_differs("the object is too small")
    pointer = c_void_p.from_address(id(context) + header).value
    if pointer is None or not _is_writable(pointer, _READ_BYTES):
        raise _layout_differs("no pointer is where the SSL_CTX should be")
    seen = (int(lib.SSL_CTX_get_options(pointer)), int(lib.SSL_CTX_get_verify_mode(pointer)))
    wanted = (int(context.options), int(context.verify_mode != ssl.CERT_NONE))
    if (seen[0] ^ wanted[0]) & 0xFFFFFFFF or seen[1] & 1 != wanted[1]:
        raise _layout_differs("its options and verify mode are not those of the context")
    return pointer


def _is_writable(address: int, size: int) -> bool:
    try:
        maps = Path("/proc/self/maps").read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise TlsSeamUnusable(f"/proc/self/maps cannot be read: {error.strerror}") from error
    end = address + size
    for line in maps.splitlines():
        bounds, rights, *_ = line.split()
        first, _, last = bounds.partition("-")
        if rights.startswith("rw") and int(first, 16) <= address and end <= int(last, 16):
            return True
    return False


def _address(function: Any) -> int | None:  # noqa: ANN401 - a ctypes function
    return ctypes.cast(function, c_void_p).value


def _cursor(der: bytes) -> Any:  # noqa: ANN401 - a ctypes pointer
    """Return the ``const unsigned char **`` that d2i functions advance; it keeps ``der`` alive."""
    return ctypes.byref(c_char_p(der))


def _layout_differs(what: str) -> TlsSeamUnusable:
    return TlsSeamUnusable(
        f"the inside of ssl.SSLContext in Python {sys.version.split()[0]} is not as expected "
        f"({what}); use a CPython 3.11 to 3.13 of the distribution"
    )


def _refused(what: str) -> TlsSeamUnusable:
    return TlsSeamUnusable(f"{ssl.OPENSSL_VERSION} refused {what}")
