"""Runtime policies written from IMA lists, for a person to review, and what differs between two."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from attestation.errors import InputError, MalformedInput
from attestation.logs.ima.aggregate import BOOT_AGGREGATE
from attestation.logs.ima.measured import parse_ima_list
from attestation.logs.ima.template import NG, path_of, read_template, show
from attestation.refusals import RefusalCode
from verifier.reference_values.runtime_keyring import signer_names
from verifier.reference_values.runtime_policy import RuntimePolicy
from verifier.reference_values.runtime_rows import digest_text, path_text

_SHOWN_VIOLATIONS = 50
_SHOWN_SIGNERS = 50


def learn_runtime_policy(name: str, lists: Sequence[tuple[str, bytes]]) -> str:
    """Write a policy that allows every file of some lists.

    What needs a look stands in comments: paths with several digests, files that changed while
    they were measured (they are not allowed by this), who signed how many files by their own
    words, directories with their counts.

    Args:
        name: The policy's name.
        lists: (origin, list) of machines that are known to be good; ascii or binary. Of an origin
            that is a path, the policy names the file alone.

    Returns:
        TOML, sorted by directory and path; the same lists give the same text.

    Raises:
        InputError: If a list cannot be read or is empty (the reason begins with its origin), or
            no list measures a file.
    """
    files: dict[bytes, set[bytes]] = {}
    violations: set[bytes] = set()
    signers: Counter[str] = Counter()
    remarks: list[str] = []
    for origin, content in lists:
        try:
            measured = parse_ima_list(content)
            shown = show(origin.rpartition("/")[2].encode())
            remarks.append(f"# learnt from {shown}: {measured.count} entries")
            for number, entry in enumerate(measured):
                if entry.is_violation:
                    violations.add(path_of(entry.template, entry.data))
                    continue
                file = read_template(entry.template, entry.data, number)
                if file.path != BOOT_AGGREGATE:
                    files.setdefault(file.path, set()).add(file.digest)
                    signers.update(signer_names(file))
        except InputError as error:
            raise error.told_of(origin) from error
    if not files:
        raise MalformedInput(
            RefusalCode.IMA_LIST_MISSING,
            "no list measures a file, so there is nothing to allow; boot the machine with an IMA "
            "policy that measures files (ima_policy=tcb) and take its list then",
            structure="IMA list",
        )
    remarks += _signed(signers)
    return "\n".join((*_head(name, remarks, violations), *_rows(files), "'''", ""))


def _signed(signers: Counter[str]) -> Iterator[str]:
    if signers:
        yield "# signed, by the files' own words (with the key in [[signers]] they need no row):"
    for name in sorted(signers)[:_SHOWN_SIGNERS]:
        yield f"#   {signers[name]} by {show(name.encode(), 160)}"


def _head(name: str, remarks: Iterable[str], violations: set[bytes]) -> Iterator[str]:
    yield "# Review every line: what stands here may run."
    yield from remarks
    if violations:
        yield f"# {len(violations)} files changed while they were measured and are told each time:"
        for path in sorted(violations)[:_SHOWN_VIOLATIONS]:
            yield f"#   {show(path)}"
    yield f"name = {json.dumps(name)}"
    yield "version = 1"
    yield 'description = "learnt; not reviewed yet"'
    yield "exclude = []"
    yield "files = '''"


def _rows(files: Mapping[bytes, set[bytes]]) -> Iterator[str]:
    by_directory: dict[bytes, list[bytes]] = {}
    for path in files:
        by_directory.setdefault(path.rpartition(b"/")[0], []).append(path)
    for directory, paths in sorted(by_directory.items()):
        yield ""
        yield f"# {path_text(directory) or '/'}: {len(paths)} files"
        for path in sorted(paths):
            if len(files[path]) > 1:
                yield f"# {len(files[path])} digests, it changed while this was learnt:"
            for digest in sorted(files[path]):
                yield f"{digest_text(digest)}  {path_text(path)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDifference:
    """What differs between two runtime policies, in the words of their rows.

    Attributes:
        added: Files (path, digests) that only the second allows.
        removed: Files that only the first allows.
        changed: Paths whose digests differ: (path, before, after).
        rules: Other differences, one sentence each.
    """

    added: tuple[tuple[str, tuple[str, ...]], ...]
    removed: tuple[tuple[str, tuple[str, ...]], ...]
    changed: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]
    rules: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.rules)

    def sentences(self) -> Iterator[str]:
        """Yield one line for each difference."""
        for path, digests in self.added:
            yield f"newly allowed: {path} ({', '.join(digests)})"
        for path, digests in self.removed:
            yield f"no longer allowed: {path} ({', '.join(digests)})"
        for path, before, after in self.changed:
            yield f"changed: {path}, was {', '.join(before)}, now {', '.join(after)}"
        yield from self.rules

    def document(self) -> dict[str, object]:
        """Return the document of ``verifier runtime-policy diff --json``."""
        return {
            "added": dict(self.added),
            "removed": dict(self.removed),
            "changed": {path: {"was": was, "now": now} for path, was, now in self.changed},
            "rules": list(self.rules),
        }


def compare_runtime_policies(first: RuntimePolicy, second: RuntimePolicy) -> PolicyDifference:
    """Say what the second policy allows or forbids otherwise than the first."""
    before, after = _allowed(first), _allowed(second)
    return PolicyDifference(
        added=tuple((path, after[path]) for path in sorted(after.keys() - before.keys())),
        removed=tuple((path, before[path]) for path in sorted(before.keys() - after.keys())),
        changed=tuple(
            (path, before[path], after[path])
            for path in sorted(before.keys() & after.keys())
            if before[path] != after[path]
        ),
        rules=tuple(_rules(first, second)),
    )


def _allowed(policy: RuntimePolicy) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for data in policy.known.entries:
        file = read_template(NG, data, 0)
        found.setdefault(path_text(file.path), []).append(digest_text(file.digest))
    return {path: tuple(sorted(digests)) for path, digests in found.items()}


def _rules(first: RuntimePolicy, second: RuntimePolicy) -> Iterator[str]:
    def digests(policy: RuntimePolicy) -> set[str]:
        return {digest_text(one[4:]) for one in policy.known.digests}

    def denied(policy: RuntimePolicy) -> set[str]:
        return {digest_text(one) for one in policy.denied}

    def patterns(policy: RuntimePolicy) -> set[str]:
        return set(policy.exclude.texts)

    def keys(policy: RuntimePolicy) -> set[str]:
        return set(policy.keyring.names)

    for what, texts in (
        ("allowed under any path", digests),
        ("denied", denied),
        ("left out", patterns),
        ("signer", keys),
    ):
        before, after = texts(first), texts(second)
        for one in sorted(after - before):
            yield f"{what}, new: {one}"
        for one in sorted(before - after):
            yield f"{what}, gone: {one}"
