"""Kinds ``enrolment`` and ``attested-csr``: one request, judged as the service judges it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from attestation.certificates import parse_certificate
from attestation.evidence import Quote
from attestation.wire.attested_csr import read_attested_csr
from attestation.wire.enrolment_codec import (
    EkStatement,
    EnrolmentRequest,
    decode_enrolment,
    encode_enrolment,
)
from tests.conformance.cases import octets
from tests.conformance.generate.freshness import authority
from tests.conformance.run.bench import anchors_of, moment, policy_of, reference_of
from tests.conformance.run.outcome import Outcome
from tests.conformance.run.passports import signers_of
from verifier.issuance.enrol import EnrolmentTerms, judge_enrolment
from verifier.issuance.enrolment_policy import (
    DEFAULT_POLICY,
    DeviceMatch,
    EnrolmentPolicy,
    ProofKind,
)
from verifier.issuance.est import require_same_names, require_whole
from verifier.issuance.initial_trust import parse_trust
from verifier.issuance.trust_sources import TrustSources


def run(given: Mapping[str, Any]) -> Outcome:
    """Judge one enrolment request; a refusal is raised."""
    return _judged(given, decode_enrolment(encode_enrolment(request_of(given["request"]))))


def run_csr(given: Mapping[str, Any]) -> Outcome:
    """Judge one PKCS#10 request as the EST door does; a refusal is raised."""
    csr = octets(given["csr"])
    if "renews" in given:
        require_same_names(csr, parse_certificate(octets(given["renews"])))
    request = read_attested_csr(csr, octets(given["tls_client_certificate"]))
    require_whole(request, DEFAULT_POLICY.devices, is_known=False)
    return _judged(given, request)


def _judged(given: Mapping[str, Any], request: EnrolmentRequest) -> Outcome:
    anchors = anchors_of([octets(der) for der in given["trust_anchors"]])
    if "revocation_lists" in given:
        anchors = anchors.with_revocations([octets(der) for der in given["revocation_lists"]])
    accepted = judge_enrolment(
        request,
        presented=octets(given["tls_client_certificate"]),
        challenge=authority(),
        terms=EnrolmentTerms(
            anchors=anchors,
            reference=reference_of(given["policy"]),
            policy=policy_of(given["policy"]),
            sources=TrustSources(
                listed_eks=frozenset(bytes.fromhex(one) for one in given.get("listed_eks", []))
            ),
            enrolment=_enrolment_policy(given.get("class")),
            result_signers=signers_of([], given.get("result_keys", [])),
        ),
        at=moment(given["at"]),
    )
    return Outcome(verdict="accepted", facts=(("device", accepted.device),))


def _enrolment_policy(asked: Mapping[str, Any] | None) -> EnrolmentPolicy:
    """The enrolment policy with the one class that a case asks for."""
    if asked is None:
        return DEFAULT_POLICY
    one = replace(
        DEFAULT_POLICY.devices[0],
        match=DeviceMatch(serial=asked.get("serial", "")),
        trust=parse_trust(asked["initial_trust"]),
        proofs=frozenset(ProofKind(word) for word in asked["proofs"]),
    )
    return replace(DEFAULT_POLICY, devices=(one,))


def request_of(sent: Mapping[str, Any]) -> EnrolmentRequest:
    """Return the enrolment request that a case describes."""
    return EnrolmentRequest(
        idevid_chain=tuple(octets(der) for der in sent["idevid_chain"]),
        iak_chain=tuple(octets(der) for der in sent["iak_chain"]),
        idevid_public=octets(sent["idevid_public"]),
        iak_public=octets(sent["iak_public"]),
        ldevid_public=octets(sent["ldevid_public"]),
        idevid_certify=_quote(sent["idevid_certify"]),
        ldevid_certify=_quote(sent["ldevid_certify"]),
        csr=octets(sent["csr"]),
        evidence=octets(sent["evidence"]),
        nonce=bytes.fromhex(sent.get("nonce", "")),
        result=sent.get("result", ""),
        ek=EkStatement(public=octets(sent["ek_public"])) if "ek_public" in sent else None,
    )


def _quote(one: Mapping[str, Any]) -> Quote:
    return Quote(attest=octets(one["attest"]), signature=octets(one["signature"]))
