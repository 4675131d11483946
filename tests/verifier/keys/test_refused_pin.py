"""A token that refuses its PIN, or has locked it: nothing is issued, and it is said why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pkcs11
import pytest

from tests.simulators.locked_token import locked_module
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.softhsm import PIN, tokens
from tests.simulators.verifier_site import VerifierSite
from verifier.keys.ca_keys import CaKeys
from verifier.keys.ceremony import Ceremony
from verifier.keys.offline_root import OFFLINE_ROOT, open_root
from verifier.keys.pkcs11_key import Token
from verifier.keys.secret_source import MIN_PIN_CHARS, SecretSource
from verifier.sources import SystemClock, SystemEntropy

OTHER_PIN = "another-pin-of-1968"


@dataclass
class Tokened:
    """A verifier that issues by a key in a token."""

    site: VerifierSite
    label: str
    pin: Path

    def command(self, *words: str) -> tuple[int, str]:
        """Run ``verifier`` as a process; returns its exit code and all that it said."""
        ran = subprocess.run(
            [sys.executable, "-m", "verifier", "-c", str(self.site.config), *words],
            env={**os.environ, **tokens().environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return ran.returncode, ran.stdout + ran.stderr

    def change_pin(self, old: str, new: str) -> None:
        """Change the token's PIN, then lose every session, as when a token is pulled."""
        path = self.pin.with_name("pin-to-change")
        path.touch(0o600)
        path.write_text(old)
        source = SecretSource(purpose="PIN", path=path, is_credential=False, minimum=MIN_PIN_CHARS)
        token = Token(tokens().module, self.label, source)
        token._opened().set_pin(old, new)
        token.close()
        pkcs11.lib(tokens().module).reinitialize()


@pytest.fixture
def tokened(tmp_path: Path) -> Tokened:
    label, pin = tokens().take(), tmp_path / "token.pin"
    pin.touch(0o600)
    pin.write_text(PIN)
    site = VerifierSite(
        tmp_path / "site",
        SoftManufacturer(),
        extra=f"""
[authority]
backend = "pkcs11"
pkcs11_module = "{tokens().module}"
pkcs11_token = "{label}"
pin_file = "{pin}"
""",
    )
    directory, settings = site.folder / "keys", site.settings.authority
    ceremony = Ceremony(directory, settings, CaKeys(directory, settings, {}), SystemEntropy())
    ceremony.rotate(open_root(directory / OFFLINE_ROOT, None), "fleet", SystemClock().now())
    return Tokened(site, label, pin)


def wrong(tokened: Tokened) -> Path | None:
    """The file has another PIN than the token."""
    tokened.pin.write_text(OTHER_PIN)
    return None


def locked(tokened: Tokened) -> Path | None:
    """The token has locked its PIN."""
    module, logins = locked_module(tokened.pin.parent, tokens().module)
    config = tokened.site.config
    config.write_text(config.read_text().replace(tokens().module, module))
    return logins


@pytest.mark.parametrize(
    ("happens", "said"),
    [(wrong, "refuses the PIN"), (locked, "has locked its PIN; unlock it by the SO PIN")],
)
def test_service_does_not_start_and_every_command_says_why(
    tokened: Tokened, happens: Callable[[Tokened], Path | None], said: str
) -> None:
    logins = happens(tokened)

    code, told = tokened.command("serve")
    assert (code != 0, "ca-pin-refused" in told, said in told) == (True, True, True), told
    assert str(tokened.pin) in told
    assert "Traceback" not in told
    assert not any(secret in told for secret in (PIN, OTHER_PIN))
    if logins is not None:
        assert logins.read_text() == "login\n", "a locked token is asked once"

    code, told = tokened.command("ca", "status", "--json")
    (finding,) = [one for one in json.loads(told)["findings"] if one["failed"]]
    assert (code, finding["code"], said in finding["reason"]) == (1, "ca-pin-refused", True)
    code, told = tokened.command("check", "--json")
    assert (code != 0, "ca-pin-refused" in told) == (True, True)


def test_running_service_whose_pin_is_refused_issues_nothing_and_goes_on_attesting(
    tokened: Tokened, capfd: pytest.CaptureFixture[str]
) -> None:
    site = tokened.site
    with site:
        device = site.device()
        assert device.enrol().status == 201
        before = len(site.running.store.certificates())
        tokened.change_pin(PIN, OTHER_PIN)

        refused = site.device("SN-0002").enrol()
        assert (refused.status, refused.json["code"]) == (503, "ca-pin-refused")
        assert str(tokened.pin) not in refused.json["detail"]
        assert len(site.running.store.certificates()) == before
        assert device.attest().status == 200
        ready = site.client().get("/health/ready")
        assert (ready.status, "ca-pin-refused" in ready.body.decode()) == (503, True)
        assert str(tokened.pin) not in ready.body.decode()

        tokened.change_pin(OTHER_PIN, PIN)
        again = site.device("SN-0003").enrol()
        assert (again.status, again.json["code"]) == (503, "ca-pin-refused")
    told = "".join(capfd.readouterr())
    assert f"refuses the PIN of {tokened.pin}; it is not tried again before a restart" in told

    with site:
        assert site.device("SN-0004").enrol().status == 201
