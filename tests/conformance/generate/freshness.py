"""Cases of kind ``evidence-sequence``: N10, N38, N43 and what binds evidence to a device."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from attestation.evidence import qualifying_data
from attestation.identity import Nonce
from attestation.pcr import parse_selection
from attestation.wire.evidence_codec import decode_evidence, encode_evidence, encode_parts
from device_agent.ports import KeyRole
from tests.conformance.generate.device import NOW, FixedTpm, seed
from tests.conformance.generate.model import Json, blob, case, pcrs
from tests.conformance.generate.quotes import SELECTION, device
from tests.simulators.soft_device import Lies
from verifier.appraisal.freshness import NonceAuthority

LIFETIME: Final = timedelta(minutes=2)
DEVICE: Final = "box-0042"
SECOND: Final = timedelta(seconds=1)
_REPLAY: Final = (
    "A quote says how the machine was when it was asked, so it must answer this question."
)
_FORGETS: Final = (
    "A TPM that was reset without the machine forgets its PCRs, and whoever holds a good log "
    "extends them again; its counters tell (CVE-2018-6622)."
)


def authority(label: str = "ours") -> NonceAuthority:
    """The one who issues nonces; its key follows from a label."""
    return NonceAuthority(keys=(seed(f"nonce key/{label}"),), ttl=LIFETIME)


class Bench:
    """Makes one sequence: nonces as issued, evidence as sent, what is expected of each."""

    def __init__(self) -> None:
        self.tpm: FixedTpm = device()
        self.nonces: list[Json] = []
        self.steps: list[Json] = []
        self.at = NOW
        self.more: dict[str, Any] = {}

    def nonce(
        self, *, subject: str = DEVICE, at: datetime | None = None, by: str = "ours"
    ) -> Nonce:
        """Have a nonce issued; one by somebody else is not written down."""
        moment = at or self.at
        entropy = seed(f"nonce {len(self.nonces)} {by}", 16)
        nonce = authority(by).issue(subject, moment, entropy)
        if by == "ours":
            told = {"nonce": nonce.hex(), "device": subject, "issued_at": moment.isoformat()}
            self.nonces.append(told)
        return nonce

    def message(
        self,
        nonce: Nonce | None = None,
        *,
        lies: Lies | None = None,
        claims: Mapping[str, str] | None = None,
        quoted_for: Nonce | None = None,
    ) -> bytes:
        """Evidence; ``quoted_for`` quotes for another nonce than the one that is shown."""
        shown = nonce or self.nonce()
        selections = parse_selection(SELECTION)
        facts = claims or {"kernel": "6.1.0"}
        values = self.tpm.read_pcrs(selections)
        parts = encode_parts(values, None, False, facts)  # noqa: FBT003
        self.tpm.lies = lies or Lies()
        quote = self.tpm.quote(selections, qualifying_data(quoted_for or shown, parts.digests))
        return encode_evidence(shown, quote, parts)

    def sends(self, message: bytes, verdict: str = "accepted", code: str | None = None) -> Bench:
        """Expect a verdict of a message that arrives now; a second passes."""
        decode_evidence(message)
        self.steps.append(
            {
                "at": self.at.isoformat(),
                "evidence": blob(message),
                "expected": {"verdict": verdict, "code": code},
            }
        )
        self.at += SECOND
        return self

    def case(self, name: str, anchors: str, title: str, why: str, importance: str = "high") -> Json:
        """Write the sequence down; the last step decides."""
        last = self.steps[-1]["expected"]
        given = {
            "device": DEVICE,
            "ak": {"tpmt_public": blob(self.tpm.public_area(KeyRole.IAK))},
            "nonces": self.nonces,
            "policy": {
                "selection": SELECTION,
                "reference": pcrs(self.tpm.read_pcrs(parse_selection(SELECTION))),
                "nonce_lifetime_s": int(LIFETIME.total_seconds()),
            },
            **self.more,
            "steps": self.steps,
        }
        return case(
            name,
            anchors,
            title,
            kind="evidence-sequence",
            given=given,
            verdict=last["verdict"],
            code=last["code"],
            why=why,
            importance=importance,
        )


def cases() -> list[Json]:
    """Every case of this file."""
    return [
        *_honest(),
        *_spent_nonces(),
        *_foreign_nonces(),
        *_parts(),
        *_clocks(),
        *_counters(),
        *_endorsements(),
    ]


def _honest() -> list[Json]:
    twice = Bench()
    twice.sends(twice.message()).sends(twice.message())
    booted = Bench()
    booted.tpm.clock_ms = 90_000
    booted.sends(booted.message())
    values = booted.tpm.read_pcrs(parse_selection(SELECTION))
    booted.tpm.reboot()
    booted.tpm.load_pcrs(values)
    booted.tpm.clock_ms = 20
    booted.sends(booted.message())
    punctual = Bench()
    message = punctual.message()
    punctual.at += LIFETIME
    punctual.sends(message)
    return [
        twice.case(
            "sequence-two-quotes-of-one-boot",
            "N10 N38 N43",
            "Two fresh quotes of one boot are accepted",
            "The neighbour of every replay.",
            "critical",
        ),
        booted.case(
            "sequence-quote-after-a-reboot",
            "N38",
            "A fresh quote after a reboot is accepted although its clock is lower",
            "resetCount went up; refusing it locks honest devices out.",
        ),
        punctual.case(
            "sequence-nonce-answered-just-in-time",
            "N10",
            "A nonce answered at the very end of its life is accepted",
            "The neighbour of the nonce that is answered too late.",
        ),
    ]


def _spent_nonces() -> list[Json]:
    same = Bench()
    message = same.message()
    same.sends(message).sends(message, "refused", "nonce-reused")

    again = Bench()
    nonce = again.nonce()
    again.sends(again.message(nonce))
    again.sends(again.message(nonce), "refused", "nonce-reused")

    earlier = Bench()
    old = earlier.nonce()
    earlier.at += SECOND
    earlier.sends(earlier.message())
    earlier.sends(earlier.message(old), "refused", "nonce-reused")

    late = Bench()
    message = late.message()
    late.at += LIFETIME + timedelta(milliseconds=1)
    late.sends(message, "refused", "nonce-expired")

    return [
        same.case(
            "sequence-same-evidence-twice",
            "N10",
            "The same evidence sent twice is refused the second time",
            _REPLAY,
            "critical",
        ),
        again.case(
            "sequence-nonce-answered-twice",
            "N10",
            "A nonce answered a second time, with a new quote, is refused",
            "A nonce is single use: else a good machine can answer for its later self.",
            "critical",
        ),
        earlier.case(
            "sequence-nonce-older-than-the-last",
            "N10",
            "A nonce issued before the last one that was answered is refused",
            "Nonces kept in store would let a device choose which of its states to show.",
        ),
        late.case(
            "sequence-nonce-answered-too-late",
            "N10",
            "A nonce answered after its lifetime is refused",
            _REPLAY,
        ),
    ]


def _foreign_nonces() -> list[Json]:
    stranger = Bench()
    stranger.sends(stranger.message(stranger.nonce(by="theirs")), "refused", "nonce-forged")

    other = Bench()
    other.sends(other.message(other.nonce(subject="box-0043")), "refused", "nonce-forged")

    constant = Bench()
    constant.sends(constant.message(Nonce(bytes(56))), "refused", "nonce-forged")

    relabelled = Bench()
    earlier_nonce, fresh = relabelled.nonce(), relabelled.nonce()
    held_back = relabelled.message(fresh, quoted_for=earlier_nonce)
    relabelled.sends(held_back, "refused", "qualifying-data-mismatch")
    return [
        stranger.case(
            "sequence-nonce-of-somebody-else",
            "N10",
            "A nonce that this verifier never issued is refused",
            _REPLAY,
            "critical",
        ),
        constant.case(
            "sequence-nonce-constant",
            "N10",
            "A quote for a constant nonce is refused",
            "A verifier that asks every device the same, or takes any nonce, can be answered from "
            "a drawer (CVE-2026-6420).",
            "critical",
        ),
        other.case(
            "sequence-nonce-of-another-device",
            "N10 N39",
            "A nonce that was issued to another device is refused",
            "Else one device answers for another.",
            "critical",
        ),
        relabelled.case(
            "sequence-old-quote-under-a-new-nonce",
            "N10",
            "A quote made for another nonce than the one it is sent under is refused",
            "The nonce beside the quote is only words; the one in extraData is signed.",
            "critical",
        ),
    ]


def _parts() -> list[Json]:
    swapped = Bench()
    nonce = swapped.nonce()
    honest = decode_evidence(swapped.message(nonce))
    parts = encode_parts(honest.pcr_values, None, False, {"kernel": "9.9.9"})  # noqa: FBT003
    swapped.sends(
        encode_evidence(nonce, honest.quote, parts), "refused", "qualifying-data-mismatch"
    )
    return [
        swapped.case(
            "sequence-part-exchanged-under-a-quote",
            "N10",
            "Evidence with a part exchanged under a valid quote is refused",
            "Whatever travels beside a quote and is read must be bound by it.",
        )
    ]


def _clocks() -> list[Json]:
    back = Bench()
    back.tpm.clock_ms = 5_000
    back.sends(back.message())
    back.sends(back.message(lies=Lies(clock_ms=900)), "refused", "clock-went-back")

    still = Bench()
    still.tpm.clock_ms = 5_000
    still.sends(still.message(lies=Lies(clock_ms=7_000)))
    still.sends(still.message(lies=Lies(clock_ms=7_000)), "refused", "evidence-replayed")

    return [
        back.case(
            "sequence-clock-goes-back",
            "N38",
            "A quote with a lower clock in the same boot is refused",
            _FORGETS,
            "critical",
        ),
        still.case(
            "sequence-clock-stands-still",
            "N10 N38",
            "A quote with the clock of the last one is refused",
            "Every command advances the clock: the same clock is the same quote.",
        ),
    ]


def _counters() -> list[Json]:
    reset = Bench()
    reset.tpm.reset_count = 7
    reset.sends(reset.message())
    reset.sends(reset.message(lies=Lies(reset_count=6)), "refused", "reset-count-went-back")

    restart = Bench()
    restart.tpm.restart_count = 3
    restart.sends(restart.message())
    restart.sends(restart.message(lies=Lies(restart_count=2)), "refused", "reset-count-went-back")

    far = Bench()
    far.sends(far.message(lies=Lies(clock_ms=2**63)), "refused", "value-out-of-range")
    return [
        reset.case(
            "sequence-reset-count-goes-back",
            "N38",
            "A quote with a lower resetCount is refused",
            _FORGETS,
            "critical",
        ),
        restart.case(
            "sequence-restart-count-goes-back",
            "N38",
            "A quote with a lower restartCount in the same resetCount is refused",
            _FORGETS,
        ),
        far.case(
            "sequence-clock-that-no-tpm-reaches",
            "N38",
            "A clock set beyond what can be remembered is refused",
            "TPM2_ClockSet goes far ahead; what cannot be stored cannot be compared next time.",
            "medium",
        ),
    ]


def _endorsements() -> list[Json]:
    why = "What was true at enrolment need not be true now: ask at every appraisal."
    made = []
    for name, title, code, more in (
        (
            "expired",
            "A device whose endorsement has ended since enrolment is refused",
            "certificate-expired",
            {"endorsed_until": (NOW - SECOND).isoformat()},
        ),
        (
            "not-begun",
            "A device whose endorsement has not begun is refused",
            "certificate-not-yet-valid",
            {"endorsed_from": (NOW + SECOND).isoformat()},
        ),
        (
            "withdrawn",
            "A device whose manufacturer is no longer trusted is refused",
            "certificate-untrusted",
            {"anchor_trusted": False},
        ),
        (
            "revoked",
            "A device that was revoked after enrolment is refused",
            "device-revoked",
            {"revoked": True},
        ),
    ):
        bench = Bench()
        bench.more = {"endorsement": more}
        bench.sends(bench.message(), "refused", code)
        made.append(bench.case(f"endorsement-{name}", "N43", title, why, "critical"))
    bench = Bench()
    at = NOW.isoformat()
    bench.more = {"endorsement": {"endorsed_from": at, "endorsed_until": at}}
    bench.sends(bench.message())
    made.append(
        bench.case(
            "endorsement-on-its-last-second",
            "N43",
            "A device on the last second of its endorsement is accepted",
            "The neighbour of the expired one.",
        )
    )
    return made
