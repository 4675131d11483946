"""The composition root: settings in, a wired verifier out."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from starlette.types import ASGIApp

from verifier.api.access import Guard
from verifier.api.app import build_app
from verifier.api.client_certificate import tls_context
from verifier.api.plain_door import PlainDoor
from verifier.api.server import HttpServer
from verifier.assembly import Parts, assemble
from verifier.decision.engine import PolicyRejected
from verifier.errors import Conflict, ServiceError, SettingsInvalid
from verifier.feeds.mqtt import Broker, ResultSink
from verifier.feeds.outbox import OutboxWorker
from verifier.feeds.queries import QueryResponder
from verifier.feeds.topics import Topics
from verifier.keys.ca_keys import CaKeys
from verifier.keys.credential_authority import CredentialAuthority
from verifier.keys.files import check_directory, read_file
from verifier.keys.ring import KeyRing
from verifier.policy_engine.rego import RegoEngine
from verifier.ports import DeviceIssuance
from verifier.services.decisions import Decisions
from verifier.services.rate import RateLimiter
from verifier.services.revocation import Revocation
from verifier.settings import Settings
from verifier.sources import (
    SystemClock,
    SystemEntropy,
    load_anchors,
    load_appraisal_policy,
    load_certificate_profiles,
    load_enrolment_rules,
    load_result_keys,
    new_key,
    nonce_ttl,
    result_lifetime,
    revocation_policy_named,
    version,
)
from verifier.store.group_commit import GroupCommit
from verifier.store.group_writer import GroupWriter
from verifier.store.migrate import schema_state
from verifier.store.sql_store import SqlStore, open_store
from verifier.telemetry import Metrics, logger

FLUSH_S: Final = 5.0
"""How long a stopping verifier goes on telling what it has recorded."""

PLAIN_CONNECTIONS: Final = 512
"""Held at once by the plain HTTP door, which anyone may fill: the devices' door has its own."""

UPKEEP_S: Final = 600.0

AUTHORITY_S: Final = 1.0
"""How often a verifier that issues nothing looks at its authority's register."""
TEND_S: Final = 2.0
"""How often planned ends are looked for."""

SWEEP: Final = timedelta(minutes=1)
"""Between two looks through all devices for stale ones."""


def load_engine(settings: Settings) -> RegoEngine:
    """Load the decision policy.

    Raises:
        SettingsInvalid: If it cannot be read, or the engine does not take it.
    """
    named = settings.policy.rego
    try:
        text = (
            Path(named).read_text(encoding="utf-8")
            if named
            else (resources.files("verifier.policies") / "device_decision.rego").read_text()
        )
        return RegoEngine(text, config={"allow_warning": settings.policy.allow_warning})
    except OSError as error:
        raise SettingsInvalid(f"policy.rego {named!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsInvalid(f"policy.rego {named!r} is not UTF-8 text") from error
    except PolicyRejected as error:
        raise SettingsInvalid(f"policy.rego {named or '(packaged)'}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Feeds:
    """What tells results; all None while [mqtt] is off."""

    broker: Broker
    worker: OutboxWorker


class PlainServer:
    """The plain HTTP door in a thread of its own.

    Args:
        server: Bound.
    """

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve, args=(_nothing,), name="plain-http")

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Finish requests in progress, then return."""
        self._server.finish()
        self._thread.join()


class Verifier:
    """Everything wired. Construct, :meth:`start`, serve :attr:`app`, :meth:`stop`.

    Args:
        settings: The configuration.

    Raises:
        SettingsInvalid: If keys, policies or roots cannot be used.
        Unavailable: If the store cannot be reached.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = SystemClock()
        self.entropy = SystemEntropy()
        self.metrics = Metrics()
        self._log = logger("main")
        self._directory = Path(settings.keys.directory)
        check_directory(self._directory)
        self.boot_id = self.entropy.take(4).hex()
        self.policy = load_appraisal_policy(settings)
        self.revocation = revocation_policy_named(settings.policy.revocation, "policy.revocation ")
        self.lifetime = result_lifetime(settings, self.policy)
        if nonce_ttl(settings, self.policy) >= self.lifetime:
            raise SettingsInvalid(
                "policy.nonce_ttl_s must be below results.lifetime_s: a result is believed from "
                "when its nonce was issued"
            )
        self.ring = KeyRing(self._directory)
        self.rules = load_enrolment_rules(settings)
        self.anchors = load_anchors(settings, self.rules)
        keys = CaKeys(self._directory, settings.authority, os.environ)
        self.authority = CredentialAuthority(self._directory, keys, self.clock)
        self.store: SqlStore = open_store(settings.store.url, with_outbox=bool(settings.mqtt.host))
        self.decisions = Decisions(
            store=self.store, engine=load_engine(settings), trust_domain=settings.trust.trust_domain
        )
        self.feeds = self._wire_feeds() if settings.mqtt.host else None
        wake = self.feeds.worker.wake if self.feeds else _nothing
        self.committer = GroupCommit(self.store.record, wake)
        self.issuing = GroupWriter[DeviceIssuance, int | Conflict](
            self.store.issue_all, "issuance-writer"
        )
        self.services = assemble(
            Parts(
                settings=settings,
                clock=self.clock,
                entropy=self.entropy,
                metrics=self.metrics,
                policy=self.policy,
                lifetime=self.lifetime,
                ring=self.ring,
                anchors=self.anchors,
                rules=self.rules,
                other_result_keys=load_result_keys(settings),
                profiles=load_certificate_profiles(settings, self.rules),
                authority=self.authority,
                revocation=self.revocation,
                new_key=new_key,
                store=self.store,
                decisions=self.decisions,
                recorder=self.committer,
                issuer_writer=self.issuing,
                wake=wake,
                unready=self._unready,
            )
        )
        self.app: ASGIApp = self._wire_app()
        self._plain = self._plain_server()
        self._stop, self._workers = threading.Event(), self._make_workers()

    def _make_workers(self) -> tuple[threading.Thread, ...]:
        return tuple(
            threading.Thread(target=target, name=name, daemon=True)
            for target, name in (
                (self._upkeep, "upkeep"),
                (self._follow_authority, "authority"),
                (self._tend, "revocation"),
            )
        )

    def _wire_feeds(self) -> Feeds:
        mqtt = self.settings.mqtt
        topics, log = Topics(mqtt.prefix), logger("feeds")
        broker = Broker(mqtt, log, f"{mqtt.client_id}-{self.boot_id}")
        responder = QueryResponder(
            broker=broker,
            topics=topics,
            decisions=self.decisions,
            clock=self.clock,
            rate=RateLimiter(per_second=mqtt.queries_per_s, burst=mqtt.queries_per_s * 4),
            metrics=self.metrics,
            log=log,
        )
        broker.subscribe(topics.all_requests(), responder.arrived)
        worker = OutboxWorker(
            store=self.store,
            sink=ResultSink(broker, topics),
            clock=self.clock,
            metrics=self.metrics,
            log=log,
        )
        return Feeds(broker=broker, worker=worker)

    def _wire_app(self) -> ASGIApp:
        guard = Guard(
            store=self.store,
            devices=self.services.cache,
            authorities=self.authority.subjects,
            admits_strangers=lambda: self.rules.policy.admits_strangers,
        )
        return build_app(
            services=self.services,
            guard=guard,
            limits=self.settings.limits,
            metrics=self.metrics,
            boot_id=self.boot_id,
            version=version(),
        )

    def start(self) -> None:
        """Start the workers (not the HTTPS door)."""
        if self.feeds is not None:
            self.feeds.broker.start()
            self.feeds.worker.start()
        for worker in self._workers:
            worker.start()
        if self._plain is not None:
            self._plain.start()

    def stop(self) -> None:
        """Commit what was judged, tell what was recorded (boundedly), close the store."""
        self._stop.set()
        if self._plain is not None:
            self._plain.stop()
        self.issuing.close()
        self.committer.close()
        if self.feeds is not None:
            left = self.feeds.worker.stop(FLUSH_S)
            self._log.info("outbox_flushed", left=left)
            self.feeds.broker.stop()
        self.store.close()
        self.authority.close()

    def healthy(self) -> bool:
        """Say whether all threads live, those that revoke by time too: the watchdog watches it."""
        workers = all(one.is_alive() for one in self._workers)
        return self.committer.alive and self.issuing.alive and workers

    def server(self) -> HttpServer:
        """Return the HTTPS door, bound but not yet serving.

        Raises:
            SettingsInvalid: If the TLS files or the address cannot be used.
        """
        door = self.settings.server
        certificate = Path(door.tls_certificate or self._directory / "tls.cert.pem")
        key = Path(door.tls_key or self._directory / "tls.key.pem")
        known = _pem((*self.anchors.certificates, *self.authority.certificates()))
        further = [read_file(Path(name)).decode() for name in door.client_ca]
        context = tls_context(certificate, key, "\n".join((known, *further)))
        self.authority.changed = lambda ours: context.load_verify_locations(cadata=_pem(ours))
        shown = x509.load_pem_x509_certificate(read_file(certificate))
        self.metrics.door_ends.set(shown.not_valid_after_utc.timestamp())
        listener = _listen(door.host, door.port, "[server]")
        return HttpServer(
            self.app,
            listener=listener,
            context=context,
            connections=self.settings.limits.connections,
        )

    def _plain_server(self) -> PlainServer | None:
        """Return the plain HTTP door, bound but not yet serving; None if it is off.

        Raises:
            SettingsInvalid: If the address cannot be used.
        """
        pki = self.settings.pki
        if not pki.http_port:
            return None
        return PlainServer(
            HttpServer(
                PlainDoor(self.app),
                listener=_listen(pki.http_host, pki.http_port, "[pki]"),
                context=None,
                connections=min(PLAIN_CONNECTIONS, self.settings.limits.connections),
            )
        )

    def _unready(self) -> tuple[str, ...]:
        reasons = []
        try:
            self.store.ping()
            state = schema_state(self.settings.store.url)
            if not state.up_to_date:
                reasons.append(f"store: tables are {state.current or 'absent'}")
        except ServiceError as error:
            reasons.append(f"{error.code}: {error.reason}")
        for probe in (lambda: self.ring.sign_claims({"probe": True}), self.authority.issuer):
            try:
                probe()
            except ServiceError as error:
                reasons.append(f"{error.code}: {error.reason}")
        return tuple(reasons)

    def _follow_authority(self) -> None:
        """Take what ``verifier ca`` changed into use, and tell until when each CA lasts."""
        said = ""
        while not self._stop.is_set():
            try:
                described = self.authority.described()
                self.metrics.authority_ends.clear()
                for state, certificate in described:
                    name = certificate.subject.rfc4514_string()
                    ends = certificate.not_valid_after_utc.timestamp()
                    self.metrics.authority_ends.labels(name, state).set(ends)
                problem = "; ".join(f"{one}: {why}" for one, why in self.authority.unusable)
            except ServiceError as error:
                problem = str(error)
            if problem and problem != said:
                self._log.warning("authority_unusable", reason=problem)
            said = problem
            self._stop.wait(AUTHORITY_S)

    def _tend(self) -> None:
        """Do what time brings: ends of certificates and agents, stale devices."""
        revocation = Revocation(self.store, self.revocation)
        sweep_at = self.clock.now()
        while not self._stop.wait(TEND_S):
            try:
                at = self.clock.now()
                revoked = revocation.tend(at)
                if at >= sweep_at:
                    revoked += revocation.sweep(at)
                    sweep_at = at if revocation.sweeping else at + SWEEP
                if revoked:
                    self._log.info("certificates_revoked", count=revoked)
            except ServiceError as error:
                self._log.warning("revocation_failed", reason=error.reason)

    def _upkeep(self) -> None:
        keep = timedelta(days=self.settings.results.history_days)
        while not self._stop.wait(UPKEEP_S):
            try:
                self.store.forget_results(self.clock.now() - keep)
                self.store.forget_logs(self.clock.now() - keep)
                self.store.forget_activations(self.clock.now())
            except ServiceError as error:
                self._log.warning("upkeep_failed", reason=error.reason)


def _pem(certificates: Iterable[x509.Certificate]) -> str:
    encoding = serialization.Encoding.PEM
    return "\n".join(one.public_bytes(encoding).decode() for one in certificates)


def _listen(host: str, port: int, section: str) -> socket.socket:
    try:
        listener = socket.create_server((host, port), backlog=1024)
        # asyncio does this only for sockets that it made: without it answers wait 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise SettingsInvalid(
            f"cannot listen on {host}:{port} ({section}): {error.strerror}"
        ) from error
    return listener


def _nothing() -> None:
    """Nobody has to be woken."""
