"""The judgement as a library: the example of docs/embedding.md runs, and imports no service."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from attestation.result import AttestationResult, TrustTier
from device_agent.ports import KeyRole
from tests.verifier.appraisal.courtroom import Courtroom
from verifier.reference_values.toml_file import dump_reference_set

PAGE = Path(__file__).parents[2] / "docs" / "embedding.md"
ROOMS = (
    "attestation.boot.derive",
    "attestation.wire.evidence_codec",
    "attestation.wire.ear",
    "verifier.appraisal.appraise",
    "verifier.appraisal.difference",
    "verifier.decision.history",
    "verifier.endorsement.trust_anchors",
    "verifier.reference_values.golden",
    "verifier.reference_values.toml_file",
)
SERVICE = (
    *("alembic", "fastapi", "httptools", "paho", "prometheus_client", "psycopg", "pydantic"),
    *("lxml", "regopy", "rich", "signxml", "sqlalchemy", "starlette", "structlog", "typer"),
    "uvicorn",
    *("verifier.api", "verifier.cli", "verifier.services", "verifier.store", "verifier.ports"),
)


def example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(code)


@pytest.fixture
def judge() -> Callable[..., AttestationResult]:
    names: dict[str, Any] = {}
    exec(compile(example(), str(PAGE), "exec"), names)  # noqa: S102 - our own page
    function: Callable[..., AttestationResult] = names["judge"]
    return function


def given(court: Courtroom) -> dict[str, Any]:
    nonce = court.nonce()
    return {
        "message": court.message(nonce),
        "nonce": bytes(nonce),
        "ak": court.tpm.public_area(KeyRole.IAK),
        "roots": court.maker.root_pem,
        "policy": (resources.files("verifier.policies") / "linux-server.toml").read_text(),
        "known": dump_reference_set(court.reference.sets[0]),
        "at": court.at,
    }


def test_example_of_the_page_affirms_a_good_device(judge: Callable[..., AttestationResult]) -> None:
    result = judge(**given(Courtroom()))

    assert result.status is TrustTier.AFFIRMING, result.reasons
    assert result.boot is not None


def test_example_of_the_page_accuses_a_changed_device(
    judge: Callable[..., AttestationResult],
) -> None:
    court = Courtroom()
    bank = court.policy.selections[0].bank
    court.tpm.extend(bank, 4, b"\x66" * 32)

    result = judge(**given(court))

    assert result.status is TrustTier.CONTRAINDICATED
    assert result.reasons[0].startswith("log-replay-mismatch: PCR 4")


def test_example_of_the_page_holds_the_nonce(judge: Callable[..., AttestationResult]) -> None:
    asked = given(Courtroom())

    result = judge(**{**asked, "nonce": bytes(len(asked["nonce"]))})

    assert result.status is TrustTier.CONTRAINDICATED


def test_body_of_the_example_is_ten_statements_at_most() -> None:
    body = example().split("AttestationResult:\n")[1]

    assert len([line for line in body.splitlines() if line.startswith("    ")]) <= 12


@pytest.mark.parametrize("room", ROOMS)
def test_judgement_imports_nothing_of_the_service(room: str) -> None:
    code = (
        f"import sys, {room}\nprint(*(name for name in {SERVICE!r} if name in sys.modules), end='')"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout == ""


def test_courtroom_itself_is_affirming() -> None:
    """The other tests of this file mean something only if it is."""
    assert replace(Courtroom().policy).boot is not None
    assert Courtroom().judge().status is TrustTier.AFFIRMING
