"""What an attacker does to the AI agent's files, their log, and the endorsement of the AIBOM."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from attestation.algorithms import HashAlgorithm
from attestation.errors import InputError
from attestation.evidence import Evidence, qualifying_data
from attestation.logs.cel import (
    Measurement,
    RecordKind,
    content_digests,
    decode_cel,
    encode_content,
    encode_record,
)
from attestation.result import AttestationResult, Claim, TrustTier
from attestation.wire.evidence_codec import decode_evidence, encode_evidence, encode_parts
from tests.simulators import soft_agent
from tests.simulators.soft_provider import SoftProvider, moment
from tests.verifier.appraisal.courtroom import NOW, Courtroom, assert_refused
from verifier.appraisal.policy import AppraisalPolicy, load_policy
from verifier.reference_values.aibom import AiBom, load_aibom, pack_aibom

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
BANKS = (SHA1, SHA256)
PCR = 13

POLICY = """
id = "agent/1"
description = "What the AI agent consists of."
[quote]
selection = "sha256:0,13+sha1:13"
[[pcrs]]
indices = [0]
claim = "hardware"
known = 2
unknown = 96
missing = 32
coverage = "reported"
[[pcrs]]
indices = [13]
claim = "executables"
known = 3
unknown = 96
missing = 96
match = "log"
[agent]
"""


def policy(rules: str = "") -> AppraisalPolicy:
    return load_policy(POLICY + (rules or "require_endorsement = true"), "test")


def files_of(changes: dict[str, bytes | None]) -> list[Measurement]:
    """Measure the agent's files with some replaced (bytes) or left out (None)."""
    contents: dict[str, bytes | None] = {path: one for path, (_, one) in soft_agent.FILES.items()}
    contents |= changes
    return [
        Measurement(
            kind=RecordKind.FILE, path=path, digest=bytes.fromhex(soft_agent.sha256(content))
        )
        for path, content in sorted(contents.items())
        if content is not None
    ]


class AgentCourt(Courtroom):
    """A device that measured the AI agent, and a verifier that holds its AIBOM."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = policy()
        self.document = soft_agent.text(soft_agent.aibom())
        self.provider = SoftProvider()
        self.trusted = {"acme": self.provider.pem}
        self.endorsement: dict[str, Any] | None = self.provider.endorse(self.document)
        self.agent_log = b""

    @property
    def aibom(self) -> Measurement:
        digest = bytes.fromhex(soft_agent.sha256(self.document))
        return Measurement(kind=RecordKind.AIBOM, path="agent.cdx.json", digest=digest)

    def load(self) -> AiBom:
        envelope = None if self.endorsement is None else json.dumps(self.endorsement)
        return load_aibom(pack_aibom(self.document.decode(), envelope), "test", self.trusted)

    def measure(self, *measured: Measurement) -> None:
        """Extend and log, as an honest device agent does."""
        for one in measured:
            content = encode_content(one)
            digests = content_digests(content, BANKS)
            number = len(decode_cel(self.agent_log).records) if self.agent_log else 0
            self.agent_log += encode_record(number, PCR, digests, content)
            self.tpm.extend_pcr(PCR, digests)

    def install(self, **changes: bytes | None) -> None:
        self.measure(
            self.aibom, *files_of({path.replace("__", "/"): one for path, one in changes.items()})
        )

    def heard(self, log: bytes | None) -> Evidence:
        nonce = self.nonce()
        values = self.tpm.read_pcrs(self.policy.selections)
        parts = encode_parts(values, self.log, False, {}, agent_log=log)  # noqa: FBT003
        quote = self.tpm.quote(self.policy.selections, qualifying_data(nonce, parts.digests))
        return decode_evidence(encode_evidence(nonce, quote, parts))

    def verdict(self, log: bytes | None = None) -> AttestationResult:
        bom = self.load()
        self.reference = replace(self.reference, aiboms={bom.sha256: bom})
        return self.judge(self.heard(self.agent_log if log is None else log))


def reasons(result: AttestationResult, code: str) -> str:
    return " | ".join(one.reason for one in result.findings if one.code == code)


def encode(measured: Iterable[Measurement], *, pcr: int = PCR, banks: Any = BANKS) -> bytes:
    log = b""
    for number, one in enumerate(measured):
        content = encode_content(one)
        log += encode_record(number, pcr, content_digests(content, banks), content)
    return log


@pytest.fixture
def court() -> AgentCourt:
    return AgentCourt()


def test_agent_as_its_provider_made_it_is_affirmed(court: AgentCourt) -> None:
    court.install()

    result = court.verdict()

    assert result.vector.file_system == 2
    assert result.vector.executables == 3
    assert "all 4 files are as AIBOM field-assistant 2.1" in reasons(result, "agent-files-matched")


def test_model_swapped_before_it_was_measured_is_contraindicated(court: AgentCourt) -> None:
    court.install(**{"models__tiny.onnx": b"poisoned weights"})

    result = court.verdict()

    assert_refused(result, "agent-file-changed", step=5)
    assert "models/tiny.onnx" in reasons(result, "agent-file-changed")
    assert result.vector.executables == 96


def test_file_changed_after_it_was_measured_is_contraindicated(court: AgentCourt) -> None:
    court.install()
    court.measure(Measurement(kind=RecordKind.FILE, path="agent.py", digest=bytes(32)))

    assert_refused(court.verdict(), "agent-file-changed", step=5)


def test_file_changed_and_put_back_is_remembered_until_the_next_boot(court: AgentCourt) -> None:
    court.install()
    good = files_of({})[0]
    court.measure(replace(good, digest=bytes(32)), good)

    result = court.verdict()

    assert result.vector.executables == 32
    assert "something else earlier in this boot: agent.py" in reasons(result, "agent-file-changed")


def test_changed_setting_speaks_against_the_file_system(court: AgentCourt) -> None:
    court.install(**{"config__agent.toml": b"goal = 'take over'"})

    result = court.verdict()

    assert result.vector.file_system == 96
    assert result.vector.executables == 3


def test_missing_file_is_named(court: AgentCourt) -> None:
    court.install(**{"agent.py": None})

    result = court.verdict()

    assert_refused(result, "agent-file-missing", step=5)
    assert "agent.py" in reasons(result, "agent-file-missing")


def test_removed_file_is_missing(court: AgentCourt) -> None:
    court.install()
    court.measure(replace(files_of({})[0], kind=RecordKind.REMOVED))

    assert_refused(court.verdict(), "agent-file-missing", step=5)


def test_extra_file_is_named_and_its_name_cannot_write_the_report(court: AgentCourt) -> None:
    court.install(**{"\x1b[2Jok\n\u202egood.py": b"evil"})

    result = court.verdict()

    told = reasons(result, "agent-file-unlisted")
    assert result.vector.file_system == 32
    assert r"\x1b[2Jok\n\u202egood.py" in told
    assert told.isprintable()


def test_many_extra_files_give_one_bounded_finding(court: AgentCourt) -> None:
    court.install(**{f"junk-{number:04}": b"j" for number in range(300)})

    told = [one.reason for one in court.verdict().findings if one.code == "agent-file-unlisted"]

    assert len(told) == 1
    assert told[0].endswith("and 292 more")


@pytest.mark.parametrize(
    "kind", [RecordKind.OUTSIDE, RecordKind.SPECIAL, RecordKind.UNREADABLE, RecordKind.UNSTEADY]
)
def test_listed_file_that_could_not_be_measured_counts_as_changed(
    court: AgentCourt, kind: RecordKind
) -> None:
    court.install()
    court.measure(Measurement(kind=kind, path="agent.py"))

    result = court.verdict()

    assert_refused(result, "agent-file-changed", step=5)
    assert f"agent.py ({kind.value})" in reasons(result, "agent-file-changed")


def test_unmeasured_record_with_a_good_digest_is_not_good(court: AgentCourt) -> None:
    court.install()
    court.measure(replace(files_of({})[0], kind=RecordKind.UNSTEADY))

    assert_refused(court.verdict(), "agent-file-changed", step=5)


def test_device_that_excludes_more_than_the_policy_admits_is_warned_of(court: AgentCourt) -> None:
    court.install()
    pattern = Measurement(kind=RecordKind.EXCLUDED, path="**/*.so")
    court.measure(pattern)
    told = reasons(court.verdict(), "agent-file-unlisted")
    court.policy = policy('exclude = ["**/*.so"]')

    assert "**/*.so" in told
    assert court.verdict().vector.file_system == 2


def test_full_log_does_not_vouch_for_what_came_after(court: AgentCourt) -> None:
    court.install()
    court.measure(Measurement(kind=RecordKind.FULL, path="."))

    assert_refused(court.verdict(), "agent-log-full", step=5)


# --- the log ------------------------------------------------------------------------------------


def test_log_that_was_left_out_is_missed(court: AgentCourt) -> None:
    court.install()
    bom = court.load()
    court.reference = replace(court.reference, aiboms={bom.sha256: bom})

    result = court.judge(court.heard(None))

    assert_refused(result, "agent-log-missing", step=4)


def test_edited_log_does_not_lead_to_the_quoted_pcr(court: AgentCourt) -> None:
    court.install(**{"agent.py": b"evil"})
    honest = encode([court.aibom, *files_of({})])

    assert_refused(court.verdict(honest), "agent-replay-mismatch", step=4)


def test_edited_content_under_the_old_digests_contradicts_itself(court: AgentCourt) -> None:
    court.install(**{"agent.py": b"evil"})
    good, bad = files_of({})[0], files_of({"agent.py": b"evil"})[0]
    edited = court.agent_log.replace(encode_content(bad), encode_content(good))
    assert edited != court.agent_log

    result = court.verdict(edited)

    assert_refused(result, "agent-replay-mismatch", step=4)
    assert "not that of its content" in reasons(result, "agent-replay-mismatch")


def test_truncated_log_does_not_lead_to_the_quoted_pcr(court: AgentCourt) -> None:
    court.install()
    court.measure(Measurement(kind=RecordKind.FILE, path="evil.py", digest=bytes(32)))
    cut = encode([court.aibom, *files_of({})])

    assert_refused(court.verdict(cut), "agent-replay-mismatch", step=4)


def test_relabelled_record_does_not_lead_to_the_quoted_pcr(court: AgentCourt) -> None:
    court.install()
    evil = Measurement(kind=RecordKind.FILE, path="evil.py", digest=bytes(32))
    court.measure(evil)
    relabelled = encode([court.aibom, *files_of({}), replace(evil, kind=RecordKind.REMOVED)])

    assert_refused(court.verdict(relabelled), "agent-replay-mismatch", step=4)


def test_reordered_log_does_not_lead_to_the_quoted_pcr(court: AgentCourt) -> None:
    court.install(**{"agent.py": b"evil"})
    court.measure(*files_of({}))
    swapped = encode([court.aibom, *files_of({}), *files_of({"agent.py": b"evil"})])

    assert_refused(court.verdict(swapped), "agent-replay-mismatch", step=4)


def test_bank_that_was_never_extended_does_not_pass_for_another(court: AgentCourt) -> None:
    """The device extends SHA-256 alone and leaves SHA-1, which the policy quotes too."""
    for one in (court.aibom, *files_of({})):
        court.tpm.extend(SHA256, PCR, SHA256.digest(encode_content(one)))
    court.agent_log = encode([court.aibom, *files_of({})], banks=(SHA256,))

    result = court.verdict()

    assert_refused(result, "agent-replay-mismatch", step=4)
    assert "no sha1 digests" in reasons(result, "agent-replay-mismatch")


def test_log_of_a_resettable_pcr_explains_no_other(court: AgentCourt) -> None:
    court.install()
    other = encode([court.aibom, *files_of({})], pcr=16)

    result = court.verdict(other)

    assert_refused(result, "agent-replay-mismatch", step=4)
    assert "is that of PCR 16" in reasons(result, "agent-replay-mismatch")


def test_log_that_does_not_begin_with_an_aibom_is_malformed(court: AgentCourt) -> None:
    court.measure(*files_of({}))

    with pytest.raises(InputError) as caught:
        court.verdict()
    assert caught.value.code == "agent-log-malformed"


def test_same_log_is_judged_once(court: AgentCourt) -> None:
    court.install()
    first = court.verdict()
    court.accept(first)
    again = court.judge(court.heard(court.agent_log))

    assert again.findings[-1] is first.findings[-1]


# --- the AIBOM and its endorsement --------------------------------------------------------------


def test_aibom_that_the_attacker_wrote_is_unknown(court: AgentCourt) -> None:
    court.install()
    court.document = soft_agent.text(soft_agent.aibom(version=2))

    result = court.verdict()

    assert_refused(result, "aibom-unknown", step=5)


def test_aibom_that_the_policy_does_not_admit_is_unknown_to_it(court: AgentCourt) -> None:
    court.install()
    court.policy = policy('aiboms = ["field-assistant 3.0"]')
    refused = court.verdict()
    court.policy = policy('aiboms = ["field-assistant 2.1"]')

    assert_refused(refused, "aibom-unknown", step=5)
    assert court.verdict().vector.executables == 3


def test_aibom_without_datasets_is_a_warning_or_what_the_policy_says(court: AgentCourt) -> None:
    bom = soft_agent.aibom()
    for one in bom["components"]:
        one.pop("data", None)
    court.document = soft_agent.text(bom)
    court.endorsement = court.provider.endorse(court.document)
    court.install()

    warned = court.verdict()
    court.policy = policy("incomplete = 96")
    denied = court.verdict()

    assert warned.vector.configuration == 36
    assert "says nothing of datasets" in reasons(warned, "aibom-incomplete")
    assert denied.status is TrustTier.CONTRAINDICATED


@pytest.mark.parametrize(
    "entry",
    ["pkg:pypi/numpy", "pkg:pypi/numpy@2.1.0", "ref-models/tiny.onnx", "digest"],
)
def test_denied_component_is_refused_by_its_reference(court: AgentCourt, entry: str) -> None:
    if entry == "digest":
        entry = "sha256:" + soft_agent.sha256(soft_agent.FILES["models/tiny.onnx"][1])
    court.install()
    court.policy = policy(f'deny = ["{entry}"]')

    result = court.verdict()

    assert_refused(result, "agent-component-denied", step=5)
    told = reasons(result, "agent-component-denied")
    assert "pkg:pypi/numpy@2.1.0" in told or "ref-models/tiny.onnx" in told


def test_deny_entry_for_another_package_denies_nothing(court: AgentCourt) -> None:
    court.install()
    court.policy = policy('deny = ["pkg:pypi/nump", "pkg:pypi/numpy@2.1.1"]')

    assert court.verdict().vector.executables == 3


def test_component_that_the_aibom_itself_calls_exploitable_is_refused(court: AgentCourt) -> None:
    weakness = {
        "id": "CVE-2026-0001",
        "analysis": {"state": "exploitable"},
        "affects": [{"ref": "pkg:pypi/numpy@2.1.0"}],
    }
    court.document = soft_agent.text(soft_agent.aibom(vulnerabilities=[weakness]))
    court.endorsement = court.provider.endorse(court.document)
    court.install()

    assert "CVE-2026-0001" in reasons(court.verdict(), "agent-component-denied")


def refused_for(court: AgentCourt, code: str) -> str:
    result = court.verdict()
    assert_refused(result, code, step=5)
    return reasons(result, code)


def test_missing_endorsement_is_refused_where_the_policy_asks(court: AgentCourt) -> None:
    court.install()
    court.endorsement = None

    refused_for(court, "provider-endorsement-missing")
    court.policy = policy("require_endorsement = false")
    assert court.verdict().vector.executables == 3


def test_endorsement_of_another_aibom_is_refused(court: AgentCourt) -> None:
    court.install()
    court.endorsement = court.provider.endorse(b"another AIBOM")

    refused_for(court, "provider-subject-mismatch")


def test_endorsement_by_a_stranger_is_refused(court: AgentCourt) -> None:
    court.install()
    court.endorsement = SoftProvider().endorse(court.document)

    refused_for(court, "provider-unknown")


def test_stranger_who_names_the_trusted_key_is_refused(court: AgentCourt) -> None:
    court.install()
    court.endorsement = SoftProvider().endorse(court.document, keyid=court.provider.keyid)

    refused_for(court, "provider-signature-invalid")


def test_trusted_provider_that_the_policy_does_not_list_is_refused(court: AgentCourt) -> None:
    court.install()
    court.policy = policy('providers = ["other"]')

    refused_for(court, "provider-unknown")


def test_edited_statement_is_refused(court: AgentCourt) -> None:
    court.install()
    endorsed = court.provider.endorse(b"another AIBOM")
    meant = court.provider.endorse(court.document)
    court.endorsement = endorsed | {"payload": meant["payload"]}

    refused_for(court, "provider-signature-invalid")


def test_signature_over_the_payload_without_its_type_is_refused(court: AgentCourt) -> None:
    court.install()
    good = court.provider.endorse(court.document)
    other = court.provider.sign(b"", kind="application/json")
    sig = {"keyid": court.provider.keyid, "sig": base64.b64encode(other).decode()}
    court.endorsement = good | {"signatures": [sig]}

    refused_for(court, "provider-signature-invalid")


@pytest.mark.parametrize("years", [{"validUntil": 2026}, {"validFrom": 2027}])
def test_endorsement_outside_its_validity_is_refused(
    court: AgentCourt, years: dict[str, int]
) -> None:
    court.install()
    predicate = {key: moment(year).isoformat() for key, year in years.items()}
    court.endorsement = court.provider.endorse(court.document, predicate=predicate)

    refused_for(court, "provider-endorsement-expired")


def test_endorsement_ends_while_the_log_is_remembered(court: AgentCourt) -> None:
    court.install()
    until = (NOW + timedelta(minutes=1)).isoformat()
    court.endorsement = court.provider.endorse(court.document, predicate={"validUntil": until})
    assert court.verdict().vector.executables == 3
    court.at = NOW + timedelta(minutes=2)

    refused_for(court, "provider-endorsement-expired")


def test_providers_certificate_bounds_its_endorsements(court: AgentCourt) -> None:
    court.install()
    court.trusted = {"acme": court.provider.certificate(moment(2024), moment(2025))}
    refused_for(court, "provider-endorsement-expired")
    court.trusted = {"acme": court.provider.certificate(moment(2024), moment(2030))}

    assert court.verdict().vector.executables == 3


@pytest.mark.parametrize("predicate_type", ["https://slsa.dev/provenance/v1", "x"])
def test_statement_that_says_something_else_is_refused(
    court: AgentCourt, predicate_type: str
) -> None:
    court.install()
    court.endorsement = court.provider.endorse(court.document, predicate_type=predicate_type)

    refused_for(court, "provider-endorsement-malformed")


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["p384", "ed25519", "rsa"],
)
def test_every_kind_of_provider_key_is_taken(court: AgentCourt, key: Any) -> None:
    court.install()
    court.provider = SoftProvider(key)
    court.trusted = {"acme": court.provider.pem}
    court.endorsement = court.provider.endorse(court.document)

    assert court.verdict().vector.executables == 3
    court.endorsement = court.provider.endorse(b"other")
    refused_for(court, "provider-subject-mismatch")
    other = court.provider.endorse(court.document)
    court.endorsement = other | {"payload": court.endorsement["payload"]}
    refused_for(court, "provider-signature-invalid")


def test_one_trusted_signature_among_several_is_enough(court: AgentCourt) -> None:
    court.install()
    stranger = SoftProvider().endorse(court.document)
    mine = court.provider.endorse(court.document)
    both = [*stranger["signatures"], *mine["signatures"]]
    court.endorsement = mine | {"signatures": both}

    assert court.verdict().vector.executables == 3


def test_weak_trusted_key_endorses_nothing(court: AgentCourt) -> None:
    court.install()
    court.provider = SoftProvider(rsa.generate_private_key(65537, 1024))  # noqa: S505 - on purpose
    court.trusted = {"acme": court.provider.pem}
    court.endorsement = court.provider.endorse(court.document)

    refused_for(court, "provider-unknown")


@pytest.mark.parametrize("pcr", [0, 7, 10, 16, 17, 23])
def test_policy_for_a_pcr_that_others_extend_or_reset_is_refused(pcr: int) -> None:
    with pytest.raises(InputError, match=r"agent\.pcr"):
        policy(f"pcr = {pcr}")


def test_policy_that_does_not_quote_the_agents_pcr_is_refused() -> None:
    with pytest.raises(InputError, match=r"agent\.pcr"):
        policy("pcr = 14")


@pytest.mark.parametrize(
    "rules", ["changed = 2", "unlisted = 0", 'deny = "x"', "colour = 1", "require_endorsement = 1"]
)
def test_agent_rules_that_soften_nothing_by_accident(rules: str) -> None:
    with pytest.raises(InputError, match=r"agent\."):
        policy(rules)


def test_changed_model_claim_is_never_affirming(court: AgentCourt) -> None:
    court.install(**{"models__tiny.onnx": b"x"})

    claims = court.verdict().vector.as_claims()

    assert claims[Claim.EXECUTABLES] == 96
    assert Claim.FILE_SYSTEM not in claims
