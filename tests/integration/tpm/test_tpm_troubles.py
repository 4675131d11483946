"""A TPM that is absent, busy, locked out, killed or replaced under a running adapter."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest
from tpm2_pytss import ESAPI, TSS2_Exception
from tpm2_pytss.types import (
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMS_SENSITIVE_CREATE,
    TPMT_PUBLIC,
)

from attestation.pcr import parse_selection
from attestation.refusals import RefusalCode
from attestation.tpm.templates import KeyTemplate, iak_template
from deploy.demo.swtpm import SoftwareTpm
from device_agent.errors import (
    SettingsInvalid,
    TpmBusy,
    TpmLockedOut,
    TpmRefused,
    TpmUnavailable,
)
from device_agent.ports import KeyRole
from device_agent.tpm.adapter import EsapiTpm
from device_agent.tpm.connection import Backoff
from tests.simulators.tpm_line import TpmLine

pytestmark = pytest.mark.tpm

SELECTIONS = parse_selection("sha256:0,7")
QUOTE = 0x158
RETRY, YIELDED, TESTING, OBJECT_MEMORY = 0x922, 0x908, 0x90A, 0x902


def test_an_absent_tpm_is_unavailable_until_it_comes(tmp_path: Path) -> None:
    with SoftwareTpm(tmp_path / "state") as software:
        tpm = EsapiTpm(software.tcti)
        software.stop()
        with pytest.raises(TpmUnavailable, match="no TPM answers at swtpm"):
            tpm.status()
        software.start()
        assert tpm.status().manufacturer == "IBM"
        tpm.close()


def test_a_missing_device_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TpmUnavailable, match="enable the TPM in the firmware"):
        EsapiTpm(f"device:{tmp_path / 'tpmrm0'}").status()


def test_a_device_that_is_no_tpm_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "tpmrm0").mkdir()
    with pytest.raises(TpmUnavailable, match="group tss"):
        EsapiTpm(f"device:{tmp_path / 'tpmrm0'}").status()


@pytest.mark.parametrize("tcti", ["", "/opt/tcti.so:x", "cmd:sh", "libtss2-tcti-cmd.so:x"])
def test_only_known_interfaces_are_loaded(tcti: str) -> None:
    with pytest.raises(SettingsInvalid, match="is not understood"):
        EsapiTpm(tcti)


def test_a_killed_tpm_is_unavailable_and_its_return_is_noticed(
    tpm: EsapiTpm, swtpm: SoftwareTpm
) -> None:
    before = tpm.public_area(KeyRole.IAK)
    swtpm.kill()
    for _ in range(2):
        with pytest.raises(TpmUnavailable) as unavailable:
            tpm.quote(SELECTIONS, bytes(32))
        assert unavailable.value.code is RefusalCode.TPM_UNAVAILABLE
    swtpm.start()
    assert tpm.quote(SELECTIONS, bytes(32)).attest
    assert tpm.public_area(KeyRole.IAK) == before


def test_a_restart_between_two_calls_goes_unnoticed(tpm: EsapiTpm, swtpm: SoftwareTpm) -> None:
    tpm.quote(SELECTIONS, bytes(32))
    swtpm.stop()
    swtpm.start()
    assert tpm.quote(SELECTIONS, bytes(32)).attest


@pytest.mark.parametrize(("cuts", "noticed"), [(1, False), (2, True)])
def test_a_line_cut_during_a_command_is_opened_anew_once(
    tpm: EsapiTpm, swtpm: SoftwareTpm, *, cuts: int, noticed: bool
) -> None:
    with TpmLine(swtpm) as line:
        behind = EsapiTpm(line.tcti)
        behind.quote(SELECTIONS, bytes(32))
        line.commands.clear()

        def cut(code: int) -> None:
            if code == QUOTE and line.commands.count(QUOTE) <= cuts:
                raise ConnectionAbortedError

        line.interrupt = cut
        if noticed:
            with pytest.raises(TpmUnavailable, match="stopped answering"):
                behind.quote(SELECTIONS, bytes(32))
        assert behind.quote(SELECTIONS, bytes(32)).attest
        assert line.commands.count(QUOTE) == cuts + 1
        behind.close()


def test_a_tpm_that_was_reset_but_not_started_is_unavailable(
    tpm: EsapiTpm, swtpm: SoftwareTpm
) -> None:
    tpm.status()
    swtpm._initialise()
    with pytest.raises(TpmUnavailable, match="was not started"):
        tpm.read_pcrs(SELECTIONS)


@pytest.mark.parametrize("warning", [RETRY, YIELDED, TESTING, OBJECT_MEMORY])
def test_a_tpm_that_asks_for_time_gets_it(tpm: EsapiTpm, swtpm: SoftwareTpm, warning: int) -> None:
    tpm.quote(SELECTIONS, bytes(32))  # the first use of a protected key makes the TPM say RETRY
    with TpmLine(swtpm) as line:
        # libtss2 itself submits five times for some warnings; twelve refusals outlast that
        behind = EsapiTpm(line.tcti, backoff=Backoff(attempts=20, first_s=0.001, longest_s=0.002))
        line.interrupt = lambda code: (
            warning if code == QUOTE and line.commands.count(QUOTE) <= 12 else None
        )
        assert behind.quote(SELECTIONS, bytes(32)).attest
        assert line.commands.count(QUOTE) == 13
        behind.close()


def test_patience_ends_and_a_later_call_succeeds(tpm: EsapiTpm, swtpm: SoftwareTpm) -> None:
    with TpmLine(swtpm) as line:
        behind = EsapiTpm(line.tcti, backoff=Backoff(attempts=3, first_s=0.05, longest_s=0.05))
        behind.status()
        line.interrupt = lambda code: RETRY if code == QUOTE else None
        started = time.monotonic()
        with pytest.raises(TpmBusy, match="more time 3 times") as refused:
            behind.quote(SELECTIONS, bytes(32))
        assert refused.value.code is RefusalCode.TPM_BUSY
        assert 0.1 <= time.monotonic() - started < 5
        line.interrupt = lambda _code: None
        assert behind.quote(SELECTIONS, bytes(32)).attest
        behind.close()


def test_backoff_doubles_up_to_its_longest_pause() -> None:
    backoff = Backoff(first_s=0.02, longest_s=0.1)
    assert [backoff.pause(attempt) for attempt in range(1, 6)] == [0.02, 0.04, 0.08, 0.1, 0.1]


def _fail_authorisations(tcti: str, times: int) -> None:
    """Guess the password of a protected key of our own, wrongly."""
    with ESAPI(tcti) as esapi:
        sensitive = TPM2B_SENSITIVE_CREATE(TPMS_SENSITIVE_CREATE(userAuth=b"right"))
        area, _ = TPMT_PUBLIC.unmarshal(iak_template(KeyTemplate.P_256))  # no noDA
        template = TPM2B_PUBLIC(publicArea=area)
        key, _, _, _, _ = esapi.create_primary(sensitive, template)
        esapi.tr_set_auth(key, b"wrong")
        for _ in range(times):
            with contextlib.suppress(TSS2_Exception):
                esapi.quote(key, "sha256:0", b"")
                pytest.fail("a wrong password was taken")
        esapi.flush_context(key)


def test_a_lockout_is_reported_with_its_end_and_what_to_do(
    tpm: EsapiTpm, swtpm: SoftwareTpm
) -> None:
    limit = tpm.status().max_auth_fail
    _fail_authorisations(swtpm.tcti, limit)
    status = tpm.status()
    assert (status.in_lockout, status.lockout_counter) == (True, limit)
    with pytest.raises(TpmLockedOut, match="tpm2_dictionarylockout") as locked:
        tpm.quote(SELECTIONS, bytes(32))
    assert locked.value.recovery_s == 1000
    assert "every 1000 s" in locked.value.reason
    tpm.create_ldevid()  # not protected, so that TLS goes on
    assert tpm.sign_digest(KeyRole.LDEVID, bytes(32))


def test_our_own_refusals_never_count_towards_the_lockout(tpm: EsapiTpm) -> None:
    tpm.create_ldevid()
    for role, digest in ((KeyRole.IAK, bytes(32)), (KeyRole.IDEVID, bytes(48))):
        with pytest.raises(TpmRefused):
            tpm.sign_digest(role, digest)
    tpm.certificate(KeyRole.IAK)
    tpm.certify(KeyRole.IDEVID, bytes(32))
    assert tpm.status().lockout_counter == 0


def test_power_cuts_after_use_of_a_protected_key_count_as_failures(
    tpm: EsapiTpm, swtpm: SoftwareTpm
) -> None:
    tpm.quote(SELECTIONS, bytes(32))
    swtpm.power_cycle(orderly=False)
    assert tpm.status().lockout_counter == 1
    tpm.quote(SELECTIONS, bytes(32))
    swtpm.power_cycle(orderly=True)
    assert tpm.status().lockout_counter == 1


@pytest.mark.parametrize("shutdown", [True, False])
def test_close_shuts_the_tpm_down_only_when_told_to(swtpm: SoftwareTpm, *, shutdown: bool) -> None:
    with TpmLine(swtpm) as line:
        tpm = EsapiTpm(line.tcti, shutdown_on_close=shutdown)
        tpm.status()
        tpm.close()
        tpm.close()
        assert (0x145 in line.commands) is shutdown
        assert tpm.status().manufacturer == "IBM"
        tpm.close()


def test_libtss2_is_silent(
    tpm: EsapiTpm, swtpm: SoftwareTpm, capfd: pytest.CaptureFixture[str]
) -> None:
    swtpm.kill()
    with pytest.raises(TpmUnavailable):
        tpm.status()
    swtpm.start()
    with pytest.raises(TpmRefused):
        tpm.sign_digest(KeyRole.IAK, bytes(32))
    with pytest.raises(TpmRefused):
        tpm.write_certificate(KeyRole.IAK, bytes(4000))
    assert capfd.readouterr() == ("", "")
