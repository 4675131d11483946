"""The TLS seam with software keys: every guard, every refusal, and who frees what when."""

from __future__ import annotations

import datetime as dt
import functools
import gc
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.refusals import RefusalCode
from device_agent.errors import CertificateUnusable, TlsSeamUnusable, TpmBusy
from device_agent.tpm import openssl
from device_agent.tpm.tls import self_test, signing_failure, use_tpm_key

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def make_certificate(
    name: str,
    key: PrivateKey,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None,
    *,
    authority: bool = False,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signer = issuer[1] if issuer else key
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime(2000, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(9999, 12, 31, tzinfo=dt.UTC))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )


def spki(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def in_software(key: ec.EllipticCurvePrivateKey, digest: bytes) -> bytes:
    algorithm = {32: hashes.SHA256(), 48: hashes.SHA384(), 64: hashes.SHA512()}[len(digest)]
    return key.sign(digest, ec.ECDSA(Prehashed(algorithm)))


def pem(*certificates: x509.Certificate) -> str:
    return "".join(c.public_bytes(Encoding.PEM).decode() for c in certificates)


class Site:
    """A CA with an issuing CA below it, a server and a client, both through the seam."""

    def __init__(self) -> None:
        root_key, self.issuer_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self.root = make_certificate("root", root_key, authority=True)
        self.issuer = make_certificate(
            "issuing", self.issuer_key, (self.root, root_key), authority=True
        )

    def leaf(self, name: str, key: PrivateKey) -> x509.Certificate:
        return make_certificate(name, key, (self.issuer, self.issuer_key))

    def context(
        self, protocol: int, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = context.maximum_version = version
        context.load_verify_locations(cadata=self.root.public_bytes(Encoding.DER))
        return context

    def dressed(
        self,
        protocol: int,
        key: ec.EllipticCurvePrivateKey,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        sign: Callable[[bytes], bytes] | None = None,
    ) -> tuple[ssl.SSLContext, x509.Certificate]:
        context = self.context(protocol, version)
        leaf = self.leaf("leaf", key)
        use_tpm_key(
            context,
            certificate_chain_pem=pem(leaf, self.issuer),
            spki_der=spki(key),
            sign_digest=sign or functools.partial(in_software, key),
        )
        return context, leaf


@pytest.fixture(scope="module")
def site() -> Site:
    return Site()


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def shake(client_side: ssl.SSLContext, server_side: ssl.SSLContext) -> ssl.SSLObject:
    """Shake hands in memory; returns the server's side. Each error is raised as it comes."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return server


def test_the_self_test_passes_here() -> None:
    self_test()


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_server_sees_the_leaf_and_is_given_its_issuer(
    site: Site, version: ssl.TLSVersion, curve: ec.EllipticCurve
) -> None:
    own = ec.generate_private_key(curve)
    client, leaf = site.dressed(ssl.PROTOCOL_TLS_CLIENT, own, version)
    server, _ = site.dressed(ssl.PROTOCOL_TLS_SERVER, ec.generate_private_key(curve), version)
    connection = shake(client, server)  # the server trusts the root only: the issuer must be sent
    assert connection.getpeercert(binary_form=True) == leaf.public_bytes(Encoding.DER)
    assert connection.version() == version.name.replace("v1_", "v1.")
    assert signing_failure(client) is None


def test_a_renewed_certificate_replaces_the_first(
    site: Site, key: ec.EllipticCurvePrivateKey
) -> None:
    client, first = site.dressed(ssl.PROTOCOL_TLS_CLIENT, key)
    server, _ = site.dressed(ssl.PROTOCOL_TLS_SERVER, key)
    fresh = ec.generate_private_key(ec.SECP256R1())
    renewed = site.leaf("leaf", fresh)
    use_tpm_key(
        client,
        certificate_chain_pem=pem(renewed, site.issuer).encode(),
        spki_der=spki(fresh),
        sign_digest=functools.partial(in_software, fresh),
    )
    seen = shake(client, server).getpeercert(binary_form=True)
    assert seen == renewed.public_bytes(Encoding.DER) != first.public_bytes(Encoding.DER)


def test_a_certificate_for_another_key_is_refused(
    site: Site, key: ec.EllipticCurvePrivateKey
) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(CertificateUnusable, match="another key") as refused:
        use_tpm_key(
            site.context(ssl.PROTOCOL_TLS_CLIENT),
            certificate_chain_pem=pem(site.leaf("leaf", other)),
            spki_der=spki(key),
            sign_digest=functools.partial(in_software, key),
        )
    assert refused.value.code is RefusalCode.CERTIFICATE_KEY_MISMATCH


@pytest.mark.parametrize(
    "chain", ["", "no pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_a_chain_that_is_no_certificate_is_refused(
    site: Site, key: ec.EllipticCurvePrivateKey, chain: str
) -> None:
    with pytest.raises(CertificateUnusable) as refused:
        use_tpm_key(
            site.context(ssl.PROTOCOL_TLS_CLIENT),
            certificate_chain_pem=chain,
            spki_der=spki(key),
            sign_digest=functools.partial(in_software, key),
        )
    assert refused.value.code is RefusalCode.CERTIFICATE_MALFORMED


@pytest.mark.parametrize(
    ("known", "unknown"),
    [("2a8648ce3d030107", "2a8648ce3d030177"), ("06072a8648ce3d0201", "06072a8648ce3d0277")],
    ids=["curve", "kind of key"],
)
def test_a_certificate_whose_key_nobody_knows_is_refused(
    site: Site, key: ec.EllipticCurvePrivateKey, known: str, unknown: str
) -> None:
    """A verifier that sends one must not end the daemon."""
    der = site.leaf("leaf", key).public_bytes(Encoding.DER)
    strange = der.replace(bytes.fromhex(known), bytes.fromhex(unknown))
    with pytest.raises(CertificateUnusable) as refused:
        use_tpm_key(
            site.context(ssl.PROTOCOL_TLS_CLIENT),
            certificate_chain_pem=ssl.DER_cert_to_PEM_cert(strange),
            spki_der=spki(key),
            sign_digest=functools.partial(in_software, key),
        )
    assert refused.value.code is RefusalCode.CERTIFICATE_MALFORMED


def test_a_chain_without_end_is_refused(site: Site, key: ec.EllipticCurvePrivateKey) -> None:
    with pytest.raises(CertificateUnusable, match="7 certificates, at most 6"):
        use_tpm_key(
            site.context(ssl.PROTOCOL_TLS_CLIENT),
            certificate_chain_pem=pem(site.leaf("leaf", key), *[site.issuer] * 6),
            spki_der=spki(key),
            sign_digest=functools.partial(in_software, key),
        )


def test_a_key_that_is_not_on_a_curve_is_refused(site: Site) -> None:
    rsa_key = rsa.generate_private_key(65537, 2048)
    for spki_der, words in (
        (spki(rsa_key), "elliptic curve"),
        (b"\x30\x00", "SubjectPublicKeyInfo"),
    ):
        with pytest.raises(TlsSeamUnusable, match=words) as refused:
            use_tpm_key(
                site.context(ssl.PROTOCOL_TLS_CLIENT),
                certificate_chain_pem=pem(site.leaf("leaf", rsa_key)),
                spki_der=spki_der,
                sign_digest=lambda digest: digest,
            )
        assert refused.value.code is RefusalCode.TLS_SEAM_UNUSABLE


def _busy(_digest: bytes) -> bytes:
    raise TpmBusy("try again later")


def _interrupted(_digest: bytes) -> bytes:
    raise KeyboardInterrupt


def _broken(_digest: bytes) -> bytes:
    raise ZeroDivisionError


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("sign", "kind", "cause"),
    [
        (_busy, TpmBusy, type(None)),
        (_broken, TlsSeamUnusable, ZeroDivisionError),
        (_interrupted, TlsSeamUnusable, KeyboardInterrupt),
    ],
)
def test_a_signature_that_fails_fails_the_handshake_and_says_why(
    site: Site,
    key: ec.EllipticCurvePrivateKey,
    version: ssl.TLSVersion,
    sign: Callable[[bytes], bytes],
    kind: type[Exception],
    cause: type[BaseException],
    capfd: pytest.CaptureFixture[str],
) -> None:
    client, _ = site.dressed(ssl.PROTOCOL_TLS_CLIENT, key, version, sign)
    server, _ = site.dressed(ssl.PROTOCOL_TLS_SERVER, key, version)
    with pytest.raises(ssl.SSLError):
        shake(client, server)
    failure = signing_failure(client)
    assert type(failure) is kind
    assert failure is not None
    assert isinstance(failure.__cause__, cause)
    assert signing_failure(server) is None
    assert capfd.readouterr() == ("", "")
    again, _ = site.dressed(ssl.PROTOCOL_TLS_CLIENT, key, version)
    shake(again, server)  # no error is left in OpenSSL's queue


def test_a_signature_that_succeeds_clears_the_failure_before(
    site: Site, key: ec.EllipticCurvePrivateKey
) -> None:
    answers: Iterator[Callable[[bytes], bytes]] = iter([_busy, functools.partial(in_software, key)])

    def sign(digest: bytes) -> bytes:
        return next(answers)(digest)

    client, _ = site.dressed(ssl.PROTOCOL_TLS_CLIENT, key, sign=sign)
    server, _ = site.dressed(ssl.PROTOCOL_TLS_SERVER, key)
    with pytest.raises(ssl.SSLError):
        shake(client, server)
    assert signing_failure(client) is not None
    shake(client, server)
    assert signing_failure(client) is None


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [0, 73, 4096])
def test_a_signature_of_the_wrong_size_never_leaves_its_buffer(
    site: Site, key: ec.EllipticCurvePrivateKey, version: ssl.TLSVersion, size: int
) -> None:
    client, _ = site.dressed(ssl.PROTOCOL_TLS_CLIENT, key, version, lambda _: b"\x30" * size)
    server, _ = site.dressed(ssl.PROTOCOL_TLS_SERVER, key, version)
    with pytest.raises(ssl.SSLError):
        shake(client, server)


def test_a_signature_by_another_key_is_refused_by_the_server(
    site: Site, key: ec.EllipticCurvePrivateKey
) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    client, _ = site.dressed(
        ssl.PROTOCOL_TLS_CLIENT, key, sign=functools.partial(in_software, other)
    )
    server, _ = site.dressed(ssl.PROTOCOL_TLS_SERVER, key)
    with pytest.raises(ssl.SSLError, match=r"(?i)signature"):
        shake(client, server)


def test_signers_go_with_their_contexts_and_not_before(
    site: Site, key: ec.EllipticCurvePrivateKey
) -> None:
    signers = openssl.opened()._signers
    gc.collect()
    before = len(signers)
    server, _ = site.dressed(ssl.PROTOCOL_TLS_SERVER, key)
    for _ in range(20):
        client, _ = site.dressed(ssl.PROTOCOL_TLS_CLIENT, key)
        shake(client, server)
        del client
        gc.collect()
    assert len(signers) == before + 1
    connection = shake(site.dressed(ssl.PROTOCOL_TLS_CLIENT, key)[0], server)
    del server
    gc.collect()
    assert len(signers) == before + 1  # the connection still holds its context
    del connection
    gc.collect()
    assert len(signers) == before


class ShiftedOpenSsl:
    """Answers as OpenSSL would about some other SSL_CTX."""

    def __init__(self, options: int, mode: int) -> None:
        self._options, self._mode = options, mode

    def SSL_CTX_get_options(self, _pointer: int) -> int:  # noqa: N802 - OpenSSL's name
        return self._options

    def SSL_CTX_get_verify_mode(self, _pointer: int) -> int:  # noqa: N802
        return self._mode


@pytest.mark.parametrize("wrong", ["options", "mode"])
def test_a_layout_that_does_not_follow_the_context_is_refused(wrong: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    options = int(context.options) ^ (wrong == "options") * int(ssl.OP_NO_TICKET)
    mode = int(wrong != "mode")
    with pytest.raises(TlsSeamUnusable, match="options and verify mode"):
        openssl._ssl_ctx(ShiftedOpenSsl(options, mode), context)  # type: ignore[arg-type]
    assert openssl._ssl_ctx(ShiftedOpenSsl(int(context.options), 1), context)  # type: ignore[arg-type]
    with pytest.raises(TlsSeamUnusable, match="options and verify mode"):
        openssl._require_layout(ShiftedOpenSsl(int(context.options), 1))  # type: ignore[arg-type]


def test_an_address_is_followed_only_into_writable_memory() -> None:
    own = bytearray(8192)
    assert openssl._is_writable(id(own), 16)
    for address in (0, 8, 0x1000, 2**47 - 4096, 2**63):
        assert not openssl._is_writable(address, 16)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (0x10101000, "was found where ssl uses"),
        (ssl.OPENSSL_VERSION_NUMBER ^ 0x10, "was found where ssl uses"),
    ],
)
def test_another_openssl_than_the_one_of_ssl_is_refused(version: int, words: str) -> None:
    with pytest.raises(TlsSeamUnusable, match=words):
        openssl._require_version(version)
    openssl._require_version(ssl.OPENSSL_VERSION_NUMBER)


def test_a_preloaded_copy_is_noticed_before_it_is_called(tmp_path: Path) -> None:
    system = next(
        line.split()[-1]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "libssl.so" in line
    )
    copy = tmp_path / "another.so"  # under another name, so that _ssl keeps its own beside it
    copy.write_bytes(Path(system).read_bytes().replace(b"libssl.so.3\0", b"libxxx.so.3\0"))
    program = "from device_agent.tpm.tls import self_test; self_test()"
    for preload, outcome in ((str(copy), 1), ("", 0)):
        ended = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "LD_PRELOAD": preload},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == outcome, ended.stderr
        assert ("remove LD_PRELOAD" in ended.stderr) is bool(outcome)


def test_what_openssl_refuses_is_reported_and_leaves_no_error_behind(
    site: Site, key: ec.EllipticCurvePrivateKey
) -> None:
    before = len(openssl.opened()._signers)
    strict = site.context(ssl.PROTOCOL_TLS_CLIENT)
    strict.set_ciphers("DEFAULT:@SECLEVEL=5")  # wants 256-bit strength: P-521
    with pytest.raises(TlsSeamUnusable, match="refused a certificate of the chain"):
        use_tpm_key(
            strict,
            certificate_chain_pem=pem(site.leaf("leaf", key)),
            spki_der=spki(key),
            sign_digest=functools.partial(in_software, key),
        )
    assert openssl.opened()._lib.ERR_peek_error() == 0
    assert len(openssl.opened()._signers) == before
