"""Answers queries over MQTT 5: request topic, response topic, correlation data.

Payload of a request: empty, or JSON ``{"max_age_s": 60}``. Answer: JSON ``{"device", "status",
"allow", "vector", "reasons", "age_s", "seq", "ear"}`` or ``{"device", "error", "detail"}``. The
signed result is in the answer, so the requester need believe neither the broker nor the answer.
"""

from __future__ import annotations

import json
import time
from typing import Final

from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from attestation.errors import AttestationError
from attestation.identity import device_id
from attestation.refusals import RefusalCode
from attestation.result import TrustTier
from verifier.errors import RateLimited, ServiceError, Unavailable
from verifier.feeds.mqtt import Broker
from verifier.feeds.topics import Query, Topics
from verifier.ports import Clock
from verifier.services.decisions import Decisions
from verifier.services.rate import RateLimiter
from verifier.telemetry import Logger, Metrics

MAX_QUERY_BYTES: Final = 4 * 1024
MAX_CORRELATION_BYTES: Final = 256
ANSWER_EXPIRY_S: Final = 60
MAX_AGE_S: Final = 1e9
"""Nobody waits for thirty years; NaN and numbers that no float holds are not below it either."""

DROPS_LOGGED_PER_S: Final = 1.0
"""Dropped queries are counted; of each kind so many are logged: a flood stays a number."""


class QueryResponder:
    """Answers what requesters ask about devices.

    Args:
        broker: The connection.
        topics: The layout.
        decisions: What is answered.
        clock: Now.
        rate: Queries per requester.
        metrics: Counters.
        log: Where refusals go.
    """

    def __init__(
        self,
        *,
        broker: Broker,
        topics: Topics,
        decisions: Decisions,
        clock: Clock,
        rate: RateLimiter,
        metrics: Metrics,
        log: Logger,
    ) -> None:
        self._broker = broker
        self._topics = topics
        self._decisions = decisions
        self._clock = clock
        self._rate = rate
        self._drops = RateLimiter(per_second=DROPS_LOGGED_PER_S, burst=10)
        self._metrics = metrics
        self._log = log

    def arrived(self, message: MQTTMessage) -> None:
        """Answer one request, or drop it when nobody may be answered."""
        query = self._topics.parse_request(message.topic)
        response_topic = getattr(message.properties, "ResponseTopic", None)
        correlation = getattr(message.properties, "CorrelationData", b"")
        if query is None or not isinstance(response_topic, str):
            self._drop("no-response-topic", message.topic)
            return
        if not self._topics.may_answer(query, response_topic):
            self._drop("response-topic-of-another", message.topic)
            return
        if len(correlation) > MAX_CORRELATION_BYTES or len(message.payload) > MAX_QUERY_BYTES:
            self._drop("too-large", message.topic)
            return
        try:
            self._rate.admit(query.requester, time.monotonic())
        except RateLimited:
            # Counted, not logged: a flood must not become a flood of log lines.
            self._metrics.queries.labels("rate-limited").inc()
            return
        answer = self._answer(query, bytes(message.payload))
        self._metrics.queries.labels("refused" if "error" in answer else "answered").inc()
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = "application/json"
        properties.PayloadFormatIndicator = 1
        properties.MessageExpiryInterval = ANSWER_EXPIRY_S
        if correlation:
            properties.CorrelationData = correlation
        self._broker.answer(response_topic, json.dumps(answer).encode(), properties)

    def _drop(self, outcome: str, topic: str) -> None:
        self._metrics.queries.labels(outcome).inc()
        try:
            self._drops.admit(outcome, time.monotonic())
        except RateLimited:
            return
        self._log.warning("query_dropped", outcome=outcome, topic=topic[:160])

    def _answer(self, query: Query, payload: bytes) -> dict[str, object]:
        try:
            max_age_s = _max_age(payload)
            device = device_id(query.device)
            decision, document, newest = self._decisions.now(device, self._clock.now())
        except AttestationError as error:
            return {"device": query.device, "error": error.code.value, "detail": error.reason}
        except ServiceError as error:
            if isinstance(error, Unavailable):
                self._log.warning("query_unserved", code=error.code.value, reason=error.reason)
            return {"device": query.device, "error": error.code.value, "detail": error.outward}
        if newest is None:
            detail = "; ".join(decision.reasons)
            known = RefusalCode.RESULT_ABSENT
            return {"device": query.device, "error": known.value, "detail": detail}
        if document.get("revoked") is not False:
            # Its last result may still be affirming, signed and unexpired: it is not given out.
            detail = "; ".join(decision.reasons)
            revoked = RefusalCode.DEVICE_REVOKED
            return {"device": query.device, "error": revoked.value, "detail": detail}
        age_s = max(0.0, (decision.at - newest.at).total_seconds())
        if max_age_s is not None and age_s > max_age_s:
            return {
                "device": query.device,
                "error": RefusalCode.RESULT_EXPIRED.value,
                "detail": f"the newest result is {age_s:.0f} s old, wanted at most {max_age_s:g} s",
                "age_s": age_s,
            }
        return {
            "device": query.device,
            "status": TrustTier(newest.status).label,
            "allow": decision.allow,
            "decision": decision.word,
            "vector": dict(newest.vector),
            "reasons": list(decision.reasons or newest.reasons),
            "age_s": age_s,
            "seq": newest.seq,
            "ear": newest.ear,
        }


def _max_age(payload: bytes) -> float | None:
    """Read the request's payload.

    Raises:
        ServiceError: If it is not empty and not the JSON we take.
    """
    if not payload:
        return None
    try:
        asked = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise _not_understood("it is not JSON") from error
    if not isinstance(asked, dict):
        raise _not_understood("it is not a JSON object")
    if asked.get("fresh"):
        raise _not_understood("fresh:true is not supported; devices attest by themselves")
    age = asked.get("max_age_s")
    if age is None:
        return None
    if isinstance(age, bool) or not isinstance(age, int | float) or not 0 <= age < MAX_AGE_S:
        raise _not_understood("max_age_s must be a number of seconds")
    return float(age)


def _not_understood(why: str) -> ServiceError:
    return ServiceError(RefusalCode.REQUEST_INVALID, f"the query is not understood: {why}")
