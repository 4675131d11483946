"""Puts the measuring of the AI agent together from the settings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from attestation.limits import MAX_AIBOM_BYTES
from attestation.refusals import RefusalCode
from device_agent.errors import DeviceAgentError, SettingsInvalid, SourceUnreadable
from device_agent.measure.agent_log import AgentPlace, MeasuredAgent, Survey, Surveyor
from device_agent.measure.log_file import AgentLogFile
from device_agent.measure.patterns import Excludes, compile_excludes
from device_agent.measure.register import UNWATCHED, MeasuredRegister, Watch
from device_agent.ports import AgentLog, Tpm
from device_agent.settings import AgentSettings, Settings


def measured_agent(
    settings: Settings,
    tpm: Tpm,
    boot_id: str,
    now: Callable[[], datetime],
    watch: Watch,
) -> MeasuredAgent | None:
    """Return the agent as the daemon measures it; None if no agent is configured.

    Args:
        settings: For ``[agent]`` and the state directory.
        tpm: Whose PCR is extended.
        boot_id: The kernel's id of this boot.
        now: The wall clock.
        watch: Who is kept informed.

    Raises:
        SettingsInvalid: If a pattern of ``agent.exclude`` is wrong.
    """
    agent = settings.agent
    if not agent.root:
        return None
    excludes = _excludes(agent)
    file = AgentLogFile(Path(settings.state.directory), boot_id)
    return MeasuredAgent(
        _surveyor(agent, excludes, now, watch),
        MeasuredRegister(tpm, agent.pcr, file, watch),
        excludes,
        watch,
    )


def survey_agent(agent: AgentSettings, now: Callable[[], datetime]) -> Survey:
    """Say what would be measured now; touches no TPM and no log.

    Raises:
        SettingsInvalid: If no agent is configured, or a pattern is wrong.
        SourceUnreadable: If its AIBOM or folder cannot be read.
    """
    if not agent.root:
        raise SettingsInvalid("no agent is configured; set agent.root and agent.aibom")
    return _surveyor(agent, _excludes(agent), now, UNWATCHED).survey()


def measure_first(agent: AgentLog | None, watch: Watch) -> None:
    """Measure once before anything else is done, so that the log begins early in this boot."""
    if agent is None:
        return
    try:
        agent.read()
    except DeviceAgentError as error:
        watch.report(f"{error.code}: {error.reason}")


def aibom_digest(path: Path | None) -> bytes:
    """Return the SHA-256 of the AIBOM that the agent is measured against.

    Raises:
        SettingsInvalid: If no agent is measured on this device.
        SourceUnreadable: If it cannot be read, or is too large.
    """
    if path is None:
        raise SettingsInvalid("the agent's class wants its AIBOM: set agent.root and agent.aibom")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_AIBOM_BYTES + 1)
    except OSError as error:
        raise SourceUnreadable(
            RefusalCode.SOURCE_UNREADABLE, f"{path} cannot be read: {error.strerror}"
        ) from error
    if len(content) > MAX_AIBOM_BYTES:
        raise SourceUnreadable(
            RefusalCode.SOURCE_UNREADABLE, f"{path} is larger than {MAX_AIBOM_BYTES} bytes"
        )
    return hashlib.sha256(content).digest()


def _surveyor(
    agent: AgentSettings, excludes: Excludes, now: Callable[[], datetime], watch: Watch
) -> Surveyor:
    place = AgentPlace(root=Path(agent.root), aibom=Path(agent.aibom), excludes=excludes)
    return Surveyor(place, now, watch)


def _excludes(agent: AgentSettings) -> Excludes:
    try:
        return compile_excludes(pattern for pattern in agent.exclude.split(":") if pattern)
    except ValueError as error:
        raise SettingsInvalid(f"agent.exclude: {error}") from error
