"""Composition root: settings in, wired daemon out. Owns the signals.

The only file that constructs adapters; every command of ``device_agent.cli`` gets its parts here.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.tpm.templates import KeyTemplate
from device_agent import telemetry
from device_agent.agents_kept import OnceThereAreAgents, agent_shelf
from device_agent.clock import elapsed_s, jitter, wall_clock
from device_agent.collector import InitialTrust, Sources
from device_agent.errors import SettingsInvalid, StateUnwritable
from device_agent.lifecycle import Credential, Moment
from device_agent.loop import Clock, DaemonLoop, Identity
from device_agent.measure.build import aibom_digest, measure_first, measured_agent
from device_agent.measure.register import UNWATCHED, Watch
from device_agent.notify import SystemdNotifier, watchdog_interval_s
from device_agent.pacing import Pacing, Renewal
from device_agent.ports import AgentKeys, Enroller, KeyRole, Publisher, Tpm
from device_agent.result_kept import KeptResult
from device_agent.settings import EnrolmentSettings, Settings, require_verifier
from device_agent.sources.cloud import CloudFiles
from device_agent.sources.firmware_log import FirmwareLogFile
from device_agent.sources.host import HostFacts
from device_agent.sources.ima_list import ImaListFile
from device_agent.state.files import StateFile, StateHeld
from device_agent.telemetry import Log
from device_agent.transport.backoff import Backoff
from device_agent.transport.client import HttpsVerifier, server_context
from device_agent.transport.identities import TlsIdentities

if TYPE_CHECKING:
    from device_agent.mqtt.publisher import BrokerReport, BrokerState
    from device_agent.tending import AgentTender
    from device_agent.tpm.adapter import EsapiTpm

VERSION: Final = "0.1.0"
"""This package's version (a test holds it to pyproject.toml: reading it from the installed
metadata would cost the daemon three megabytes)."""


class StopSignal:
    """SIGTERM and SIGINT as a wait that ends early; a pipe, so that no signal is ever lost."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopped = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Catch the signals while the context lasts."""
        before = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, was in before.items():
                signal.signal(number, was)

    def pause(self, seconds: float) -> bool:
        """Wait so many seconds; True at once when the daemon shall stop."""
        if not self._stopped:
            select.select([self._reading], [], [], max(0.0, seconds))
        return self._stopped

    def stop(self) -> None:
        """Ask to stop; safe in a signal's callback and from another thread."""
        self._stopped = True
        with suppress(BlockingIOError):
            os.write(self._writing, b"x")

    def _on_signal(self, _number: int, _frame: object) -> None:
        self.stop()


class LdevidIdentity:
    """Implements :class:`device_agent.loop.Identity`: the verifier's LDevID door and the broker.

    Args:
        settings: For ``[mqtt]``.
        identities: Where the credential goes.
        verifier: Whose LDevID connection must change with it.
        facts: What each status document holds.
        report: Told of the broker's changes.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        identities: TlsIdentities,
        verifier: HttpsVerifier,
        facts: Mapping[str, object],
        report: BrokerReport,
    ) -> None:
        self._mqtt = settings.mqtt
        self._identities = identities
        self._verifier = verifier
        self._facts = facts
        self._report = report

    def use(self, credential: Credential | None) -> Publisher | None:
        """Speak with this certificate from now on; None to fall silent."""
        self._identities.credential = credential
        self._verifier.forget(KeyRole.LDEVID)
        if credential is None or not self._mqtt.enabled:
            return None
        from device_agent.mqtt.publisher import Broker, MqttPublisher  # noqa: PLC0415 - if enabled

        context = server_context(self._mqtt.ca_file, "mqtt.ca_file")
        self._identities.dress(context, KeyRole.LDEVID)
        return MqttPublisher(
            broker=Broker(
                host=self._mqtt.host,
                port=self._mqtt.port,
                prefix=self._mqtt.prefix,
                keepalive_s=self._mqtt.keepalive_s,
                will_delay_s=self._mqtt.will_delay_s,
            ),
            device=credential.device_id,
            context=context,
            facts=self._facts,
            report=self._report,
        )


class DaemonTpm(Tpm, AgentKeys, Protocol):
    """The TPM as the daemon uses it, for the device and for its AI agents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The wired parts that the commands share."""

    settings: Settings
    sources: Sources
    host: HostFacts
    verifier: HttpsVerifier
    enroller: Enroller
    identities: TlsIdentities
    store: StateFile
    intermediates: tuple[bytes, ...]
    tls_self_test: Callable[[], object]


def open_tpm(settings: Settings) -> EsapiTpm:
    """Return the TPM of the settings; nothing is opened before it is first used.

    Raises:
        SettingsInvalid: If TCTI or handles are wrong.
    """
    from device_agent.tpm.adapter import EsapiTpm  # noqa: PLC0415 - libtss2 only when needed
    from device_agent.tpm.layout import TpmLayout  # noqa: PLC0415

    given = settings.tpm
    layout = TpmLayout(
        template=KeyTemplate(given.template),
        srk_handle=given.srk_handle,
        idevid_handle=given.idevid_handle,
        iak_handle=given.iak_handle,
        ldevid_handle=given.ldevid_handle,
        ldevid_2_handle=given.ldevid_2_handle,
        idevid_certificate_nv=given.idevid_certificate_nv,
        iak_certificate_nv=given.iak_certificate_nv,
    )
    return EsapiTpm(given.tcti, layout=layout)


def read_chain(path: str) -> tuple[bytes, ...]:
    """Return the certificates of a PEM file as DER; none for an empty path.

    Raises:
        SettingsInvalid: If the file cannot be read or holds no certificate.
    """
    if not path:
        return ()
    try:
        certificates = x509.load_pem_x509_certificates(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsInvalid(f"tpm.chain_file {path} cannot be used: {error}") from error
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)


def _path(setting: str) -> Path | None:
    return Path(setting) if setting else None


def initial_trust(settings: Settings) -> InitialTrust:
    """Return what the device shows of itself, from the settings."""
    given = settings.enrolment
    aws, azure = _path(given.aws_document), _path(given.azure_token)
    return InitialTrust(
        idevid=given.initial_trust != "tpm-ek",
        tpm_ek=given.initial_trust != "idevid",
        cloud=CloudFiles(aws_document=aws, azure_token=azure) if aws or azure else None,
    )


def _enrols_as(trust: InitialTrust, identities: TlsIdentities) -> KeyRole | None:
    """Say whose certificate an enrolment shows: without an IDevID the one that it renews."""
    if trust.idevid:
        return KeyRole.IDEVID
    return KeyRole.LDEVID if identities.credential is not None else None


def _door(given: EnrolmentSettings, https: HttpsVerifier, tpm: Tpm, own: TlsIdentities) -> Enroller:
    """Return the door to enrol by."""
    if given.door != "est":
        return https
    from device_agent.transport.est import est_door  # noqa: PLC0415 - for those who use it

    return est_door(given, https, tpm, lambda: own.credential)


def assemble(settings: Settings, tpm: Tpm, watch: Watch = UNWATCHED) -> Parts:
    """Wire the parts that talk to the verifier; ``watch`` is told of the AI agent's measuring.

    Raises:
        SettingsInvalid: If the settings name no verifier, or a file that cannot be used.
    """
    from device_agent.tpm.tls import (  # noqa: PLC0415 - libssl only when needed
        self_test,
        signing_failure,
        use_tpm_key,
    )

    require_verifier(settings)
    server_context(settings.verifier.ca_file, "verifier.ca_file")
    if settings.mqtt.enabled:
        server_context(settings.mqtt.ca_file, "mqtt.ca_file")
    intermediates = read_chain(settings.tpm.chain_file)
    identities = TlsIdentities(tpm, intermediates, use_tpm_key)
    evidence, trust = settings.evidence, initial_trust(settings)
    passport = _path(settings.enrolment.result)
    host = HostFacts(agent_version=VERSION)
    verifier = HttpsVerifier(
        url=settings.verifier.url,
        ca_file=settings.verifier.ca_file,
        dress=identities.dress,
        key_failure=signing_failure,
        enrols_as=lambda: _enrols_as(trust, identities),
        connect_timeout_s=settings.verifier.connect_timeout_s,
        read_timeout_s=settings.verifier.read_timeout_s,
    )
    return Parts(
        settings=settings,
        sources=Sources(
            tpm=tpm,
            firmware_log=FirmwareLogFile(_path(evidence.firmware_log)),
            host=host,
            ima_list=ImaListFile(_path(evidence.ima_list)),
            agent_log=measured_agent(settings, tpm, host.boot_id, wall_clock, watch),
            trust=trust,
            result=KeptResult(passport) if passport is not None else None,
        ),
        host=host,
        verifier=verifier,
        enroller=_door(settings.enrolment, verifier, tpm, identities),
        identities=identities,
        store=StateFile(Path(settings.state.directory)),
        intermediates=intermediates,
        tls_self_test=self_test,
    )


def tender_of(parts: Parts, tpm: AgentKeys, log: Log, pulse: Callable[[], None]) -> AgentTender:
    """Wire what looks after the AI agents of a device whose parts speak as its LDevID."""
    from device_agent.tending import AgentTender  # noqa: PLC0415 - for devices with agents

    aibom = Path(parts.settings.agent.aibom) if parts.settings.agent.aibom else None
    return AgentTender(
        sources=parts.sources,
        keys=tpm,
        verifier=parts.verifier,
        shelf=agent_shelf(parts.settings),
        pacing=pacing_of(parts.settings),
        now=lambda: Moment(at=wall_clock(), elapsed_s=elapsed_s(), jitter=jitter()),
        aibom_digest=lambda: aibom_digest(aibom),
        log=log,
        pulse=pulse,
    )


def pacing_of(settings: Settings) -> Pacing:
    """Return the daemon's schedules from the settings."""
    return Pacing(
        backoff=Backoff(base_s=settings.retry.base_s, cap_s=settings.retry.cap_s),
        refused_s=settings.retry.refused_s,
        interval_min_s=settings.evidence.interval_min_s,
        interval_max_s=settings.evidence.interval_max_s,
        renewal=renewal_of(settings),
    )


def renewal_of(settings: Settings) -> Renewal:
    """Return when certificates are renewed and keys exchanged, from the settings."""
    given = settings.renewal
    return Renewal(
        share=given.share,
        spread=given.spread,
        rotate_after=timedelta(seconds=given.rotate_after_s) if given.rotate_after_s else None,
        skew=timedelta(seconds=given.clock_skew_s),
    )


def run_daemon(settings: Settings, tpm: DaemonTpm, stop: StopSignal | None = None) -> None:
    """Run the daemon until SIGTERM.

    Raises:
        SettingsInvalid: If the settings cannot work.
        StateHeld: If another device-agent holds the state directory.
    """
    log = telemetry.open_log(settings.log.level, settings.log.format, wall_clock)
    notifier = SystemdNotifier(os.environ)
    watch = Watch(report=telemetry.agent_report(log), alive=notifier.watchdog)
    parts = assemble(settings, tpm, watch)
    stop = stop or StopSignal()
    facts = {"boot_id": parts.host.boot_id, "fw": f"device-agent {VERSION}"}
    identity: Identity = LdevidIdentity(
        settings=settings,
        identities=parts.identities,
        verifier=parts.verifier,
        facts=facts,
        report=_broker_report(log),
    )
    loop = DaemonLoop(
        sources=parts.sources,
        verifier=parts.verifier,
        enroller=parts.enroller,
        identity=identity,
        store=parts.store,
        notifier=notifier,
        clock=Clock(
            wall=wall_clock,
            elapsed_s=elapsed_s,
            jitter=jitter,
            pause=stop.pause,
        ),
        pacing=pacing_of(settings),
        log=log,
        intermediates=parts.intermediates,
        watchdog_s=watchdog_interval_s(os.environ),
        agents=OnceThereAreAgents(
            agent_shelf(settings), lambda: tender_of(parts, tpm, log, notifier.watchdog)
        ),
    )
    try:
        parts.store.claim()
    except StateHeld:
        raise
    except StateUnwritable as error:
        # A full or read-only disk is no reason to stop attesting.
        log.warning(telemetry.STATE_UNWRITABLE, reason=error.reason)
    try:
        with stop.installed():
            log.info(telemetry.DAEMON_STARTED, version=VERSION, pid=os.getpid())
            measure_first(parts.sources.agent_log, watch)
            loop.run()
    finally:
        parts.verifier.close()
        parts.store.release()
        notifier.close()
    log.info(telemetry.DAEMON_STOPPED)


def _broker_report(log: telemetry.Log) -> BrokerReport:
    def report(state: BrokerState, reason: str) -> None:
        write: Callable[..., object] = log.warning
        event = telemetry.BROKER_LOST
        if state == "connected":
            write, event = log.info, telemetry.BROKER_CONNECTED
        elif state == "refused":
            event = telemetry.BROKER_REFUSED
        write(event, reason=reason)

    return report
