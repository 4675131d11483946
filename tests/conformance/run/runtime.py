"""Kind ``ima-list``: the whole appraisal, on an honest quote of the given PCR values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attestation.evidence import ImaPart, qualifying_data
from attestation.identity import Nonce
from attestation.wire.evidence_codec import decode_evidence, encode_evidence, encode_parts
from device_agent.ports import KeyRole
from tests.conformance.cases import octets
from tests.conformance.run.bench import NOW, banks, enrolment_of
from tests.conformance.run.logs import device
from tests.conformance.run.outcome import Outcome, of_result
from verifier.appraisal.appraise import appraise
from verifier.appraisal.freshness import ExpectedNonce
from verifier.appraisal.policy import load_policy
from verifier.reference_values.model import ReferenceLibrary
from verifier.reference_values.runtime_policy_file import load_runtime_policy

_NONCE = Nonce(b"the nonce of this case, 32 bytes")
_POLICY: Final = """
id = "conformance/1"
description = "as the case says"
[quote]
selection = "{selection}"
[[pcrs]]
indices = {indices}
claim = "hardware"
known = 2
unknown = 96
missing = 96
match = "log"
coverage = "reported"
[ima]
policy = "case"
pcr = {pcr}
{others}
unknown = 33
violation = 33
denied = 96
"""


def run(given: Mapping[str, Any]) -> Outcome:
    """Judge one IMA list."""
    values, asked = banks(given["pcrs"]), given["policy"]
    selection = "+".join(
        f"{bank.label}:{','.join(map(str, sorted(held)))}" for bank, held in values.items()
    )
    indices = sorted({index for held in values.values() for index in held})
    others = f"other_pcrs = {asked['other_pcrs']}" if "other_pcrs" in asked else ""
    text = _POLICY.format(selection=selection, indices=indices, pcr=asked["pcr"], others=others)
    policy = load_policy(text, "case")
    tpm = device()
    tpm.load_pcrs(values)
    content = octets(given["list"])
    part = ImaPart(offset=0, content=content) if content else None
    parts = encode_parts(
        tpm.read_pcrs(policy.selections),
        octets(given["firmware_log"]) if "firmware_log" in given else None,
        False,  # noqa: FBT003
        {},
        ima_list=part,
    )
    quote = tpm.quote(policy.selections, qualifying_data(_NONCE, parts.digests))
    enrolment, anchors = enrolment_of(tpm.public_area(KeyRole.IAK))
    result = appraise(
        decode_evidence(encode_evidence(_NONCE, quote, parts)),
        challenge=ExpectedNonce(nonce=_NONCE),
        enrolment=enrolment,
        anchors=anchors,
        reference=ReferenceLibrary(runtime={"case": load_runtime_policy(_text(asked), "case")}),
        policy=policy,
        at=NOW,
    )
    return of_result(result)


def _text(asked: Mapping[str, Any]) -> str:
    """The runtime policy that a case describes, as this verifier writes it."""
    files = "\n".join(f"sha256:{digest}  {path}" for path, digest in asked["files"].items())
    denied = "\n".join(f"sha256:{digest}" for digest in asked.get("denied", ()))
    exclude = ", ".join(f'"{pattern}"' for pattern in asked.get("exclude", ()))
    signers = "".join(
        f"\n[[signers]]\nname = \"signer\"\npem = '''{pem}'''\n" for pem in asked.get("signers", ())
    )
    return (
        f"name = \"case\"\nexclude = [{exclude}]\nfiles = '''\n{files}\n'''\n"
        f"denied = '''\n{denied}\n'''\n{signers}"
    )
