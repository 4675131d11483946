"""EST with keys in a (software) TPM: IDevID on mutual TLS, attested CSR, an LDevID that attests."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from attestation.errors import MalformedInput
from attestation.logs.event_types import EventType
from attestation.logs.tcg import parse_firmware_log
from deploy.demo.swtpm import SoftwareTpm
from device_agent.cli import main
from device_agent.errors import SettingsInvalid, VerifierRefused
from device_agent.loop import Clock, DaemonLoop
from device_agent.main import LdevidIdentity, Parts, assemble, pacing_of
from device_agent.once import attest_now, enrol_now
from device_agent.ports import LDEVID_SLOTS
from device_agent.settings import Settings, parse_settings
from device_agent.state.files import StateFile
from device_agent.tpm.adapter import EsapiTpm
from device_agent.transport.est import EstEnroller
from tests.device_agent.test_loop import Journal, Notes
from tests.simulators.swtpm import Manufactured
from tests.simulators.verifier_site import VerifierSite, boot_log

pytestmark = pytest.mark.tpm

NONCE_INFO = {
    "type": "2.25.97902326604244196390911651353718885732.100.2",
    "respInfo": "sha256:0,1,2,3,4,5,6,7,8,9,14",
}
BY_EST = '[enrolment]\ndoor = "est"\nest_label = "edge"\n'

POLICY = """
id = "tpm"
[[device]]
class = "edge"
match.labels = ["edge", "-"]
initial_trust = "idevid"
proofs = ["pop", "residency", "evidence"]
"""


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, manufactured: Manufactured
) -> Iterator[VerifierSite]:
    folder = tmp_path_factory.mktemp("est")
    (folder / "enrolment.toml").write_text(POLICY)
    with VerifierSite(
        folder / "site",
        manufactured.manufacturer,
        extra=f'enrolment = "{folder}/enrolment.toml"\n',
    ) as running:
        yield running


@pytest.fixture
def config(site: VerifierSite, manufactured_swtpm: SoftwareTpm, tmp_path: Path) -> Path:
    """Settings of a machine that has booted as its log says."""
    log = boot_log()
    (tmp_path / "log").write_bytes(log)
    for event in parse_firmware_log(log).events:
        if event.type != EventType.NO_ACTION:
            manufactured_swtpm.extend(event.pcr, dict(event.digests))
    path = tmp_path / "device-agent.toml"
    path.write_text(
        f"""
[tpm]
tcti = "{manufactured_swtpm.tcti}"
[verifier]
url = "https://localhost:{site.port}"
ca_file = "{site.service_ca}"
[evidence]
firmware_log = "{tmp_path}/log"
ima_list = ""
[state]
directory = "{tmp_path}/state"
"""
    )
    (tmp_path / "state").mkdir(mode=0o700)
    return path


@pytest.fixture
def parts(config: Path) -> Iterator[Parts]:
    settings = parse_settings(config.read_text(), str(config), {})
    tpm = EsapiTpm(settings.tpm.tcti)
    yield assemble(settings, tpm)
    tpm.close()


def by_est(parts: Parts, label: str = "") -> EstEnroller:
    return EstEnroller(parts.verifier, parts.sources.tpm, label)


@pytest.mark.parametrize("label", ["", "edge"])
def test_device_enrols_by_est_and_attests_with_what_it_was_given(
    site: VerifierSite, parts: Parts, label: str
) -> None:
    credential = enrol_now(parts, by_est(parts, label))

    assert attest_now(parts).status in {"affirming", "warning"}
    leaf, issuer = x509.load_pem_x509_certificates(credential.certificate_chain_pem.encode())
    leaf.verify_directly_issued_by(issuer)
    record = site.running.store.device(credential.device_id)  # type: ignore[arg-type]
    assert record is not None
    assert record.enrolment.device_class == "edge"


def test_command_enrols_by_est(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(config), "enrol", "--est", "--label", "edge", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["device_id"] == "sim-0001"

    main(["--config", str(config), "attest", "--json"])
    assert '"status": "warning"' in capsys.readouterr().out


def test_refusal_of_est_is_told_with_its_code(parts: Parts) -> None:
    with pytest.raises(VerifierRefused) as refused:
        enrol_now(parts, by_est(parts, "nowhere"))

    assert refused.value.code == "est-label-unknown"
    assert refused.value.http_status == 404


def test_label_that_is_no_path_segment_is_refused_before_anything_is_asked(parts: Parts) -> None:
    with pytest.raises(SettingsInvalid):
        by_est(parts, "../../enrol")


def test_label_without_est_is_a_mistake_of_the_command(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(config), "enrol", "--label", "edge"]) != 0
    assert "--est" in capsys.readouterr().err


def test_message_that_is_no_request_is_not_sent(parts: Parts) -> None:
    with pytest.raises(MalformedInput):
        by_est(parts).enrol(b"junk")


# --- renewal ---------------------------------------------------------------------------------
class SeventyDaysLater:
    """A clock that jumps while the daemon waits for the first time, and ends the second wait."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)
        self.waits = 0

    def pause(self, seconds: float) -> bool:
        if seconds > 0 and not self.ahead:
            self.ahead = timedelta(days=70)
        elif seconds > 0:
            self.waits += 1
        return self.waits > 0

    def clock(self) -> Clock:
        return Clock(
            wall=lambda: datetime.now(UTC) + self.ahead,
            elapsed_s=lambda: time.monotonic() + self.ahead.total_seconds(),
            jitter=lambda: 0.5,
            pause=self.pause,
        )


def lives(parts: Parts, settings: Settings) -> Journal:
    """Let a daemon of these settings enrol, attest, and renew seventy days later."""
    journal = Journal()
    identity = LdevidIdentity(
        settings=settings,
        identities=parts.identities,
        verifier=parts.verifier,
        facts={},
        report=lambda _state, _reason: None,
    )
    parts.store.claim()
    try:
        DaemonLoop(
            sources=parts.sources,
            verifier=parts.verifier,
            enroller=parts.enroller,
            identity=identity,
            store=parts.store,
            notifier=Notes(),
            clock=SeventyDaysLater().clock(),
            pacing=pacing_of(settings),
            log=journal,
        ).run()
    finally:
        parts.verifier.close()
        parts.store.release()
    return journal


def issued(site: VerifierSite) -> list[list[str]]:
    """Return what each certificate rests on, in order."""
    entries = (one for one in site.running.store.log_entries() if one.kind == "issued")
    return [json.loads(one.entry)["proofs"] for one in entries]


@pytest.mark.parametrize("rotate", ["", "[renewal]\nrotate_after_s = 86400.0\n"])
def test_daemon_enrols_and_renews_by_est(site: VerifierSite, config: Path, rotate: str) -> None:
    settings = parse_settings(config.read_text() + BY_EST + rotate, "t.toml", {})
    tpm = EsapiTpm(settings.tpm.tcti)
    before = len(issued(site))
    try:
        journal = lives(assemble(settings, tpm), settings)
        slots = [tpm.has_key(slot) for slot in LDEVID_SLOTS]
    finally:
        tpm.close()

    told = [event for event in journal.events() if event != "key_retired"]
    assert told == ["device_enrolled", "evidence_judged"] * 2, journal.lines
    first, second = issued(site)[before:]
    assert "idevid" in first
    assert "idevid" not in second, "the renewal goes over the certificate that it renews"
    assert slots == ([False, True] if rotate else [True, False])


def test_command_goes_by_the_door_of_the_settings(
    site: VerifierSite, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(config.read_text() + BY_EST.replace("edge", "nowhere"))

    assert main(["--config", str(config), "enrol"]) != 0
    assert "est-label-unknown" in capsys.readouterr().err


# --- device-agent csr ------------------------------------------------------------------------
def test_request_to_renew_asks_for_the_names_of_the_certificate_in_use(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = ["--config", str(config)]
    assert main([*agent, "enrol"]) == 0
    out = tmp_path / "request.der"

    assert main([*agent, "csr", "--renew", "--form", "der", "--output", str(out)]) == 0

    request = x509.load_der_x509_csr(out.read_bytes())
    state = StateFile(tmp_path / "state").load()
    assert state is not None
    assert state.credential is not None
    current = x509.load_pem_x509_certificate(state.credential.certificate_chain_pem.encode())
    assert request.is_signature_valid
    assert request.subject == current.subject
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    wanted = current.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value == wanted.value

    (tmp_path / "junk").write_text("junk")
    assert main([*agent, "csr", "--renew", str(tmp_path / "junk")]) != 0
    assert "certificate to renew cannot be read" in capsys.readouterr().err


def test_request_with_evidence_is_not_made_beside_a_daemon(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nonce = {"nonce": "A" * 75, "expiry": 300, "respTypeInfo": NONCE_INFO}
    (tmp_path / "nonce").write_text(json.dumps(nonce))
    command = ["--config", str(config), "csr"]
    daemon = StateFile(tmp_path / "state")
    daemon.claim()
    try:
        assert main(command) == 0
        capsys.readouterr()
        assert main([*command, "--evidence", str(tmp_path / "nonce")]) != 0
        assert "another device-agent holds" in capsys.readouterr().err
    finally:
        daemon.release()
    assert main([*command, "--evidence", str(tmp_path / "nonce")]) == 0
