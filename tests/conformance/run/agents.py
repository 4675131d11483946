"""Kind ``agent``: an AI agent's request, judged and recorded as the service does."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives import hashes

from attestation.evidence import Quote
from attestation.identity import agent_name
from attestation.result import TrustTier
from attestation.wire.agent_codec import AgentRequest, decode_agent, encode_agent
from tests.conformance.cases import octets
from tests.conformance.generate.freshness import authority
from tests.conformance.run.bench import enrolment_of, moment, policy_of
from tests.conformance.run.outcome import Outcome
from tests.simulators.stored import a_certificate, a_device, put_enrolment
from verifier.errors import Conflict
from verifier.issuance.agent_state import StandingResult, StateTerms
from verifier.issuance.agents import AcceptedAgent, AgentTerms, judge_agent
from verifier.issuance.enrolment_policy import AgentClass, ProofKind
from verifier.issuance.owners import Owner, load_owner, pack_owner
from verifier.ports.credentials import CredentialKind
from verifier.reference_values.model import ReferenceLibrary
from verifier.services.issue import issued_entry
from verifier.store.migrate import migrate
from verifier.store.sql_store import open_store

_TIERS = {tier.label: tier for tier in TrustTier}


def run(given: Mapping[str, Any]) -> Outcome:
    """Judge one request; a refusal is raised."""
    request = decode_agent(encode_agent(_request(given["request"])))
    accepted = judge_agent(
        request,
        None,
        challenge=replace(authority(), ttl=timedelta(seconds=given["nonce_lifetime_s"])),
        terms=_terms(given),
        at=moment(given["at"]),
    )
    if given["certified"]:
        return _recorded(accepted, given)
    return Outcome(verdict="accepted")


def _terms(given: Mapping[str, Any]) -> AgentTerms:
    enrolment, anchors = enrolment_of(octets(given["device"]["iak_public"]))
    told, asked = given["result"], given["class"]
    return AgentTerms(
        device=enrolment,
        chosen=AgentClass(
            name="assistant",
            proofs=frozenset(ProofKind(word) for word in asked["proofs"]),
            scope=tuple(asked["scope"]),
        ),
        state=StateTerms(
            anchors=anchors,
            reference=ReferenceLibrary(),
            policy=policy_of({"selection": "sha256:0"}),
            newest=StandingResult(
                status=_TIERS[told["status"]], expires_at=moment(told["expires_at"]), ear="ear"
            ),
        ),
        owners={one["id"]: _owner(one) for one in given["owners"]},
        owner_challenge=authority(),
    )


def _owner(one: Mapping[str, Any]) -> Owner:
    scope = None if one["scope"] is None else tuple(one["scope"])
    return load_owner(one["id"], pack_owner(one["key_pem"], scope))


def _request(sent: Mapping[str, Any]) -> AgentRequest:
    return AgentRequest(
        agent=agent_name(sent["agent"]),
        nonce=bytes.fromhex(sent["nonce"]),
        agent_public=octets(sent["agent_public"]),
        csr=octets(sent.get("csr", "")),
        certify=Quote(
            attest=octets(sent["certify"]["attest"]),
            signature=octets(sent["certify"]["signature"]),
        )
        if "certify" in sent
        else None,
        owner_binding=sent.get("owner_binding", ""),
        capabilities=tuple(sent["capabilities"]),
        agent_class=sent.get("class", ""),
    )


def _recorded(accepted: AcceptedAgent, given: Mapping[str, Any]) -> Outcome:
    """Record what was certified before, then this; the store says whose key it is."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(accepted.public.spki_der)
    holder = f"spiffe://fleet.example/device/{accepted.device}/agent/{accepted.agent}"
    rows = [(one["holder"], bytes.fromhex(one["spki_sha256"])) for one in given["certified"]]
    base = replace(a_certificate(a_device()), kind=CredentialKind.AGENT, agent="planner")
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/store.db"
        migrate(url)
        store = open_store(url, with_outbox=False)
        try:
            with store.work() as work:
                put_enrolment(work, a_device())
            for number, (name, key) in enumerate([*rows, (holder, digest.finalize())], 1):
                one = replace(
                    base, sha256=bytes([number]) * 32, serial=number, holder=name, spki_sha256=key
                )
                with store.work() as work:
                    work.issue(one, issued_entry(one), moment(given["at"]))
        except Conflict as taken:
            code = frozenset({taken.code.value})
            return Outcome(verdict="refused", codes=code, told=code, detail=taken.reason)
        finally:
            store.close()
    return Outcome(verdict="accepted")
