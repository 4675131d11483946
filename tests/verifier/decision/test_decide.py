"""From result to decision, through the real Rego engine and the policy that ships."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from importlib import resources

import pytest

from attestation.result import AttestationResult, Claim, Finding, TrustVector
from tests.verifier.appraisal.courtroom import DEVICE, NOW, Courtroom
from verifier.decision.decide import (
    NO_DECISION,
    Decision,
    DeviceFacts,
    absent,
    decide,
    pdp_document,
)
from verifier.decision.engine import (
    EngineAnswer,
    EngineFault,
    JsonObject,
    JsonValue,
    PolicyRejected,
)
from verifier.policy_engine.rego import RegoEngine

SHIPPED = (resources.files("verifier.policies") / "device_decision.rego").read_text()
FACTS = DeviceFacts(
    device=DEVICE,
    revoked=False,
    anchor_sha256=b"\x0a" * 32,
    hardware_serial="BOX-0042",
    ak_name=b"\x00\x0b" + bytes(32),
    spiffe_id="spiffe://fleet.example/device/box-0042",
    owner="plant-7",
    capabilities=("telemetry.write",),
)


@pytest.fixture(scope="module")
def engine() -> RegoEngine:
    return RegoEngine(SHIPPED)


@pytest.fixture(scope="module")
def affirming() -> AttestationResult:
    return Courtroom().judge()


def document(
    result: AttestationResult | None, *, age_s: float = 1, facts: DeviceFacts = FACTS
) -> JsonObject:
    at = NOW + timedelta(seconds=age_s)
    expires_at = result.at + timedelta(minutes=5) if result is not None else None
    return pdp_document(facts, result, at, expires_at=expires_at, seq=7)


def warned(result: AttestationResult) -> AttestationResult:
    finding = Finding(
        code="reference-missing", claim=Claim.EXECUTABLES, value=33, reason="nothing known", step=5
    )
    return replace(result, vector=TrustVector(executables=33), findings=(finding,))


def ask(engine: RegoEngine, doc: JsonObject) -> Decision:
    return decide(engine, doc, NOW)


def test_affirming_device_is_allowed(engine: RegoEngine, affirming: AttestationResult) -> None:
    decision = ask(engine, document(affirming))

    assert decision == Decision(allow=True, reasons=(), at=NOW, seq=7)
    assert decision.word == "allow"


def test_device_without_a_result_is_denied(engine: RegoEngine) -> None:
    decision = ask(engine, document(None))

    assert not decision.allow
    assert decision.reasons[0].startswith("result-absent:")


def test_warning_is_denied_by_default(engine: RegoEngine, affirming: AttestationResult) -> None:
    decision = ask(engine, document(warned(affirming)))

    assert decision.reasons == (
        "posture-warning: the last result is warning",
        "reference-missing: nothing known",
    )


def test_warning_is_allowed_where_the_owner_says_so(affirming: AttestationResult) -> None:
    engine = RegoEngine(SHIPPED, config={"allow_warning": True})

    assert ask(engine, document(warned(affirming))).allow


def test_contraindicated_is_denied_even_where_warnings_are_allowed() -> None:
    court = Courtroom()
    court.tpm.extend(court.policy.banks[0], 4, b"\x01" * 32)
    engine = RegoEngine(SHIPPED, config={"allow_warning": True})

    decision = ask(engine, document(court.judge()))

    assert not decision.allow
    assert decision.reasons[0] == "posture-contraindicated: the last result is contraindicated"
    assert decision.reasons[1].startswith("log-replay-mismatch: PCR 4 (sha256)")


@pytest.mark.parametrize(
    ("age_s", "allowed"), [(0, True), (299, True), (300, False), (3000, False)]
)
def test_result_is_relied_on_until_it_expires(
    engine: RegoEngine, affirming: AttestationResult, age_s: int, *, allowed: bool
) -> None:
    decision = ask(engine, document(affirming, age_s=age_s))

    assert decision.allow is allowed
    assert [one.split(":")[0] for one in decision.reasons] == (
        [] if allowed else ["result-expired"]
    )


def test_result_from_the_future_is_denied(engine: RegoEngine, affirming: AttestationResult) -> None:
    assert not ask(engine, document(affirming, age_s=-6)).allow


def test_revoked_device_is_denied_whatever_its_posture(
    engine: RegoEngine, affirming: AttestationResult
) -> None:
    decision = ask(engine, document(affirming, facts=replace(FACTS, revoked=True)))

    assert decision.reasons == ("device-revoked: the device was revoked",)


@pytest.mark.parametrize("missing", ["revoked", "now", "posture"])
def test_document_that_lacks_a_field_is_denied(
    engine: RegoEngine, affirming: AttestationResult, missing: str
) -> None:
    doc = document(affirming)
    del doc[missing]

    decision = ask(engine, doc)

    assert not decision.allow
    assert decision.reasons


@pytest.mark.parametrize("field", ["status", "exp", "iat"])
@pytest.mark.parametrize("junk", [None, "x", [], {}, True])
def test_document_with_a_strange_posture_is_denied(
    engine: RegoEngine, affirming: AttestationResult, field: str, junk: JsonValue
) -> None:
    """Rego orders numbers before texts, lists and objects: ``now < "x"`` would hold."""
    doc = document(affirming)
    posture = doc["posture"]
    assert isinstance(posture, dict)
    posture[field] = junk

    assert not ask(engine, doc).allow


class BrokenEngine:
    """An engine that cannot answer."""

    def answer(self, document: object) -> EngineAnswer:  # noqa: ARG002
        raise EngineFault("broken")


class UnsureEngine:
    """An engine that allows and gives reasons against it."""

    def answer(self, document: object) -> EngineAnswer:  # noqa: ARG002
        return EngineAnswer(allow=True, reasons=("but: no",))


def test_engine_fault_is_a_denial(affirming: AttestationResult) -> None:
    decision = decide(BrokenEngine(), document(affirming), NOW)

    assert (decision.allow, decision.reasons) == (False, (NO_DECISION,))


def test_allow_with_reasons_against_it_is_a_denial(affirming: AttestationResult) -> None:
    assert not decide(UnsureEngine(), document(affirming), NOW).allow


def test_unknown_device_is_denied() -> None:
    assert (absent(NOW).allow, absent(NOW).reasons[0].split(":")[0]) == (False, "device-unknown")


def test_document_holds_the_five_fields(affirming: AttestationResult) -> None:
    """R104 to R108."""
    doc = document(affirming, age_s=12)

    assert doc["rot"] == {"type": "tpm2.0", "anchor_sha256": "0a" * 32}
    assert doc["identifiers"] == {
        "device_id": "box-0042",
        "hardware_serial": "BOX-0042",
        "ak_name": "000b" + "00" * 32,
        "spiffe_id": "spiffe://fleet.example/device/box-0042",
    }
    assert doc["affiliations"] == {"device_class": "default", "owner": "plant-7"}
    assert doc["capabilities"] == ["telemetry.write"]
    assert "agents" not in doc, "nobody looked for them"
    assert doc["posture"] == {
        "status": "affirming",
        "vector": {"instance-identity": 2, "configuration": 2, "executables": 3, "hardware": 2},
        "policy_ids": ["linux-server/1"],
        "reference_set": "box/1",
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 300,
        "age_s": 12,
        "reasons": [],
    }


QUERY_HEAD = "package device_attestation.decision\nimport rego.v1\n"


@pytest.mark.parametrize(
    "policy",
    [
        "",
        "  \n",
        "package x\nallow if {",
        "package x\nimport rego.v1\nallow := true",
        QUERY_HEAD + "decision := true",
        QUERY_HEAD + 'decision := {"allow": "yes", "reasons": []}',
        QUERY_HEAD + 'decision := {"allow": false}',
        QUERY_HEAD + 'decision := {"allow": false, "reasons": [to_number("x")]}',
        QUERY_HEAD + 'decision := {"allow": true, "reasons": []}',
    ],
)
def test_policy_that_cannot_deny_is_refused_at_load(policy: str) -> None:
    with pytest.raises(PolicyRejected):
        RegoEngine(policy)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("told := opa.runtime().env", "environment"),
        ('told := opa["runtime"]().env', "environment"),
        ("import data as everything", "breaks down"),
    ],
)
def test_policy_that_would_tell_or_break_down_is_refused_unread(words: str, why: str) -> None:
    policy = f'{QUERY_HEAD}{words}\ndecision := {{"allow": false, "reasons": []}}\n'

    with pytest.raises(PolicyRejected, match=why):
        RegoEngine(policy)


def test_failing_builtin_is_a_fault_and_not_an_allow(affirming: AttestationResult) -> None:
    """Without strict errors the deny rule would be undefined, and so forgotten."""
    policy = QUERY_HEAD + (
        'default allow := false\ndeny contains "bad" if to_number(input.rot.type) > 0\n'
        "allow if {\n  input.posture\n  count(deny) == 0\n}\n"
        'decision := {"allow": allow, "reasons": [r | some r in deny]}\n'
    )
    try:
        engine = RegoEngine(policy)
    except PolicyRejected:
        return

    with pytest.raises(EngineFault):
        engine.answer(document(affirming))


def test_each_thread_gets_the_same_answers(
    engine: RegoEngine, affirming: AttestationResult
) -> None:
    documents = [document(affirming), document(None)]
    seen: list[list[bool]] = []

    def work() -> None:
        seen.append([ask(engine, one).allow for one in documents * 50])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == [[True, False] * 50] * 3
