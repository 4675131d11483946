"""``device-agent csr``: a certificate request of the LDevID key, for any EST client."""

from __future__ import annotations

import argparse
import base64
import sys
from pathlib import Path
from typing import Final

from device_agent.errors import SettingsInvalid
from device_agent.printing import say
from device_agent.settings import Settings

OK: Final = 0
_MAX_FILE_BYTES: Final = 64 * 1024
_PEM_LINE_CHARS: Final = 64

# The adapters are imported inside the command: ``--help`` must not pay for the TPM stack.
# ruff: noqa: PLC0415


def add_csr(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``device-agent csr``."""
    parser.add_argument(
        "--evidence",
        metavar="NONCE",
        help="put the attestation into the request; file with what the verifier's "
        "/.well-known/est/nonce answered, '-' for standard input",
    )
    parser.add_argument(
        "--renew",
        nargs="?",
        const="",
        metavar="CERTIFICATE",
        help="for simplereenroll: ask for the names of this certificate (PEM file; not given: the "
        "one that the daemon uses)",
    )
    parser.add_argument(
        "--form",
        choices=("pem", "der", "est"),
        default="pem",
        help="PEM, DER, or base64 of DER in one line, as EST carries it",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write it")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command=_csr)


def _csr(settings: Settings, options: argparse.Namespace) -> int:
    from device_agent.main import assemble, open_tpm
    from device_agent.once import csr_now

    nonce = _read(options.evidence) if options.evidence is not None else b""
    renews = options.renew and _read(options.renew).decode("ascii", "replace")
    tpm = open_tpm(settings)
    try:
        request = csr_now(assemble(settings, tpm), nonce, renews)
    finally:
        tpm.close()
    if options.output is not None:
        _write(options.output, _formed(request, options.form))
        said = {"output": str(options.output), "form": options.form, "bytes": len(request)}
        say(options, said, f"wrote {options.output}")
    elif options.json:
        say(options, {"csr": _formed(request, "pem").decode()}, "")
    else:
        sys.stdout.buffer.write(_formed(request, options.form))
        sys.stdout.buffer.flush()
    return OK


def _formed(request: bytes, form: str) -> bytes:
    """Return a request as PEM (RFC 7468, 7), DER, or base64 without line breaks (RFC 8951, 3)."""
    if form == "der":
        return request
    text = base64.b64encode(request)
    if form == "est":
        return text + b"\n"
    lines = [text[at : at + _PEM_LINE_CHARS] for at in range(0, len(text), _PEM_LINE_CHARS)]
    label = b"CERTIFICATE REQUEST-----"
    return b"\n".join((b"-----BEGIN " + label, *lines, b"-----END " + label, b""))


def _read(name: str) -> bytes:
    try:
        if name == "-":
            content = sys.stdin.buffer.read(_MAX_FILE_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsInvalid(f"{name} cannot be read: {error.strerror}") from error
    if not content.strip() or len(content) > _MAX_FILE_BYTES:
        raise SettingsInvalid(f"{name} is empty, or larger than {_MAX_FILE_BYTES} bytes")
    return content


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise SettingsInvalid(f"{path} cannot be written: {error.strerror}") from error
