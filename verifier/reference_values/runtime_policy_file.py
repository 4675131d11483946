"""Runtime policies as TOML: meant to be read, reviewed and kept under version control.

Layout (``docs/runtime-policy.md`` explains it)::

    name = "edge-box"
    version = 3
    description = "learnt from box-0042"
    exclude = ["/var/log/**"]           # paths left out, whatever they hold
    files = '''                          # digest and path
    sha256:3d45…  /usr/bin/env
    '''
    digests = '''                        # under any path; what follows is a remark
    sha256:a1b2…  firmware blob
    '''
    denied = '''                         # never, whatever else says so
    sha256:c3d4…  vulnerable sudo 1.9.5
    '''

    [[signers]]
    name = "packages"
    pem = '''-----BEGIN PUBLIC KEY-----…'''
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from typing import Final

from attestation.errors import LimitExceeded, MalformedInput
from attestation.logs.ima.aggregate import BOOT_AGGREGATE
from attestation.logs.ima.follow import Known, hashed_entries
from attestation.logs.ima.signature import FileKey
from attestation.logs.ima.template import ng_data, sized
from attestation.refusals import RefusalCode
from verifier.reference_values.runtime_globs import PathPatterns
from verifier.reference_values.runtime_keyring import KeyName, Keyring, read_keys
from verifier.reference_values.runtime_policy import RuntimePolicy
from verifier.reference_values.runtime_rows import Row, RowInvalid, path_of, read_rows
from verifier.reference_values.toml_lines import line_of

MAX_RUNTIME_POLICY_CHARS: Final = 64 * 1024 * 1024
"""A policy of 400 000 files has about 50 million characters."""

MAX_NAME_CHARS: Final = 128
MAX_SIGNERS: Final = 256

_TOP: Final = ("name", "version", "description", "exclude", "files", "digests", "denied", "signers")
_SIGNER: Final = ("name", "pem")
_FINGERPRINT_CHARS: Final = 12


class _Invalid(Exception):
    """What is wrong, at which key, and how many lines below it."""

    def __init__(self, key: str, reason: str, below: int | None = None) -> None:
        super().__init__(reason)
        self.key, self.reason, self.below = key, reason, below


def load_runtime_policy(text: str, origin: str) -> RuntimePolicy:
    """Read and compile one runtime policy.

    Args:
        text: TOML of the layout above.
        origin: Where it came from, for messages.

    Raises:
        MalformedInput: ``runtime-policy-invalid`` if it is not TOML of that layout, or allows
            nothing; the message names key and line.
        LimitExceeded: If it is larger than ``MAX_RUNTIME_POLICY_CHARS``.
    """
    if len(text) > MAX_RUNTIME_POLICY_CHARS:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"{origin} has {len(text)} characters, at most {MAX_RUNTIME_POLICY_CHARS} are read",
            structure="RuntimePolicy",
        )
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _refused(f"{origin}: not TOML: {error}") from error
    try:
        return _policy(table, hashlib.sha256(text.encode()).hexdigest()[:_FINGERPRINT_CHARS])
    except _Invalid as error:
        raise _refused(
            f"{origin}, line {_line(text, error)}: {error.key}: {error.reason}"
        ) from error


def _line(text: str, error: _Invalid) -> int:
    """Return the line that is wrong; rows begin below their key where the quotes stand alone."""
    section, _, key = error.key.rpartition(".")
    line = line_of(text, section, key)
    if error.below is None:
        return line
    opened = text.split("\n")[line - 1].rstrip().endswith(("'''", '"""'))
    return line + error.below + opened


def _policy(table: Mapping[str, object], fingerprint: str) -> RuntimePolicy:
    for key in table:
        if key not in _TOP:
            raise _Invalid(key, f"unknown key; known are {', '.join(_TOP)}")
    name, version = _text(table, "name"), table.get("version", 1)
    if not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable():
        raise _Invalid("name", f"wanted 1 to {MAX_NAME_CHARS} printable characters")
    if type(version) is not int or version < 1:
        raise _Invalid("version", "wanted a number from 1")
    denied = {row.digest: row.rest for row in _rows(table, "denied")}
    digests = {row.digest for row in _rows(table, "digests")} - denied.keys()
    exclude = _patterns(table)
    entries, listed = _files(_rows(table, "files"), denied, exclude)
    keys = list(_keys(table))
    if not (entries or digests or keys):
        raise _Invalid("files", "the policy allows nothing: no files, no digests, no signers")
    return RuntimePolicy(
        name=name,
        version=version,
        fingerprint=fingerprint,
        description=_text(table, "description"),
        known=Known(
            entries=hashed_entries(entries),
            digests=frozenset(sized(digest) for digest in digests),
            width=_width(digests),
        ),
        denied=denied,
        exclude=exclude,
        listed=frozenset(listed),
        keyring=Keyring(keys),
    )


def _files(
    rows: Iterable[Row], denied: Mapping[bytes, str], exclude: PathPatterns
) -> tuple[set[bytes], set[bytes]]:
    """Return the template data of the allowed files, and the paths that are also left out."""
    entries: set[bytes] = set()
    listed: set[bytes] = set()
    for row in rows:
        if not row.rest:
            raise _Invalid("files", "a row has no path; digests alone stand in 'digests'", row.line)
        try:
            path = path_of(row.rest, row.line)
        except RowInvalid as error:
            raise _Invalid("files", str(error), error.line) from error
        if b"\0" in path or path == BOOT_AGGREGATE:
            raise _Invalid(
                "files", "a path holds NUL, or is boot_aggregate, which is recomputed", row.line
            )
        if exclude and exclude.matches(path):
            listed.add(path)
        if row.digest not in denied:
            entries.add(ng_data(row.digest, path))
    return entries, listed


def _width(digests: set[bytes]) -> int:
    """Return the length of the most frequent kind of digest field: one look finds those."""
    lengths = [4 + len(digest) for digest in digests]
    return max(set(lengths), key=lengths.count) if lengths else Known().width


def _rows(table: Mapping[str, object], key: str) -> Iterable[Row]:
    try:
        yield from read_rows(_text(table, key))
    except RowInvalid as error:
        raise _Invalid(key, str(error), error.line) from error


def _patterns(table: Mapping[str, object]) -> PathPatterns:
    patterns = table.get("exclude", [])
    if not isinstance(patterns, list) or not all(isinstance(one, str) for one in patterns):
        raise _Invalid("exclude", "wanted a list of patterns")
    try:
        return PathPatterns(patterns)
    except ValueError as error:
        raise _Invalid("exclude", str(error)) from error


def _keys(table: Mapping[str, object]) -> Iterable[tuple[KeyName, FileKey]]:
    signers = table.get("signers", [])
    if not isinstance(signers, list) or not all(isinstance(one, dict) for one in signers):
        raise _Invalid("signers", "wanted [[signers]] tables")
    if len(signers) > MAX_SIGNERS:
        raise _Invalid("signers", f"{len(signers)} signers, at most {MAX_SIGNERS} are taken")
    for signer in signers:
        for key in signer:
            if key not in _SIGNER:
                raise _Invalid(f"signers.{key}", f"unknown key; known are {', '.join(_SIGNER)}")
        name = _text(signer, "name") or "without a name"
        try:
            yield from read_keys(_text(signer, "pem"))
        except ValueError as error:
            raise _Invalid("signers.pem", f"signer {name[:40]!r}: {error}") from error


def _text(table: Mapping[str, object], key: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise _Invalid(key, "wanted a text")
    return value


def _refused(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.RUNTIME_POLICY_INVALID, reason, structure="RuntimePolicy")
