"""Enrolment policies as TOML text; every key is known or refused by its name and line.

``docs/enrolment.md`` explains every key; ``verifier/policies/enrolment-default.toml`` is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final, TypeVar

from attestation.errors import MalformedInput
from attestation.limits import MAX_ENROLMENT_CLASSES
from attestation.result import TrustTier
from verifier.appraisal.policy_table import Table, invalid, nearest
from verifier.issuance.enrolment_policy import (
    AgentClass,
    AgentMatch,
    AwsTrust,
    AzureTrust,
    DeviceClass,
    DeviceMatch,
    EnrolmentPolicy,
    ProofKind,
    TokenProof,
)
from verifier.issuance.initial_trust import TrustExpression, TrustName, parse_trust
from verifier.issuance.rule_text import read_rules

MAX_POLICY_CHARS: Final = 1024 * 1024
"""An enrolment policy is written and read by people."""

_TOP: Final = ("id", "description", "device", "agent", "ek", "aws", "azure")
_DEVICE: Final = (
    *("class", "match", "initial_trust", "proofs", "accept"),
    *("profile", "scope", "lifetime_days", "overlap_hours", "decommission_days"),
)
_DEVICE_MATCH: Final = ("labels", "anchors", "serial")
_AGENT: Final = (
    *("class", "match", "proofs", "profile", "scope"),
    *("lifetime_days", "overlap_hours", "decommission_days", "token_proof"),
)
_AGENT_MATCH: Final = ("device_classes", "name")
_EK: Final = ("allow_list", "roots", "packaged_roots", "accept_expired")
_AWS: Final = ("certificates", "accounts")
_AZURE: Final = ("jwks", "issuers", "audience", "resources")

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LABEL: Final = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,256}")
"""A scope-token (RFC 6749, 3.3)."""
_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_REGION: Final = re.compile(r"[a-z0-9-]{2,32}")
_MAX_DAYS: Final = 3660
_MAX_HOURS: Final = 24 * 366
_NO_LABEL: Final = "-"
"""How a policy writes "came without a label"."""
_DEVICE_PROOFS: Final = frozenset({ProofKind.POP, ProofKind.RESIDENCY})
_STATE: Final = frozenset({ProofKind.EVIDENCE, ProofKind.RESULT})
_OF_EVIDENCE: Final = frozenset({ProofKind.AIBOM, ProofKind.PROVIDER_ENDORSEMENT})
_ACCEPT: Final = (TrustTier.AFFIRMING, TrustTier.WARNING)

Class = TypeVar("Class", DeviceClass, AgentClass)


def load_enrolment_policy(text: str, origin: str) -> EnrolmentPolicy:
    """Read one enrolment policy.

    Args:
        text: TOML.
        origin: Where it came from, for messages.

    Raises:
        MalformedInput: ``policy-invalid`` if it is not TOML, empty, has an unknown key or a value
            that does not fit; the message names the key and its line.
    """
    return read_rules(
        text,
        origin,
        _policy,
        most=MAX_POLICY_CHARS,
        structure="enrolment policy",
        empty="the policy is empty; an empty policy would let nobody in",
    )


def _policy(table: Table) -> EnrolmentPolicy:
    table.only(_TOP)
    if "description" in table.items:
        table.text("description")
    devices = _classes(table, "device", _device)
    agents = _classes(table, "agent", _agent) if "agent" in table.items else ()
    ek, aws, azure = table.table("ek", _EK), table.table("aws", _AWS), table.table("azure", _AZURE)
    policy = EnrolmentPolicy(
        id=table.text("id"),
        devices=devices,
        agents=agents,
        ek_allow_list=ek.text("allow_list") if "allow_list" in ek.items else "",
        ek_roots=ek.texts("roots"),
        packaged_roots=ek.flag("packaged_roots", default=True),
        accept_expired_ek=ek.flag("accept_expired", default=False),
        aws=_aws(aws) if aws.items else None,
        azure=_azure(azure) if azure.items else None,
    )
    _require_sources(table, policy)
    return policy


def _require_sources(table: Table, policy: EnrolmentPolicy) -> None:
    """Check that whatever an expression names can be judged."""
    wants = (
        (TrustName.EK_ALLOW_LIST, bool(policy.ek_allow_list), "allow_list in [ek]"),
        (TrustName.TPM_EK, policy.packaged_roots or bool(policy.ek_roots), "roots in [ek]"),
        (TrustName.AWS_IID, policy.aws is not None, "[aws]"),
        (TrustName.AZURE_MSI, policy.azure is not None, "[azure]"),
    )
    for number, one in enumerate(policy.devices, 1):
        for name, there, key in wants:
            if name in one.trust.names and not there:
                raise invalid(
                    f"{table.where('device')}[{number}].initial_trust",
                    f"{name.value} needs {key}, which is not there",
                )


def _classes(table: Table, key: str, read: Callable[[Table], Class]) -> tuple[Class, ...]:
    found: list[Class] = []
    for inner in table.tables(key, f"at least one [[{key}]] class is needed"):
        if len(found) >= MAX_ENROLMENT_CLASSES:
            raise invalid(inner.path, f"more than {MAX_ENROLMENT_CLASSES} classes")
        one = read(inner)
        if any(one.name == other.name for other in found):
            raise invalid(inner.where("class"), f"there is a class {one.name} already")
        found.append(one)
    return tuple(found)


def _device(table: Table) -> DeviceClass:
    table.only(_DEVICE)
    proofs = _proofs(table)
    for lacking in sorted(_DEVICE_PROOFS - proofs):
        raise invalid(
            table.where("proofs"),
            f"{lacking.value} is missing: without it a certificate would speak of a key that "
            "need not live in the device's TPM",
        )
    if proofs.isdisjoint(_STATE):
        raise invalid(
            table.where("proofs"), "neither evidence nor result is wanted; one of them is needed"
        )
    if ProofKind.OWNER_BINDING in proofs:
        raise invalid(
            table.where("proofs"),
            "owner-binding is for classes of agents: an owner's word for a device's own key is "
            "judged nowhere",
        )
    if ProofKind.EVIDENCE not in proofs and not proofs.isdisjoint(_OF_EVIDENCE):
        raise invalid(
            table.where("proofs"), "aibom and provider-endorsement are parts of evidence: want it"
        )
    return DeviceClass(
        name=_name(table, "class"),
        match=_device_match(table.table("match", _DEVICE_MATCH)),
        trust=_trust(table),
        proofs=proofs,
        accept=_accept(table),
        profile=_name(table, "profile", "ldevid"),
        scope=_scope(table),
        lifetime=_days(table, "lifetime_days"),
        overlap=_overlap(table),
        decommission=_days(table, "decommission_days"),
    )


def _agent(table: Table) -> AgentClass:
    table.only(_AGENT)
    proofs = _proofs(table)
    if ProofKind.POP not in proofs:
        raise invalid(table.where("proofs"), "pop is missing: anybody's key would be certified")
    match = table.table("match", _AGENT_MATCH)
    return AgentClass(
        name=_name(table, "class"),
        match=AgentMatch(
            device_classes=frozenset(match.texts("device_classes")),
            name=match.text("name") if "name" in match.items else "",
        ),
        proofs=proofs,
        profile=_name(table, "profile", "agent"),
        scope=_scope(table),
        lifetime=_days(table, "lifetime_days"),
        overlap=_overlap(table),
        decommission=_days(table, "decommission_days"),
        token_proof=_token_proof(table),
    )


def _token_proof(table: Table) -> TokenProof:
    word = table.items.get("token_proof", TokenProof.NONE.value)
    words = [kind.value for kind in TokenProof]
    if word not in words:
        raise invalid(table.where("token_proof"), f"wanted {' or '.join(words)}")
    return TokenProof(word)


def _trust(table: Table) -> TrustExpression:
    text = table.items.get("initial_trust")
    if not isinstance(text, str):
        raise invalid(
            table.where("initial_trust"), 'wanted an expression such as "idevid"; "" denies all'
        )
    try:
        return parse_trust(text)
    except MalformedInput as error:
        raise invalid(table.where("initial_trust"), error.reason) from error


def _proofs(table: Table) -> frozenset[ProofKind]:
    kinds: set[ProofKind] = set()
    words = [kind.value for kind in ProofKind]
    for where, word in _numbered(table, "proofs"):
        try:
            kinds.add(ProofKind(word))
        except ValueError as error:
            raise invalid(
                where, f"{word[:40]!r} is none of {', '.join(words)}{nearest(word, words)}"
            ) from error
    if not kinds:
        raise invalid(table.where("proofs"), "wanted a list of proofs; nothing is said")
    return frozenset(kinds)


def _device_match(table: Table) -> DeviceMatch:
    labels = [
        "" if label == _NO_LABEL else _formed(where, label, _LABEL, "an EST label, or -")
        for where, label in _numbered(table, "labels")
    ]
    return DeviceMatch(
        labels=frozenset(labels),
        anchors=table.digests("anchors", (32,)),
        serial=table.text("serial") if "serial" in table.items else "",
    )


def _accept(table: Table) -> TrustTier:
    word = table.items.get("accept", TrustTier.WARNING.label)
    for tier in _ACCEPT:
        if word == tier.label:
            return tier
    raise invalid(table.where("accept"), "wanted affirming or warning")


def _scope(table: Table) -> tuple[str, ...]:
    found = {
        _formed(where, word, _SCOPE, "a scope without blanks, quotes and backslashes")
        for where, word in _numbered(table, "scope", may_be_empty=True)
    }
    return tuple(sorted(found))


def _aws(table: Table) -> AwsTrust:
    regions = table.table("certificates")
    if not regions.items:
        raise invalid(table.where("certificates"), "wanted a table: region = file")
    certificates = []
    for region in regions.items:
        _formed(regions.where(region), region, _REGION, "a region such as eu-central-1")
        certificates.append((region, regions.text(region)))
    accounts = [
        _formed(where, number, _ACCOUNT, "an account of 12 digits")
        for where, number in _numbered(table, "accounts")
    ]
    if not accounts:
        raise invalid(
            table.where("accounts"), "wanted the owner's accounts; else any AWS customer would fit"
        )
    return AwsTrust(certificates=tuple(certificates), accounts=frozenset(accounts))


def _azure(table: Table) -> AzureTrust:
    issuers, resources = table.texts("issuers"), table.texts("resources")
    for key, found in (("issuers", issuers), ("resources", resources)):
        if not found:
            raise invalid(table.where(key), "wanted a list; else any Azure customer would fit")
    return AzureTrust(
        jwks=table.text("jwks"),
        issuers=frozenset(issuers),
        audience=table.text("audience"),
        resources=resources,
    )


def _name(table: Table, key: str, default: str = "") -> str:
    word = table.text(key) if key in table.items or not default else default
    return _formed(table.where(key), word, _NAME, "1 to 63 of a-z, 0-9 and -")


def _formed(where: str, word: str, form: re.Pattern[str], wanted: str) -> str:
    if not form.fullmatch(word):
        raise invalid(where, f"{word[:40]!r} is not {wanted}")
    return word


def _numbered(table: Table, key: str, *, may_be_empty: bool = False) -> Iterator[tuple[str, str]]:
    """Yield place and text of each element of a list of texts."""
    if may_be_empty and table.items.get(key) == []:
        return
    for number, word in enumerate(table.texts(key), 1):
        yield f"{table.where(key)}[{number}]", word


def _days(table: Table, key: str) -> timedelta | None:
    days = table.number(key, 1, _MAX_DAYS)
    return None if days is None else timedelta(days=days)


def _overlap(table: Table) -> timedelta:
    return timedelta(hours=table.number("overlap_hours", 0, _MAX_HOURS) or 0)
