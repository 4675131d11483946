"""A running verifier whose authority changes under it: devices of the old and the new CA go on."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from attestation.wire.est import PATH, decode_body, read_certs_only
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import SiteDevice, VerifierSite
from verifier.issuance.publication import issuer_id
from verifier.keys.ca_keys import PASSPHRASE_FILE, CaKeys
from verifier.keys.ceremony import Ceremony
from verifier.keys.offline_root import OFFLINE_ROOT, make_root, open_root
from verifier.keys.register import CaState, certified_key_id, load_register
from verifier.main import AUTHORITY_S
from verifier.services.devices import Devices
from verifier.sources import SystemEntropy


@pytest.fixture
def site(tmp_path: Path) -> VerifierSite:
    return VerifierSite(tmp_path / "site", SoftManufacturer())


def ceremony(site: VerifierSite) -> Ceremony:
    directory, settings = site.folder / "keys", site.settings.authority
    return Ceremony(directory, settings, CaKeys(directory, settings, {}), SystemEntropy())


def issuer_of(device: SiteDevice) -> x509.Certificate:
    leaf, issuer = x509.load_pem_x509_certificates(device.chain_pem)
    leaf.verify_directly_issued_by(issuer)
    return issuer


def test_metrics_tell_when_the_servers_own_certificate_ends(site: VerifierSite) -> None:
    with site:
        text = site.client(token=site.token()).get("/metrics").body.decode()
    certificate = x509.load_pem_x509_certificate((site.folder / "keys/tls.cert.pem").read_bytes())

    (told,) = [
        float(line.split()[1])
        for line in text.splitlines()
        if line.startswith("tls_certificate_not_after_seconds ")
    ]
    assert told == certificate.not_valid_after_utc.timestamp()


def ends(site: VerifierSite, state: str) -> list[str]:
    text = site.client(token=site.token("reader", f"m-{time.monotonic()}")).get("/metrics").body
    return [
        line
        for line in text.decode().splitlines()
        if line.startswith("authority_not_after_seconds") and f'state="{state}"' in line
    ]


def test_devices_of_the_old_and_the_new_ca_attest_after_a_rotation(site: VerifierSite) -> None:
    with site:
        old = site.device("SN-0001")
        assert old.enrol().status == 201

        root = open_root(site.folder / "keys" / OFFLINE_ROOT, None)
        ceremony(site).rotate(root, "fleet", datetime.now(UTC))
        new = site.device("SN-0002")
        assert new.enrol().status == 201

        assert issuer_of(old) != issuer_of(new)
        assert issuer_of(old).issuer == issuer_of(new).issuer
        for device in (old, new):
            device._client = None  # a new handshake
            assert device.attest().status == 200
        assert old.enrol().status == 201
        assert issuer_of(old) == issuer_of(new)
        time.sleep(2 * AUTHORITY_S)
        assert [len(ends(site, state)) for state in ("root", "current", "retired")] == [1, 1, 1]


def test_replica_that_issued_nothing_takes_devices_below_a_new_root(site: VerifierSite) -> None:
    replica = site.replica()
    with site, replica:
        medium = site.folder / "medium"
        root = make_root(medium, "next", None, at=datetime.now(UTC), entropy=SystemEntropy())
        ceremony(site).trust(root.certificate, datetime.now(UTC))
        ceremony(site).rotate(root, "next", datetime.now(UTC))
        device = site.device()
        assert device.enrol().status == 201
        assert issuer_of(device).issuer == root.certificate.subject
        time.sleep(2 * AUTHORITY_S)

        device.site = replica
        device._client = None

        assert device.attest().status == 200


def test_est_hands_out_no_ca_that_is_distrusted(site: VerifierSite) -> None:
    with site:
        device = site.device()
        assert device.enrol().status == 201
        stolen, now = issuer_of(device), datetime.now(UTC)
        assert stolen in handed_out(site)

        ceremony(site).distrust(certified_key_id(stolen), now)
        ceremony(site).rotate(open_root(site.folder / "keys" / OFFLINE_ROOT, None), "fleet", now)

        assert stolen not in handed_out(site)
        assert len(handed_out(site)) == 2


def handed_out(site: VerifierSite) -> tuple[x509.Certificate, ...]:
    return read_certs_only(decode_body(site.client().get(f"{PATH}/cacerts").body))


def test_verifier_whose_key_cannot_be_used_any_more_says_so_and_goes_on_attesting(
    site: VerifierSite,
) -> None:
    with site:
        device = site.device()
        assert device.enrol().status == 201
        keys = site.folder / "keys"
        root = open_root(keys / OFFLINE_ROOT, None)
        ceremony(site).rotate(root, "fleet", datetime.now(UTC))
        (keys / PASSPHRASE_FILE).write_text("a passphrase that opens nothing")

        ready = site.client().get("/health/ready")
        refused = site.device("SN-0002").idevid_client().post("/enrol/v1/challenges")

        assert ready.status == 503
        assert "ca-passphrase-wrong" in ready.body.decode()
        assert "/keys/" not in ready.body.decode()
        assert (refused.status, refused.json["code"]) == (503, "ca-passphrase-wrong")
        assert "passphrase" not in refused.json["detail"]
        assert device.attest().status == 200


def test_retired_ca_whose_key_is_lost_is_checked_by_its_last_list_while_that_tells_all(
    site: VerifierSite,
) -> None:
    with site:
        device, keys = site.device(), site.folder / "keys"
        assert device.enrol().status == 201
        retired, anybody = issuer_of(device), site.client()
        name = issuer_id(retired)
        before = anybody.get(f"/pki/v1/crl/{name}.crl")
        (old,) = load_register(keys).in_state(CaState.CURRENT)
        ceremony(site).rotate(open_root(keys / OFFLINE_ROOT, None), "fleet", datetime.now(UTC))
        (keys / old.key.name).unlink()

        last = anybody.get(f"/pki/v1/crl/{name}.crl")
        assert (last.status, last.body) == (200, before.body)
        certificate = anybody.get(f"/pki/v1/ca/{name}.cer")
        assert x509.load_der_x509_certificate(certificate.body) == retired

        Devices(site.running.store).revoke(device.device_id, "stolen", datetime.now(UTC))
        lacking = anybody.get(f"/pki/v1/crl/{name}.crl")

    assert (lacking.status, lacking.json["code"]) == (503, "keys-unusable")
