"""``device-agent factory``: manufacture, step by step or in one command over a shared folder."""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from device_agent.errors import SettingsInvalid
from device_agent.printing import say, table, word
from device_agent.settings import Settings

if TYPE_CHECKING:
    from device_agent.factory import FactoryTpm

OK: Final = 0
UNFINISHED: Final = 1
_MAX_FILE_BYTES: Final = 256 * 1024
_LOOKED_EVERY_S: Final = 0.5
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")

# The adapters behind each command are imported inside it: ``--help`` must not pay for the TPM
# stack and cryptography.
# ruff: noqa: PLC0415


def add_factory(parser: argparse.ArgumentParser) -> None:
    """Add the steps of manufacture to the command's parser."""
    steps = parser.add_subparsers(required=True, metavar="STEP")
    make = steps.add_parser(
        "make", help="go as far as it can, over a folder shared with the line; say what is next"
    )
    request = steps.add_parser("request", help="make the keys and a TCG-CSR-IDEVID")
    for step in (make, request):
        step.add_argument("--model", required=True, help="product model")
        step.add_argument("--serial", required=True, help="product serial number")
    make.add_argument("--folder", type=Path, required=True, help="folder shared with the line")
    make.add_argument("--wait", type=float, default=0.0, metavar="S", help="seconds to wait for it")
    make.set_defaults(command=_make)
    request.add_argument("--output", type=Path, required=True, help="where to write the request")
    request.set_defaults(command=_request)
    answer = steps.add_parser("answer", help="answer the line's challenge")
    answer.add_argument("--challenge", type=Path, required=True, help="the line's challenge")
    answer.add_argument("--output", type=Path, required=True, help="where to write the answer")
    answer.set_defaults(command=_answer)
    install = steps.add_parser("install", help="write both certificates to the TPM")
    install.add_argument("--idevid", type=Path, required=True, help="IDevID certificate, PEM/DER")
    install.add_argument("--iak", type=Path, required=True, help="IAK certificate, PEM/DER")
    install.set_defaults(command=_install)
    status = steps.add_parser("status", help="say how far this device is manufactured")
    status.set_defaults(command=_status)
    for step in (make, request, answer, install, status):
        step.add_argument("--json", action="store_true", help="print JSON")


def _make(settings: Settings, options: argparse.Namespace) -> int:
    from device_agent.main import open_tpm

    if not options.folder.is_dir():
        raise SettingsInvalid(f"{options.folder} is no folder")
    name = _NOT_IN_A_NAME.sub("-", options.serial)
    tpm = open_tpm(settings)
    ends = time.monotonic() + options.wait
    try:
        done, following = _advance(tpm, options, options.folder / f"{name}.csr")
        while not done and time.monotonic() < ends:
            time.sleep(_LOOKED_EVERY_S)
            done, following = _advance(tpm, options, options.folder / f"{name}.csr")
    finally:
        tpm.close()
    if done and settings.tpm.template == "H-1":
        following = (
            "this device has an RSA IDevID: enrolment here is over TLS with a key in the TPM, "
            "which wants template H-2 or H-3"
        )
    said = {"complete": done, "next": following}
    say(options, said, table((key, word(value)) for key, value in said.items()))
    return OK if done else UNFINISHED


def _advance(tpm: FactoryTpm, options: argparse.Namespace, request: Path) -> tuple[bool, str]:
    """Take every step that can be taken now; returns whether that was the last, and what is next.

    Files of the same name beside the request carry the rest: ``.challenge`` and the certificates
    from the line, ``.answer`` to it.
    """
    from device_agent import factory
    from device_agent.clock import entropy

    known = _read(request) if request.exists() else b""
    if not factory.is_own_request(tpm, known, model=options.model, serial=options.serial):
        known = factory.make_request(
            tpm, model=options.model, serial=options.serial, entropy=entropy()
        )
        _write(request, known)
    certificates = [request.with_suffix(f".{role}.pem") for role in ("idevid", "iak")]
    if all(path.exists() for path in certificates):
        idevid, iak = (_read_certificates(path) for path in certificates)
        status = factory.install(tpm, idevid_chain_der=idevid, iak_chain_der=iak)
        if status.complete:
            return True, "settings, device-agent check, then start the daemon"
    challenge, answer = request.with_suffix(".challenge"), request.with_suffix(".answer")
    line = f"verifier manufacturer line {request.parent} --directory CA"
    if not challenge.exists():
        return False, f"on the line: {line}; then this command again"
    given = _read(challenge)
    if not factory.is_challenge_of(given, known):
        return False, f"the challenge is for another request: {line}; then this command again"
    if not answer.exists():
        _write(answer, factory.answer_challenge(tpm, given))
    return False, f"answered the challenge; on the line: {line}; then this command again"


def _request(settings: Settings, options: argparse.Namespace) -> int:
    from device_agent import factory
    from device_agent.clock import entropy
    from device_agent.main import open_tpm

    request = factory.make_request(
        open_tpm(settings), model=options.model, serial=options.serial, entropy=entropy()
    )
    _write(options.output, request)
    written = {"output": str(options.output), "bytes": len(request)}
    say(options, written, f"wrote {options.output} ({len(request)} bytes)")
    return OK


def _answer(settings: Settings, options: argparse.Namespace) -> int:
    from device_agent import factory
    from device_agent.main import open_tpm

    answer = factory.answer_challenge(open_tpm(settings), _read(options.challenge))
    _write(options.output, answer)
    say(
        options,
        {"output": str(options.output)},
        f"wrote {options.output}; on the line: verifier manufacturer issue REQUEST --answer "
        f"{options.output.name} …",
    )
    return OK


def _install(settings: Settings, options: argparse.Namespace) -> int:
    from device_agent import factory
    from device_agent.main import open_tpm

    factory.install(
        open_tpm(settings),
        idevid_chain_der=_read_certificates(options.idevid),
        iak_chain_der=_read_certificates(options.iak),
    )
    return _status(settings, options)


def _status(settings: Settings, options: argparse.Namespace) -> int:
    from device_agent import factory
    from device_agent.main import open_tpm

    status = factory.status(open_tpm(settings))
    said = {
        "keys": [str(role) for role in status.keys],
        "certificates": [str(role) for role in status.certificates],
        "ek_certificate": status.ek_certificate,
        "complete": status.complete,
    }
    say(options, said, table((name, word(value)) for name, value in said.items()))
    return OK if status.complete else UNFINISHED


def _read_certificates(path: Path) -> tuple[bytes, ...]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    content = _read(path)
    if not content.lstrip().startswith(b"-----BEGIN"):
        return (content,)
    try:
        found = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise SettingsInvalid(f"{path} holds no certificate: {error}") from error
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in found)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsInvalid(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_FILE_BYTES:
        raise SettingsInvalid(f"{path} is larger than {_MAX_FILE_BYTES} bytes")
    return content


def _write(path: Path, content: bytes) -> None:
    """Write a file whole: whoever watches the folder sees all of it or nothing."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise SettingsInvalid(f"{path} cannot be written: {error.strerror}") from error
