"""Where the AI agents of a device are kept, and looking after them only if there are any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent.agents import TendingDone
from device_agent.errors import DeviceAgentError
from device_agent.settings import Settings
from device_agent.state.agents import AgentShelf

if TYPE_CHECKING:
    from device_agent.tending import AgentTender


def agent_shelf(settings: Settings) -> AgentShelf:
    """Return where the AI agents' records, certificates and tokens are."""
    folder = Path(settings.agent.folder) if settings.agent.folder else None
    return AgentShelf(Path(settings.state.directory), folder)


class OnceThereAreAgents:
    """Implements :class:`device_agent.loop.Tender`; costs nothing on a device without AI agents.

    Args:
        shelf: Where agents would be.
        tender: Makes what looks after them.
    """

    def __init__(self, shelf: AgentShelf, tender: Callable[[], AgentTender]) -> None:
        self._shelf = shelf
        self._make = tender
        self._made: AgentTender | None = None

    def tend(self, *, anew: bool = False) -> TendingDone:
        """Look after the agents, if there are any."""
        try:
            if not self._shelf.names():
                return TendingDone()
        except DeviceAgentError as error:
            return TendingDone(fault=error)
        self._made = self._made or self._make()
        return self._made.tend(anew=anew)
