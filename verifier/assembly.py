"""The use cases, put together from what the composition root has opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.wire.ear import VerifierIdentity
from attestation.wire.ear_values import EAR_DIALECTS
from attestation.wire.wit import StatusEntry
from verifier.appraisal.policy_model import AppraisalPolicy
from verifier.appraisal.replay_cache import ReplayCache
from verifier.endorsement.trust_anchors import TrustAnchors
from verifier.issuance import status_list
from verifier.issuance.certificate_profile import Profiles
from verifier.issuance.enrolment_terms import EnrolmentTerms
from verifier.issuance.passport import ResultSigners
from verifier.issuance.publication import Publication
from verifier.issuance.revocation_policy import RevocationPolicy
from verifier.keys.ring import KeyRing
from verifier.ports import Clock, Entropy, Store
from verifier.ports.authority import CertificateAuthority
from verifier.services.activations import CredentialActivations
from verifier.services.agent_issue import AgentIssuing
from verifier.services.agent_tokens import AgentTokens
from verifier.services.agents import Agents
from verifier.services.attest import Attest, Recorder
from verifier.services.challenge import Challenges, Nonces
from verifier.services.decisions import Decisions
from verifier.services.devices import DeviceCache, Devices
from verifier.services.enrol import Enrol
from verifier.services.enrolled import Writer
from verifier.services.est import Est
from verifier.services.ocsp_responder import OcspResponder
from verifier.services.reference_values import ReferenceShelf
from verifier.services.revocation_lists import PublishedAuthority, RevocationLists
from verifier.services.status_lists import StatusLists
from verifier.services.suite import Published, Services
from verifier.services.token_proofs import TokenProofs
from verifier.services.workload_tokens import WorkloadTokens
from verifier.settings import Settings
from verifier.sources import DISTRIBUTION, EnrolmentRules, key_lifetime, nonce_ttl, version
from verifier.telemetry import Metrics, logger

Terms = Callable[[datetime], EnrolmentTerms]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the use cases stand on.

    Attributes:
        settings: The configuration.
        clock: Now.
        entropy: Randomness.
        new_key: Makes a P-256 key.
        metrics: Counters.
        policy: The appraisal policy.
        lifetime: How long results are believed.
        ring: Signs results; keeps the nonce keys.
        anchors: The manufacturers trusted.
        rules: Who may enrol.
        other_result_keys: Keys of other verifiers whose results are believed, by ``kid``.
        profiles: What stands in certificates.
        authority: Issues certificates.
        revocation: What follows from what.
        store: The store.
        decisions: Decides.
        recorder: Commits judgements in groups.
        issuer_writer: Commits issuances in groups.
        wake: Called when there is something to tell.
        unready: Returns why the service cannot serve.
    """

    settings: Settings
    clock: Clock
    entropy: Entropy
    new_key: Callable[[], ec.EllipticCurvePrivateKey]
    metrics: Metrics
    policy: AppraisalPolicy
    lifetime: timedelta
    ring: KeyRing
    anchors: TrustAnchors
    rules: EnrolmentRules
    other_result_keys: Mapping[str, Mapping[str, object]]
    profiles: Profiles
    authority: CertificateAuthority
    revocation: RevocationPolicy
    store: Store
    decisions: Decisions
    recorder: Recorder
    issuer_writer: Writer
    wake: Callable[[], None]
    unready: Callable[[], tuple[str, ...]]


def publication(settings: Settings) -> Publication | None:
    """Return where relying parties reach us; None if the settings do not say."""
    return Publication(settings.pki.url) if settings.pki.url else None


def assemble(parts: Parts) -> Services:
    """Put the use cases together."""
    settings, ttl = parts.settings, nonce_ttl(parts.settings, parts.policy)
    cache = DeviceCache(parts.store)
    nonces = Nonces(lambda: parts.ring.nonce_keys, ttl)
    challenges = Challenges(
        nonces=nonces, entropy=parts.entropy, selection=parts.policy.selection_text, ttl=ttl
    )
    shelf, replays = ReferenceShelf(parts.store, log=logger("reference-values")), ReplayCache()
    attest = Attest(
        store=parts.store,
        devices=cache,
        recorder=parts.recorder,
        nonces=nonces,
        anchors=parts.anchors,
        shelf=shelf,
        policy=parts.policy,
        replays=replays,
        signer=parts.ring,
        identity=_identity(settings),
        lifetime=parts.lifetime,
        decisions=parts.decisions,
        challenges=challenges,
        revocation=parts.revocation,
        dialect=EAR_DIALECTS[settings.results.dialect],
    )

    terms = _terms(parts, shelf)
    activations = CredentialActivations(
        store=parts.store,
        keys=lambda: parts.ring.nonce_keys,
        entropy=parts.entropy,
        challenges=challenges,
        terms=terms,
    )
    issuing = _issuing(parts, authority := _told(parts))
    enrol = _enrolment(parts, issuing, attest, nonces, terms, replays, activations)
    agents = _agents(parts, issuing, attest, challenges, nonces, terms, replays)
    return Services(
        clock=parts.clock,
        cache=cache,
        challenges=challenges,
        attest=attest,
        enrol=enrol,
        activations=activations,
        est=Est(
            enrol=enrol,
            challenges=challenges,
            policy=lambda: parts.rules.policy,
            authorities=lambda: _authorities(parts.authority),
        ),
        agents=agents,
        agent_tokens=AgentTokens(parts.store, issuing.tokens, _proofs(parts, nonces, ttl)),
        devices=Devices(parts.store),
        decisions=parts.decisions,
        published=_published(parts, authority),
        key_set=lambda at: parts.ring.key_set(at, key_lifetime(settings, parts.policy)),
        unready=parts.unready,
    )


def _identity(settings: Settings) -> VerifierIdentity:
    """Return who we are in a result."""
    return VerifierIdentity(
        developer=settings.results.developer, build=f"{DISTRIBUTION} {version()}"
    )


def _proofs(parts: Parts, nonces: Nonces, ttl: timedelta) -> TokenProofs:
    return TokenProofs(
        store=parts.store,
        nonces=nonces,
        ttl=ttl,
        policy=lambda: parts.rules.policy,
        public_url=parts.settings.server.public_url,
    )


def _told(parts: Parts) -> CertificateAuthority:
    """Return the authority whose certificates tell where they can be checked."""
    return PublishedAuthority(parts.authority, publication(parts.settings))


def _published(parts: Parts, authority: CertificateAuthority) -> Published:
    told = publication(parts.settings) or Publication("")
    lifetime = timedelta(hours=parts.settings.pki.crl_hours)
    return Published(
        authority=authority,
        lists=RevocationLists(parts.store, authority, lifetime),
        ocsp=OcspResponder(parts.store, authority, parts.entropy, parts.new_key),
        statuses=StatusLists(parts.store, parts.ring, told.status_list, parts.lifetime),
    )


def _authorities(ours: CertificateAuthority) -> tuple[x509.Certificate, ...]:
    """Return the certificates of CAs of ours that are believed, and all above them."""
    believed = frozenset(ours.certificates())
    below = (
        one
        for issuer in ours.issuers()
        if issuer.certificate in believed
        for one in (issuer.certificate, *issuer.chain)
    )
    return (*below, *ours.roots())


def _terms(parts: Parts, shelf: ReferenceShelf) -> Terms:
    """Return what says what the owner asks of an enrolling device at a moment."""

    def terms(at: datetime) -> EnrolmentTerms:
        return EnrolmentTerms(
            anchors=parts.anchors,
            reference=shelf.current(at),
            policy=parts.policy,
            enrolment=parts.rules.policy,
            sources=parts.rules.sources,
            result_signers=ResultSigners(
                ours=parts.ring.key_set(at, parts.lifetime), others=parts.other_result_keys
            ),
        )

    return terms


def _issuing(parts: Parts, authority: CertificateAuthority) -> AgentIssuing:
    """Return what certificates and tokens are made with."""
    settings = parts.settings

    def enrolled() -> None:
        parts.metrics.enrolments.inc()
        parts.wake()

    tokens = WorkloadTokens(
        signer=parts.ring,
        entropy=parts.entropy,
        trust_domain=settings.trust.trust_domain,
        lifetime=timedelta(minutes=settings.trust.token_minutes),
        status=_status(publication(settings)),
    )
    return AgentIssuing(
        issuer=authority.issuer,
        profiles=parts.profiles,
        tokens=tokens,
        entropy=parts.entropy,
        trust_domain=settings.trust.trust_domain,
        lifetime=timedelta(days=settings.trust.certificate_days),
        enrolled=enrolled,
    )


def _status(told: Publication | None) -> Callable[[int], StatusEntry | None]:
    """Return what says where a certificate's tokens can be checked; nowhere without a URL."""

    def status(number: int) -> StatusEntry | None:
        if told is None:
            return None
        chosen, index = status_list.place(number)
        return StatusEntry(index=index, uri=told.status_list(chosen))

    return status


def _enrolment(
    parts: Parts,
    issuing: AgentIssuing,
    attest: Attest,
    nonces: Nonces,
    terms: Terms,
    replays: ReplayCache,
    activations: CredentialActivations,
) -> Enrol:
    return Enrol(
        store=parts.store,
        writer=parts.issuer_writer,
        attest=attest,
        nonces=nonces,
        terms=terms,
        replays=replays,
        issuer=issuing.issuer,
        entropy=parts.entropy,
        trust_domain=issuing.trust_domain,
        lifetime=issuing.lifetime,
        enrolled=issuing.enrolled,
        tokens=issuing.tokens,
        profiles=issuing.profiles,
        activations=activations,
    )


def _agents(
    parts: Parts,
    issuing: AgentIssuing,
    attest: Attest,
    challenges: Challenges,
    nonces: Nonces,
    terms: Terms,
    replays: ReplayCache,
) -> Agents:
    owner_ttl = timedelta(days=parts.settings.trust.owner_days)
    return Agents(
        store=parts.store,
        attest=attest,
        challenges=challenges,
        nonces=nonces,
        owner_nonces=Nonces(lambda: parts.ring.nonce_keys, owner_ttl),
        owner_ttl=owner_ttl,
        terms=terms,
        replays=replays,
        issuing=issuing,
    )
