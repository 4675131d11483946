"""AI agents as operators see them: list, show, revoke."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from attestation.identity import agent_name, device_id
from attestation.refusals import RefusalCode
from verifier.errors import NotFound, RequestRefused
from verifier.issuance.reasons import Reason
from verifier.ports import Store
from verifier.ports.credentials import AgentRecord, StoredCertificate
from verifier.services.devices import unknown_device


class AgentRecords:
    """What operators ask about agents.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def all(self, device: str) -> Sequence[AgentRecord]:
        """Return the agents of a device by name.

        Raises:
            NotFound: ``device-unknown``.
        """
        wanted = device_id(device)
        if self._store.device(wanted) is None:
            raise unknown_device(device)
        return self._store.agents(wanted)

    def show(self, device: str, name: str) -> tuple[AgentRecord, StoredCertificate | None]:
        """Return an agent and its newest certificate.

        Raises:
            NotFound: ``agent-unknown``.
        """
        found = self._store.agent(device_id(device), agent_name(name))
        if found is None:
            raise _unknown(device, name)
        return found, self._store.certificate(found.certificate_sha256)

    def revoke(self, device: str, name: str, reason: str, at: datetime) -> AgentRecord:
        """Revoke an agent and all its certificates, for good: its name is not given again.

        Raises:
            NotFound: ``agent-unknown``.
            RequestRefused: Without a reason.
        """
        if not reason.strip():
            raise RequestRefused(RefusalCode.REQUEST_INVALID, "say why: --reason")
        found, _ = self.show(device, name)
        with self._store.work() as work:
            if not work.revoke_agent(
                found.device, found.name, Reason.PRIVILEGE_WITHDRAWN.value, reason, at
            ):
                raise _unknown(device, name)
        return found


def _unknown(device: str, name: str) -> NotFound:
    return NotFound(RefusalCode.AGENT_UNKNOWN, f"no agent {name!a} is enrolled on {device!a}")
