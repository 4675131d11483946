"""``device-agent status``: what the daemon last wrote, for people and programs."""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from device_agent.clock import wall_clock
from device_agent.errors import SettingsInvalid
from device_agent.printing import say, table
from device_agent.settings import Settings, require_verifier

if TYPE_CHECKING:
    from device_agent.lifecycle import Credential, Fault, Verdict
    from device_agent.state.files import SavedState

_SHOWN: Final = 0
_NOTHING_YET: Final = 1


def show_status(settings: Settings, options: argparse.Namespace) -> int:
    """Show the state file; exit code 1, with what to do, while there is none."""
    from device_agent.state.files import StateFile  # noqa: PLC0415 - ``--help`` must not pay for it

    store = StateFile(Path(settings.state.directory))
    saved = store.load()
    if saved is None:
        mend = _first_steps(settings)
        said = f"no state in {store.path}: the daemon has not run yet\n-> {mend}"
        say(options, {"phase": None, "mend": mend}, said)
        return _NOTHING_YET
    now = wall_clock()
    say(options, _document(saved, now), table(_lines(saved, now)))
    return _SHOWN


def _first_steps(settings: Settings) -> str:
    """Say what to do on a device whose daemon has not run; the TPM is not asked for it."""
    try:
        require_verifier(settings)
    except SettingsInvalid as error:
        return f"{error.reason}; then run: device-agent check"
    return "run: device-agent check; when all is ok, start the daemon: systemctl start device-agent"


def _lines(saved: SavedState, now: datetime) -> list[tuple[str, str]]:
    verdict, credential = saved.verdict, saved.candidate or saved.credential
    lines = [
        ("phase", saved.phase),
        ("device", credential.device_id if credential else "not enrolled"),
    ]
    if credential is not None:
        lines += _credential_lines(saved, credential, now)
    return [
        *lines,
        ("verdict", _verdict_words(verdict)),
        *(("reason", reason) for reason in (verdict.reasons if verdict else ())),
        ("judged at", _time(verdict.at if verdict else None)),
        ("fault", f"{saved.fault.code}: {saved.fault.reason}" if saved.fault else "none"),
        ("written at", _time(saved.saved_at)),
    ]


def _credential_lines(
    saved: SavedState, credential: Credential, now: datetime
) -> list[tuple[str, str]]:
    from device_agent.succession import span, worry  # noqa: PLC0415 - as above

    since = credential.key_since or credential.obtained_at
    key = f"slot {credential.slot}, in use for {span(now - since)}"
    if saved.candidate is not None:
        key += "; new, not proven yet"
    lines = [
        ("certificate until", _time(credential.not_after)),
        ("renewal at", _time(saved.renew_at)),
        ("key", key),
    ]
    trouble = worry(credential, saved.renew_at, saved.renewal_fault, now)
    return [*lines, ("WARNING", f"certificate: {trouble}")] if trouble else lines


def _document(saved: SavedState, now: datetime) -> dict[str, object]:
    from device_agent.succession import worry  # noqa: PLC0415 - as above

    credential, verdict = saved.candidate or saved.credential, saved.verdict
    document: dict[str, object] = {
        "phase": saved.phase,
        "device_id": credential.device_id if credential else None,
        "not_after": _time(credential.not_after) if credential else None,
        "renew_at": _time(saved.renew_at) if saved.renew_at else None,
        "renewal_fault": _fault(saved.renewal_fault),
        "warning": None,
        "key": None,
    }
    if credential is not None:
        trouble = worry(credential, saved.renew_at, saved.renewal_fault, now)
        document["warning"] = trouble or None
        document["key"] = {
            "slot": credential.slot.value,
            "since": (credential.key_since or credential.obtained_at).isoformat(),
            "proven": saved.candidate is None,
        }
    document["verdict"] = (
        None
        if verdict is None
        else {
            "status": verdict.status,
            "allow": verdict.allowed,
            "reasons": list(verdict.reasons),
            "result": verdict.result,
            "at": verdict.at.isoformat(),
        }
    )
    document["fault"] = _fault(saved.fault)
    document["saved_at"] = saved.saved_at.isoformat()
    return document


def _fault(fault: Fault | None) -> dict[str, str] | None:
    if fault is None:
        return None
    return {"code": str(fault.code), "reason": fault.reason, "at": fault.at.isoformat()}


def _time(moment: datetime | None) -> str:
    return "-" if moment is None else moment.isoformat(timespec="seconds")


def _verdict_words(verdict: Verdict | None) -> str:
    if verdict is None:
        return "none yet"
    return f"{verdict.status}, {'allowed' if verdict.allowed else 'denied'}"
