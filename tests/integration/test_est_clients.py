"""EST with clients that nobody here wrote: curl and openssl by hand, and strongSwan's ``pki``.

What needs a TPM, the attestation in a request, is made by our library; everything else, from TLS to
the reading of answers, is theirs.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from attestation.wire.est import PATH, encode_body
from attestation.wire.media_types import EST_NONCE
from device_agent.ports import KeyRole
from tests.simulators.est import (
    Curl,
    authorities,
    challenge_of,
    csr_of,
    current_names,
    enrol,
    issued,
    verified_by_openssl,
)
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import SiteDevice, VerifierSite, pem

pytestmark = pytest.mark.system
_SERIALS = itertools.count(1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerifierSite]:
    with VerifierSite(tmp_path_factory.mktemp("site"), SoftManufacturer()) as running:
        yield running


@pytest.fixture
def curl(site: VerifierSite, tmp_path: Path) -> Curl:
    return Curl(site, tmp_path)


@pytest.fixture
def device(site: VerifierSite) -> SiteDevice:
    return site.device(f"CURL-{next(_SERIALS):04}")


@pytest.fixture
def renewing(device: SiteDevice) -> SiteDevice:
    """A device that has enrolled by EST."""
    device.chain_pem = issued(enrol(device)).public_bytes(Encoding.PEM)
    return device


def test_curl_and_openssl_enrol_with_a_manufacturers_identity(
    curl: Curl, device: SiteDevice
) -> None:
    me = curl.as_idevid(device)
    status, content_type, given = me.run(f"{PATH}/nonce")
    assert (status, content_type) == (200, EST_NONCE)
    document = json.loads(given)
    challenge = {
        "nonce": document["nonce"],
        "pcr_selection": document["respTypeInfo"]["respInfo"],
    }
    csr = csr_of(device, device.enrolment_request(challenge))
    said = curl.openssl("req", "-inform", "DER", "-noout", "-verify", "-pubkey", given=csr)

    status, content_type, body = me.send(f"{PATH}/simpleenroll", encode_body(csr))

    assert (status, content_type) == (200, "application/pkcs7-mime; smime-type=certs-only")
    leaf = curl.certificates(body)
    assert leaf.count("BEGIN CERTIFICATE") == 1
    verified_by_openssl(curl, leaf)
    assert curl.openssl("x509", "-noout", "-pubkey", given=leaf.encode()) in said


def test_curl_renews_over_the_certificate_that_it_was_given(
    curl: Curl, renewing: SiteDevice
) -> None:
    me = curl.identify(renewing.chain_pem, renewing.tpm.keys[KeyRole.LDEVID].private)
    request = renewing.enrolment_request(challenge_of(renewing.new_client()))
    csr = csr_of(renewing, request, current_names(renewing))

    status, _, body = me.send(f"{PATH}/simplereenroll", encode_body(csr))

    assert status == 200
    verified_by_openssl(curl, curl.certificates(body))


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_both_versions_of_tls_do(curl: Curl, device: SiteDevice, version: str) -> None:
    status, _, _ = curl.as_idevid(device).run(
        f"{PATH}/nonce", f"--tlsv{version}", "--tls-max", version
    )

    assert status == 200


def test_openssl_reads_what_a_request_should_hold(curl: Curl) -> None:
    status, content_type, body = curl.run(f"{PATH}/csrattrs")

    assert (status, content_type) == (200, "application/csrattrs")
    der = curl.openssl("base64", "-d", "-A", "-out", str(curl.folder / "attrs.der"), given=body)
    assert der == ""
    seen = curl.openssl("asn1parse", "-inform", "DER", "-in", str(curl.folder / "attrs.der"))
    for part in (
        *(":id-ecPublicKey", ":prime256v1", ":ecdsa-with-SHA256", ":2.23.133.20.1"),
        *(":1.2.840.113549.1.9.16.2.59", ":1.3.6.1.5.5.7.1.35", "UTF8STRING", ":evidence"),
    ):
        assert part in seen


def test_request_of_openssl_alone_is_told_everything_that_is_missing(
    curl: Curl, device: SiteDevice
) -> None:
    key, request = curl.folder / "key.pem", curl.folder / "request.der"
    curl.openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", str(key))
    curl.openssl(
        *("req", "-new", "-key", str(key), "-subj", "/CN=device"),
        *("-outform", "DER", "-out", str(request)),
    )

    status, content_type, body = curl.as_idevid(device).send(
        f"{PATH}/simpleenroll", encode_body(request.read_bytes())
    )

    problem = json.loads(body)
    assert (status, content_type) == (403, "application/problem+json")
    assert problem["code"] == "proofs-missing"
    assert problem["missing"] == ["residency", "evidence"]


def test_curl_without_a_certificate_is_told_so(curl: Curl) -> None:
    status, _, body = curl.send(f"{PATH}/simpleenroll", b"AAAA")

    assert (status, json.loads(body)["code"]) == (401, "client-certificate-required")


def test_curl_of_a_foreign_makers_device_fails_in_the_handshake(
    curl: Curl, device: SiteDevice
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    der = SoftManufacturer("Foreign").issue(KeyRole.IDEVID, key.public_key(), "SN-9")

    with pytest.raises(AssertionError, match=r"curl: \((35|52|56)\)"):
        curl.identify(pem(der), key).run(f"{PATH}/nonce")
    assert curl.as_idevid(device).run(f"{PATH}/nonce")[0] == 200


# --- strongSwan ------------------------------------------------------------------------------


def pki(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["pki", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_strongswan_fetches_the_cas(site: VerifierSite, curl: Curl) -> None:
    out = curl.folder / "ca"

    done = pki(
        *("--estca", "--url", f"https://localhost:{site.port}"),
        *("--cacert", str(site.service_ca), "--caout", str(out), "--outform", "pem"),
    )

    assert done.returncode == 0, done.stderr
    root, between = authorities(curl)
    written = [path.read_text() for path in (out.with_suffix(".pem"), curl.folder / "ca-1.pem")]
    assert [one.strip() for one in written] == [
        path.read_text().strip() for path in (root, between)
    ]


def test_strongswan_renews_with_an_attested_request(
    site: VerifierSite, curl: Curl, renewing: SiteDevice
) -> None:
    key, certificate, csr = (curl.folder / name for name in ("key.pem", "old.pem", "csr.der"))
    private = renewing.tpm.keys[KeyRole.LDEVID].private
    key.write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    certificate.write_bytes(renewing.chain_pem)
    request = renewing.enrolment_request(challenge_of(renewing.new_client()))
    csr.write_bytes(csr_of(renewing, request, current_names(renewing)))
    root, between = authorities(curl)

    done = pki(
        *("--est", "--url", f"https://localhost:{site.port}", "--in", str(csr)),
        *("--cacert", str(site.service_ca), "--cacert", str(root), "--cacert", str(between)),
        *("--cert", str(certificate), "--key", str(key), "--outform", "pem"),
    )

    assert done.returncode == 0, done.stderr
    assert "Issued certificate is trusted" in done.stderr
    verified_by_openssl(curl, done.stdout)


def test_strongswan_without_a_certificate_is_refused(
    site: VerifierSite, curl: Curl, device: SiteDevice
) -> None:
    device.tpm.create_ldevid()
    csr = curl.folder / "csr.der"
    csr.write_bytes(device.tpm.csr(KeyRole.LDEVID, "device", ()))

    done = pki(
        *("--est", "--url", f"https://localhost:{site.port}", "--in", str(csr)),
        *("--cacert", str(site.service_ca)),
    )

    assert done.returncode != 0
    assert "HTTP 401" in done.stderr
