"""Logs and counters: configured once by ``verifier.main``; event names are ``noun_verb``.

Never logged: nonces, keys, tokens, whole certificates, evidence.
"""

from __future__ import annotations

import logging
import sys

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

Logger = structlog.stdlib.BoundLogger


def configure_logging(*, as_json: bool) -> None:
    """Send one line per event to stderr: JSON for machines, key=value for people."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, force=True)


def logger(room: str) -> Logger:
    """Return a logger that names its room."""
    bound: Logger = structlog.get_logger(room=room)
    return bound


class Metrics:
    """The counters of one process; a registry of its own so that tests do not meet.

    Attributes:
        evidence: Evidence judged, by status.
        refusals: Requests refused, by code.
        appraisal_seconds: Time from parsed bytes to signed result.
        commit_seconds: Time a judgement waited for its transaction.
        outbox_waiting: Outbox rows not yet delivered.
        queries: MQTT queries, by outcome.
        enrolments: Certificates issued.
        authority_ends: Until when each of our CAs lasts, by name and state (Unix time).
        door_ends: Until when the TLS certificate in use lasts (Unix time).
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.evidence = Counter(
            "evidence_received", "Evidence judged.", ["status"], registry=self.registry
        )
        self.refusals = Counter(
            "requests_refused", "Requests refused.", ["code"], registry=self.registry
        )
        self.appraisal_seconds = Histogram(
            "appraisal_seconds",
            "Appraisal and signature.",
            buckets=(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.02, 0.1, 1),
            registry=self.registry,
        )
        self.commit_seconds = Histogram(
            "commit_seconds",
            "From judged to committed.",
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2),
            registry=self.registry,
        )
        self.outbox_waiting = Gauge(
            "outbox_waiting", "Outbox rows not yet delivered.", registry=self.registry
        )
        self.queries = Counter(
            "mqtt_queries", "Queries over MQTT.", ["outcome"], registry=self.registry
        )
        self.enrolments = Counter("enrolments", "Certificates issued.", registry=self.registry)
        self.authority_ends = Gauge(
            "authority_not_after_seconds",
            "When the certificate of a CA of ours ends.",
            ["authority", "state"],
            registry=self.registry,
        )
        self.door_ends = Gauge(
            "tls_certificate_not_after_seconds",
            "When the server's TLS certificate ends.",
            registry=self.registry,
        )

    def render(self) -> bytes:
        """Return the Prometheus text form."""
        return generate_latest(self.registry)
