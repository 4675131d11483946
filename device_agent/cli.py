"""The ``device-agent`` command.

Exit codes: 0 done; 1 a check failed, the device is not set up yet, or it was judged and is denied;
2 usage or settings; 3 TPM, its keys or a source on this machine, or output that cannot be written;
4 verifier or broker not reached or not trusted; 5 refused by the verifier; 6 state directory.
Errors are one line on standard error: ``device-agent: <code>: <reason>``.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attestation.algorithms import short_digest
from device_agent.agent_commands import add_agent
from device_agent.csr_command import add_csr
from device_agent.errors import (
    AgentRefused,
    AgentUnknown,
    BrokerUnreachable,
    DeviceAgentError,
    SettingsInvalid,
    StateCorrupt,
    StateUnwritable,
    VerifierRefused,
    VerifierUnreachable,
    VerifierUntrusted,
)
from device_agent.factory_commands import add_factory
from device_agent.printing import say, table
from device_agent.settings import Settings, load_settings, show_settings
from device_agent.status_command import show_status

if TYPE_CHECKING:
    from device_agent.main import Parts
    from device_agent.ports import EvidenceReply

OK: Final = 0
DENIED: Final = 1
USAGE: Final = 2
TPM: Final = 3
UNREACHABLE: Final = 4
REFUSED: Final = 5
STATE: Final = 6
_KINDS: Final[tuple[tuple[type[DeviceAgentError], int], ...]] = (
    (SettingsInvalid, USAGE),
    (AgentUnknown, USAGE),
    (VerifierRefused, REFUSED),
    (AgentRefused, REFUSED),
    (VerifierUnreachable, UNREACHABLE),
    (VerifierUntrusted, UNREACHABLE),
    (BrokerUnreachable, UNREACHABLE),
    (StateUnwritable, STATE),
    (StateCorrupt, STATE),
    (DeviceAgentError, TPM),
)

_OUTPUT_FAULTS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What a file that output is sent to can fail with; files of ours are told where they are written.
"""

# The adapters behind each command are imported inside it: ``--help``, ``status`` and ``settings``
# must not pay for the TPM stack, TLS and cryptography.
# ruff: noqa: PLC0415


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        return _run_command(arguments)
    except BrokenPipeError:
        # The reader of our output went away; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:
        if error.errno not in _OUTPUT_FAULTS:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"device-agent: the output cannot be written: {error.strerror}", file=sys.stderr)
        return TPM


def _run_command(arguments: Sequence[str] | None) -> int:
    """Run one command and write out all that it printed, while a fault can still be told."""
    try:
        options = _parser().parse_args(arguments)
        code: int = options.command(load_settings(options.config, os.environ), options)
    except DeviceAgentError as error:
        print(f"device-agent: {error.code}: {error.reason}", file=sys.stderr)
        return exit_code(error)
    except ModuleNotFoundError as error:
        print(
            f"device-agent: {error.name} is not installed; install the extra: "
            "pip install 'device-attestation[device]'",
            file=sys.stderr,
        )
        return USAGE
    except KeyboardInterrupt:
        return 130
    finally:
        print(end="", flush=True)
    return code


def exit_code(error: DeviceAgentError) -> int:
    """Return the exit code of an error's kind."""
    return next(code for kind, code in _KINDS if isinstance(error, kind))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="device-agent",
        description="Proves with this device's TPM what it is and what it booted.",
        epilog="Settings: /etc/device-agent/device-agent.toml, DEVICE_AGENT_<SECTION>_<KEY>; "
        "'device-agent settings --show' lists them all.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings file")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_factory(commands.add_parser("factory", help="manufacture: keys, request, certificates"))
    add_agent(commands.add_parser("agent", help="identities of the AI agents on this device"))
    add_csr(commands.add_parser("csr", help="write a certificate request of the LDevID key"))
    for name, what, command in (
        ("run", "run the daemon (systemd does this)", _run),
        ("enrol", "enrol this device now", _enrol),
        ("rotate", "exchange the LDevID key for a new one now", _rotate),
        ("attest", "attest once now and say the verdict", _attest),
        ("status", "show what the daemon last wrote", show_status),
        ("measure", "show the AI agent's files as they would be measured now", _measure),
        ("check", "examine every prerequisite: verdict, reason, mend", _check),
        ("settings", "show the effective settings and where each comes from", _settings),
    ):
        sub = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        sub.set_defaults(command=command)
        if name != "run":
            sub.add_argument("--json", action="store_true", help="print JSON")
        if name == "enrol":
            sub.add_argument("--est", action="store_true", help="enrol by EST (RFC 7030)")
            sub.add_argument(
                "--label", default="", metavar="LABEL", help="the EST label, with --est"
            )
            sub.add_argument(
                "--result",
                default="",
                metavar="PATH",
                help="show a result of another verifier in place of evidence (passport): its file, "
                "or the state directory of the agent that attests there",
            )
        if name == "settings":
            sub.add_argument("--show", action="store_true", help="show them (the default)")
    return parser


# --- the daemon and its single steps -----------------------------------------------------------
def _run(settings: Settings, _options: argparse.Namespace) -> int:
    from device_agent.main import open_tpm, run_daemon

    tpm = open_tpm(settings)
    try:
        run_daemon(settings, tpm)
    finally:
        tpm.close()
    return OK


def _enrol(settings: Settings, options: argparse.Namespace) -> int:
    from device_agent.main import assemble, open_tpm
    from device_agent.once import enrol_now
    from device_agent.transport.est import EstEnroller

    by_est = options.est or (options.label and settings.enrolment.door == "est")
    if options.label and not by_est:
        raise SettingsInvalid("--label is of EST: give --est with it")
    if options.result:
        shown = replace(settings.enrolment, result=options.result)
        settings = replace(settings, enrolment=shown)
    parts = assemble(settings, open_tpm(settings))
    label = options.label or settings.enrolment.est_label
    door = EstEnroller(parts.verifier, parts.sources.tpm, label) if by_est else None
    credential = enrol_now(parts, door)
    until = credential.not_after.isoformat()
    say(
        options,
        {"device_id": credential.device_id, "not_after": until},
        f"enrolled as {credential.device_id}, certificate until {until}",
    )
    return OK


def _rotate(settings: Settings, options: argparse.Namespace) -> int:
    from device_agent.lifecycle import iso
    from device_agent.main import assemble, open_tpm
    from device_agent.once import rotate_now

    done = rotate_now(assemble(settings, open_tpm(settings)))
    after, reply = done.after, done.reply
    verdict = f"{reply.status}, {'allowed' if reply.allowed else 'denied'}"
    lines = [
        f"exchanged the LDevID key of {after.device_id}: slot {done.before.slot} -> {after.slot}",
        f"certificate until {iso(after.not_after)}; attested with it: {verdict}",
        f"the old key is not evicted yet: {done.left_over}"
        if done.left_over
        else "old key evicted",
    ]
    said = {
        "device_id": after.device_id,
        "slot": after.slot,
        "previous_slot": done.before.slot,
        "not_after": after.not_after.isoformat(),
        "status": reply.status,
        "allow": reply.allowed,
        "evicted": not done.left_over,
        "left_over": done.left_over or None,
    }
    say(options, said, "\n".join(lines))
    return OK


def _attest(settings: Settings, options: argparse.Namespace) -> int:
    from device_agent.main import assemble, open_tpm
    from device_agent.once import attest_now

    reply = attest_now(assemble(settings, open_tpm(settings)))
    words = [f"{reply.status}: {'allowed' if reply.allowed else 'denied'}", *reply.reasons]
    say(options, _reply_document(reply), "\n  ".join(words))
    return OK if reply.allowed else DENIED


def _reply_document(reply: EvidenceReply) -> dict[str, object]:
    return {
        "status": reply.status,
        "allow": reply.allowed,
        "reasons": list(reply.reasons),
        "result": reply.result,
    }


def _check(settings: Settings, options: argparse.Namespace) -> int:
    from device_agent.checks import Grade
    from device_agent.main import assemble, open_tpm
    from device_agent.once import examine_now

    parts: Parts = assemble(settings, open_tpm(settings))
    checks = examine_now(parts)
    rows = []
    for check in checks:
        rows.append((f"{check.grade:<4}  {check.name}", check.reason))
        if check.mend and check.grade is not Grade.OK:
            rows.append(("", f"-> {check.mend}"))
    say(options, [asdict(check) for check in checks], table(rows))
    return DENIED if any(check.grade is Grade.FAIL for check in checks) else OK


def _measure(settings: Settings, options: argparse.Namespace) -> int:
    from attestation.logs.cel import shown_path
    from device_agent.clock import wall_clock
    from device_agent.measure.build import survey_agent
    from device_agent.measure.plan import difference_words

    survey = survey_agent(settings.agent, wall_clock)
    difference, listing = survey.difference, survey.listing
    said: dict[str, object] = {
        "aibom": {
            "path": settings.agent.aibom,
            "sha256": survey.aibom.digest.hex(),
            "name": listing.name if listing else None,
            "trouble": survey.trouble or None,
            "missing_parts": [str(part) for part in listing.missing] if listing else [],
        },
        "complete": survey.complete,
        "files": {
            shown_path(path): str(one.kind) or one.digest.hex()
            for path, one in sorted(survey.present.items())
        },
    }
    lines = [f"{'aibom':<9} {short_digest(survey.aibom.digest)}  {settings.agent.aibom}"]
    if difference is None or listing is None:
        lines.append(survey.trouble)
    else:
        named = {
            "changed": difference.changed,
            "missing": difference.missing,
            "unlisted": difference.unlisted,
        }
        said["difference"] = {
            word: [shown_path(path) for path in paths] for word, paths in named.items()
        }
        lines += [
            f"{word:<9} {shown_path(path)}" for word, paths in named.items() for path in paths
        ]
        words = difference_words(difference) or "all as its AIBOM lists them"
        lines.append(f"{listing.name}: {len(survey.present)} files; {words}")
    say(options, said, "\n".join(lines))
    return DENIED if difference is None or difference or not survey.complete else OK


def _settings(settings: Settings, options: argparse.Namespace) -> int:
    shown = show_settings(settings)
    rows = ((item.key, f"{_toml(item.value)}  # {item.origin}; {item.what}") for item in shown)
    say(
        options,
        [asdict(item) for item in shown],
        "\n".join(f"{key} = {rest}" for key, rest in rows),
    )
    return OK


# --- words -------------------------------------------------------------------------------------
def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value)
