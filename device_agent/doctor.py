"""``device-agent check``: every prerequisite with a verdict, a reason and a mend.

Looks, and changes nothing but a probe file in the state directory. Each check stands alone: one
that cannot be made because an earlier one failed is left out, not guessed.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from attestation.errors import AttestationError
from attestation.logs.ima.aggregate import BOOT_AGGREGATE
from attestation.logs.ima.framing import ImaEntry, walk
from attestation.logs.ima.template import read_template, show
from attestation.refusals import RefusalCode
from attestation.tpm.public import parse_public
from device_agent.agents import AgentRecord
from device_agent.checks import (
    Check,
    Grade,
    check_agents,
    check_clock,
    check_enrolment,
    check_keys,
    failure,
)
from device_agent.collector import Sources
from device_agent.errors import DeviceAgentError, VerifierRefused
from device_agent.measure.build import survey_agent
from device_agent.measure.plan import difference_words
from device_agent.ports import KeyRole, Tpm, TpmStatus
from device_agent.settings import MqttSettings, Settings
from device_agent.state.files import SavedState
from device_agent.transport.client import server_context

_PROBE_NAME: Final = ".probe"


class Prober(Protocol):
    """The verifier as far as the doctor needs it."""

    def probe(self, role: KeyRole | None) -> tuple[datetime | None, str]:
        """Return the verifier's clock and the TLS version."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """What is examined.

    Attributes:
        settings: The effective settings.
        sources: TPM, firmware log and host facts.
        verifier: The verifier.
        saved: What the state file holds; None without one that can be read.
        tls_self_test: Raises if TLS with a TPM key cannot work here.
        now: The wall clock.
        agents: The records of AI agents.
    """

    settings: Settings
    sources: Sources
    verifier: Prober
    saved: SavedState | None
    tls_self_test: Callable[[], object]
    now: Callable[[], datetime]
    agents: Sequence[AgentRecord] = ()


def examine(patient: Patient) -> tuple[Check, ...]:
    """Make every check, in the order in which one would mend them."""
    checks = list(_tpm(patient))
    checks.append(_firmware_log(patient))
    checks.append(_ima_list(patient))
    checks.extend(_agent(patient))
    checks.append(_state_directory(Path(patient.settings.state.directory)))
    checks.append(_tls_seam(patient.tls_self_test))
    checks.extend(_verifier(patient))
    checks.extend(_result(patient))
    checks.append(check_enrolment(patient.saved, patient.now()))
    checks.extend(check_agents(patient.agents, patient.now()))
    checks.append(_broker(patient.settings.mqtt))
    return tuple(checks)


def _tpm(patient: Patient) -> Iterator[Check]:
    tpm, trust = patient.sources.tpm, patient.sources.trust
    try:
        status = tpm.status()
    except DeviceAgentError as error:
        yield failure("tpm", error, "check tpm.tcti, the device node and group tss")
        return
    yield Check(
        name="tpm",
        grade=Grade.OK,
        reason=f"{status.manufacturer.strip()}, firmware {status.firmware_version:#018x}",
    )
    yield _lockout(status)
    yield _banks(status)
    yield from check_keys(tpm, patient.saved, with_idevid=trust.idevid)
    if trust.tpm_ek:
        yield _endorsement_key(tpm)


def _endorsement_key(tpm: Tpm) -> Check:
    try:
        told = tpm.endorsement()
    except DeviceAgentError as error:
        return failure("endorsement key", error, "see docs/enrolment.md, or enrol by IDevID")
    digest = hashlib.sha256(parse_public(told.public).spki_der).hexdigest()
    certified = "with a certificate" if told.certificate is not None else "without a certificate"
    return Check(
        name="endorsement key",
        grade=Grade.OK,
        reason=f"{told.template}, {certified}; digest for an allow list: {digest}",
    )


def _lockout(status: TpmStatus) -> Check:
    seen = f"{status.lockout_counter} of {status.max_auth_fail} failed authorisations"
    if status.in_lockout:
        return Check(
            name="tpm lockout",
            grade=Grade.FAIL,
            reason=f"dictionary-attack lockout is in force ({seen})",
            mend="wait for the TPM to forgive, or tpm2_dictionarylockout with the lockout password",
        )
    grade = Grade.WARN if status.lockout_counter else Grade.OK
    return Check(name="tpm lockout", grade=grade, reason=seen)


def _banks(status: TpmStatus) -> Check:
    banks = ", ".join(status.banks) or "none"
    if "sha256" in status.banks or "sha384" in status.banks:
        return Check(name="tpm banks", grade=Grade.OK, reason=f"PCR banks: {banks}")
    return Check(
        name="tpm banks",
        grade=Grade.FAIL,
        reason=f"PCR banks: {banks}; SHA-1 alone is not accepted",
        mend="allocate the SHA-256 bank (firmware setup, or tpm2_pcrallocate) and restart",
    )


def _firmware_log(patient: Patient) -> Check:
    try:
        log = patient.sources.firmware_log.read()
    except DeviceAgentError as error:
        return failure("firmware log", error, "see docs/install.md on the right to read it")
    if log is None:
        return Check(
            name="firmware log",
            grade=Grade.WARN,
            reason="there is none; the verifier can judge PCR values only as a whole",
            mend="mount securityfs, or set evidence.firmware_log",
        )
    return Check(name="firmware log", grade=Grade.OK, reason=f"{len(log)} bytes")


def _ima_list(patient: Patient) -> Check:
    """Say what the kernel's IMA list holds; whether it is asked for is the verifier's word."""
    name, path = "ima list", patient.settings.evidence.ima_list
    none = "or empty evidence.ima_list if the verifier asks for no list"
    source = patient.sources.ima_list
    if source is None or not path:
        return Check(name=name, grade=Grade.OK, reason="not sent (evidence.ima_list is empty)")
    try:
        part = source.read_from(0)
        entries = tuple(walk(part.content)) if part is not None else ()
        why, mend = _doubt(entries)
    except DeviceAgentError as error:
        long = error.code == RefusalCode.IMA_LIST_TOO_LONG
        mend = "boot the machine again, then measure less (docs/runtime-policy.md)"
        return failure(name, error, mend if long else "see docs/install.md on the right to read it")
    except AttestationError as error:
        reason = f"cannot be read: {error.describe()}; the verifier would refuse it"
        mend = "use a template that is known (docs/runtime-policy.md), or empty evidence.ima_list"
        return Check(name=name, grade=Grade.FAIL, reason=reason, mend=mend)
    if not entries:
        there = Path(path).exists()
        why = "the kernel's list is empty" if there else f"there is none at {path}"
        mend = "boot with ima_policy=tcb (docs/runtime-policy.md)"
        mend += "" if there else " on a kernel with CONFIG_IMA, and mount securityfs"
    number = f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}"
    return Check(
        name=name,
        grade=Grade.WARN if why else Grade.OK,
        reason="; ".join(word for word in (number if entries else "", why) if word),
        mend=f"{mend}; {none}" if why else "",
    )


def _doubt(entries: Sequence[ImaEntry]) -> tuple[str, str]:
    """Return what makes a list worth little, and the mend; empty if nothing does.

    Raises:
        InputError: If the first entry's template data cannot be read.
    """
    if not entries or entries[0].is_violation:
        return "", ""
    first = read_template(entries[0].template, entries[0].data, 0)
    if first.path != BOOT_AGGREGATE:
        return (
            f"it begins with {show(first.path)}, not with boot_aggregate",
            "boot the machine again",
        )
    if not any(first.value):
        return (
            "the kernel found no TPM when it began to measure, so nothing proves the list",
            "build the TPM's driver into the kernel (docs/runtime-policy.md)",
        )
    if len(entries) == 1:
        return (
            "only boot_aggregate: the kernel has no IMA policy and measures nothing",
            "boot with ima_policy=tcb, or write /etc/ima/ima-policy (docs/runtime-policy.md)",
        )
    return "", ""


def _agent(patient: Patient) -> Iterator[Check]:
    """Look at the AI agent's folder; touches neither PCR nor log."""
    agent = patient.settings.agent
    if not agent.root:
        return
    try:
        survey = survey_agent(agent, patient.now)
    except DeviceAgentError as error:
        yield failure("agent", error, "correct [agent], or give the daemon's user the right to it")
        return
    difference = survey.difference
    if survey.listing is None or difference is None:
        mend = "mend the AIBOM; the verifier refuses it too"
        yield Check(name="agent", grade=Grade.FAIL, reason=survey.trouble, mend=mend)
        return
    seen = f"{survey.listing.name}: {len(survey.present)} files in {agent.root}"
    words = difference_words(difference)
    yield Check(
        name="agent",
        grade=Grade.WARN if words or not survey.complete else Grade.OK,
        reason=f"{seen}; {words}" if words else f"{seen}, all as its AIBOM lists them",
        mend="device-agent measure names them" if words else "",
    )


def _state_directory(directory: Path) -> Check:
    probe = directory / _PROBE_NAME
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe.write_bytes(b"probe")
        probe.unlink()
    except OSError as error:
        return Check(
            name="state directory",
            grade=Grade.FAIL,
            reason=f"{directory}: {error.strerror}",
            mend="free space, or give the directory to the daemon's user",
        )
    return Check(name="state directory", grade=Grade.OK, reason=f"{directory} is writable")


def _tls_seam(self_test: Callable[[], object]) -> Check:
    try:
        self_test()
    except DeviceAgentError as error:
        return failure("tls seam", error, "use a Python whose ssl links the system's libcrypto 3")
    return Check(name="tls seam", grade=Grade.OK, reason="a TPM key can sign TLS here")


def _verifier(patient: Patient) -> Iterator[Check]:
    before = patient.now()
    try:
        theirs, tls = patient.verifier.probe(None)
    except VerifierRefused:
        # It refused us for want of a certificate, so it proved itself and is there.
        yield Check(name="verifier", grade=Grade.OK, reason="reachable and trusted")
        return
    except DeviceAgentError as error:
        yield failure("verifier", error, "check verifier.url, verifier.ca_file and the network")
        return
    yield Check(name="verifier", grade=Grade.OK, reason=f"reachable and trusted ({tls})")
    if theirs is not None:
        yield check_clock(before, theirs)


def _result(patient: Patient) -> Iterator[Check]:
    """Look for the result that is shown in place of evidence; nothing where evidence is."""
    name, place = "result", patient.settings.enrolment.result
    if patient.sources.result is None:
        return
    try:
        patient.sources.result.read()
    except DeviceAgentError as error:
        mend = "attest to the verifier that judges, or empty enrolment.result to send evidence"
        yield failure(name, error, mend)
        return
    reason = f"the newest in {place} is shown at enrolment in place of evidence"
    yield Check(name=name, grade=Grade.OK, reason=reason)


def _broker(mqtt: MqttSettings) -> Check:
    if not mqtt.enabled:
        return Check(name="mqtt", grade=Grade.OK, reason="not enabled")
    place = f"{mqtt.host}:{mqtt.port}"
    try:
        context = server_context(mqtt.ca_file, "mqtt.ca_file")
        with (
            socket.create_connection((mqtt.host, mqtt.port), timeout=5) as raw,
            context.wrap_socket(raw, server_hostname=mqtt.host) as tls,
        ):
            reason = f"{place} reachable and trusted ({tls.version()})"
    except DeviceAgentError as error:
        return failure("mqtt", error, "correct mqtt.ca_file")
    except OSError as error:
        return Check(
            name="mqtt",
            grade=Grade.FAIL,
            reason=f"{place}: {error.strerror or error}",
            mend="check mqtt.host, mqtt.port, mqtt.ca_file and the broker",
        )
    return Check(name="mqtt", grade=Grade.OK, reason=reason)
