"""The AI agents below a device: what is kept of each, and when what is due. Pure.

Each agent has a key of its own in the TPM (kept wrapped), an identity of its own below the
device's, a certificate and a token for it. A record goes::

    key made ──(the owner signs, where the class wants it)──► certified ──renewed, again and again
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from attestation.identity import AgentName
from attestation.refusals import RefusalCode
from attestation.tpm.public import parse_public
from device_agent.agent_ports import AgentReply, TokenReply
from device_agent.daemon import TRANSIENT_REFUSALS
from device_agent.errors import DeviceAgentError
from device_agent.lifecycle import (
    Fault,
    Moment,
)
from device_agent.pacing import Pacing
from device_agent.ports import WrappedKey

MOST_AGENTS: Final = 64
"""On one device; each costs the TPM a few commands for each renewal."""

_TOKEN_SHARE: Final = 2 / 3
"""A token is replaced when so much of its life is over."""


class Due(StrEnum):
    """What is to be done for an agent now."""

    NOTHING = "nothing"
    TOKEN = "token"  # noqa: S105 - a word, not a secret
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """What an agent was given.

    Attributes:
        agent_id: Its SPIFFE id.
        certificate_chain_pem: Its certificate first.
        obtained_at: When, by our clock.
        not_after: When the certificate ends.
        renew_at: When it is to be renewed.
        token: Its token.
        token_obtained_at: When, by our clock.
        token_expires_at: When the token ends.
        owner: Who is bound to it; empty for nobody.
        capabilities: What it is allowed.
    """

    agent_id: str
    certificate_chain_pem: str
    obtained_at: datetime
    not_after: datetime
    renew_at: datetime
    token: str = field(repr=False)
    token_obtained_at: datetime
    token_expires_at: datetime
    owner: str = ""
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What an agent asks for.

    Attributes:
        capabilities: In canonical order.
        locator: Where it is reached; empty if that is nobody's business.
        validation_methods: How a registry may have it prove itself, in canonical order.
        group: The group of this machine that may read certificate and token; empty for none.
        owner_binding: What its owner signed; empty before.
        provider_endorsement: Its provider's envelope, JSON; empty without.
    """

    capabilities: tuple[str, ...] = ()
    locator: str = ""
    validation_methods: tuple[str, ...] = ()
    group: str = ""
    owner_binding: str = ""
    provider_endorsement: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRecord:
    """What is kept of one agent.

    Attributes:
        name: Unique on this device.
        key: Its key, wrapped.
        wish: What it asks for.
        certified: What it was given; None before.
        asked: A certificate was asked for on this machine, and is to be got now.
        failures: Failed requests in a row.
        retry_at: Not before this moment is the next one made.
        fault: Why the last one failed; None when it did not.
    """

    name: AgentName
    key: WrappedKey
    wish: Wish = field(default_factory=Wish)
    certified: Certified | None = None
    asked: bool = False
    failures: int = 0
    retry_at: datetime | None = None
    fault: Fault | None = None

    @property
    def thumbprint(self) -> str:
        """RFC 7638 thumbprint of its key."""
        from attestation.wire.jwk import thumbprint  # noqa: PLC0415 - a megabyte; many have none

        return thumbprint(parse_public(self.key.public).key)


@dataclass(frozen=True, slots=True, kw_only=True)
class TendingDone:
    """What came of looking after the agents.

    Attributes:
        served: How many agents something was done for.
        attested: Evidence was sent for one: a challenge that the device holds is older now.
        ima_next: The first IMA entry that the verifier wants next time; None if none were sent.
        fault: The first thing that went wrong; None if all went well.
    """

    served: int = 0
    attested: bool = False
    ima_next: int | None = None
    fault: DeviceAgentError | None = None


def due(record: AgentRecord, at: datetime) -> Due:
    """Say what is to be done for an agent now; nothing before its first certificate is asked for.

    A clock that went back since is met by asking at once: what is dated into the future is not
    relied on.
    """
    certified = record.certified
    if _ahead(record, at) or (certified is None and not record.asked):
        return Due.NOTHING
    if certified is None or record.asked:
        return Due.CERTIFICATE
    if at >= certified.renew_at or at < certified.obtained_at:
        return Due.CERTIFICATE
    life = max(certified.token_expires_at - certified.token_obtained_at, timedelta(0))
    if at >= certified.token_obtained_at + life * _TOKEN_SHARE or at < certified.token_obtained_at:
        return Due.TOKEN
    return Due.NOTHING


def _ahead(record: AgentRecord, at: datetime) -> bool:
    """Say whether the next try is still to come; one further away than any pause is none."""
    return record.retry_at is not None and at < record.retry_at <= at + _LONGEST_PAUSE


_LONGEST_PAUSE: Final = timedelta(days=7)


def renewed(record: AgentRecord, reply: AgentReply, moment: Moment, pacing: Pacing) -> AgentRecord:
    """Take a new certificate and its token."""
    begins = max(moment.at, reply.not_before or moment.at)
    life = max(reply.not_after - begins, timedelta(0))
    share = min(pacing.renewal.share + pacing.renewal.spread * moment.jitter, 1.0)
    return replace(
        record,
        certified=Certified(
            agent_id=reply.agent_id,
            certificate_chain_pem=reply.certificate_chain_pem,
            obtained_at=moment.at,
            not_after=reply.not_after,
            renew_at=begins + life * share,
            token=reply.token.token,
            token_obtained_at=moment.at,
            token_expires_at=reply.token.expires_at,
            owner=reply.owner,
            capabilities=reply.capabilities,
        ),
        asked=False,
        failures=0,
        retry_at=None,
        fault=None,
    )


def refreshed(record: AgentRecord, reply: TokenReply, moment: Moment) -> AgentRecord:
    """Take a new token."""
    if record.certified is None:
        return record
    certified = replace(
        record.certified,
        token=reply.token,
        token_obtained_at=moment.at,
        token_expires_at=reply.expires_at,
    )
    return replace(record, certified=certified, failures=0, retry_at=None, fault=None)


def failed(record: AgentRecord, fault: Fault, moment: Moment, pacing: Pacing) -> AgentRecord:
    """Note a failure, and when to try again: soon where time mends it, else after a long pause."""
    seconds = pacing.backoff.delay_s(record.failures, moment.jitter)
    if fault.code not in _MEND_THEMSELVES:
        seconds = max(seconds, pacing.refused_s * (0.8 + 0.2 * moment.jitter))
    return replace(
        record,
        failures=record.failures + 1,
        retry_at=moment.at + timedelta(seconds=seconds),
        fault=fault,
    )


_MEND_THEMSELVES: Final = TRANSIENT_REFUSALS | {
    RefusalCode.CONFLICT,
    RefusalCode.TPM_BUSY,
    RefusalCode.TPM_UNAVAILABLE,
    RefusalCode.VERIFIER_UNREACHABLE,
}


def troubles(records: Sequence[AgentRecord], at: datetime) -> tuple[str, ...]:
    """Say in words whose certificate has ended, or may end because it could not be renewed."""
    found = []
    for record in records:
        certified = record.certified
        if certified is None:
            continue
        if certified.not_after <= at:
            found.append(f"{record.name}: its certificate has ended{_why(record)}")
        elif record.fault is not None:
            found.append(f"{record.name}: the last request failed{_why(record)}")
    return tuple(found)


def _why(record: AgentRecord) -> str:
    return f": {record.fault.code}: {record.fault.reason}" if record.fault is not None else ""
