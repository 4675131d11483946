"""A thousand enrolments at once, impostors among them, and a verifier that is killed meanwhile."""

from __future__ import annotations

import http.client
import signal
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from attestation.wire.enrolment_codec import encode_enrolment
from attestation.wire.media_types import ENROLMENT
from tests.simulators.postgres import Postgres, postgres
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_process import Service
from tests.simulators.verifier_site import SiteDevice, VerifierSite
from verifier.cli.audit import run_audit
from verifier.store.sql_store import SqlStore

__all__ = ["postgres"]
pytestmark = pytest.mark.system

AT_ONCE = 1_000
IMPOSTORS = 100
"""Devices of the same maker under another's serial, with keys of their own."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_thousand_enrolments_at_once_make_no_identity_twice(
    tmp_path: Path, database: str, postgres: Postgres
) -> None:
    """N13: of everybody who claims one identity, one gets it, and an operator hears of the rest."""
    store = postgres.new_database() if database == "postgresql" else ""
    with VerifierSite(tmp_path, SoftManufacturer(), store=store) as site:
        fleet = [site.device(f"SN-{number:04d}") for number in range(AT_ONCE - IMPOSTORS)]
        fleet += [site.device(f"SN-{number:04d}") for number in range(IMPOSTORS)]
        answers = at_once(fleet)
        opened = site.running.store

        told = Counter((status, body.get("code", "")) for status, body in answers)
        accepted = [body for status, body in answers if status == 201]
        assert len(accepted) == AT_ONCE - IMPOSTORS, told
        assert {body["device_id"] for body in accepted} == {
            f"sn-{number:04d}" for number in range(AT_ONCE - IMPOSTORS)
        }
        assert {key for key in told if key[0] != 201} <= {
            (409, "device-id-taken"),
            (409, "conflict"),
        }
        require_sound(opened)
        certificates = everything(opened)
        assert len(certificates) == AT_ONCE - IMPOSTORS
        refused_by_id = told[(409, "device-id-taken")]
        alarms = opened.alarms(limit=AT_ONCE)
        assert len(alarms) == refused_by_id
        assert {alarm.code for alarm in alarms} <= {"device-id-taken"}


def at_once(fleet: Sequence[SiteDevice]) -> list[tuple[int, dict[str, Any]]]:
    """Connect and prepare everybody, then send all requests in one moment."""
    ready = threading.Barrier(len(fleet))

    def enrol(device: SiteDevice) -> tuple[int, dict[str, Any]]:
        client = device.idevid_client()
        client.connection.timeout = 240
        challenge = client.post("/enrol/v1/challenges").json
        message = encode_enrolment(device.enrolment_request(challenge))
        ready.wait(200)
        answer = client.post("/enrol/v1/requests", message, ENROLMENT)
        return answer.status, answer.json

    with ThreadPoolExecutor(len(fleet)) as pool:
        return list(pool.map(enrol, fleet))


def everything(store: SqlStore) -> list[str]:
    """Every serial number that was given."""
    found: list[str] = []
    after = 0
    while page := store.certificates(after=after, limit=1000):
        found += [f"{one.certificate.serial:x}" for one in page]
        after = page[-1].number
    assert len(found) == len(set(found))
    return found


def require_sound(store: SqlStore) -> None:
    """The issuance log holds, and tells of every certificate."""
    found = run_audit(store, None, tell=iter(()))
    assert found.faults == []
    assert found.issued == len(everything(store))


@pytest.mark.timeout(180)
def test_killed_in_mid_issuance_nothing_is_lost_and_no_serial_given_twice(tmp_path: Path) -> None:
    """kill -9 again and again while devices enrol: whoever holds a certificate is on record."""
    service = Service(VerifierSite(tmp_path / "site", SoftManufacturer()))
    fleet = [service.site.device(f"SN-{number:04d}") for number in range(40)]
    holding: dict[str, bytes] = {}
    for number in range(6):
        service.start()
        killer = threading.Timer(0.1 + 0.1 * number, service.end, (signal.SIGKILL,))
        killer.start()
        enrol_while_it_lives([one for one in fleet if one.tpm.serial not in holding], holding)
        killer.join()
    killed_with = len(holding)
    service.start()
    enrol_while_it_lives([one for one in fleet if one.tpm.serial not in holding], holding)
    service.end(signal.SIGTERM)

    store = service.store()
    require_sound(store)
    on_record = set(everything(store))
    assert len(holding) == len(fleet)
    assert {serial_of(chain) for chain in holding.values()} <= on_record
    assert killed_with > 0
    store.close()


def enrol_while_it_lives(fleet: Sequence[SiteDevice], holding: dict[str, bytes]) -> None:
    """Enrol four at a time; note whoever was answered with a certificate."""

    def enrol(device: SiteDevice) -> None:
        try:
            answer = device.enrol()
        except (OSError, http.client.HTTPException):
            return
        assert answer.status == 201, answer.body
        holding[device.tpm.serial] = device.chain_pem

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(enrol, fleet))


def serial_of(chain: bytes) -> str:
    return f"{x509.load_pem_x509_certificate(chain).serial_number:x}"
