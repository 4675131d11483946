"""What there is to record now: found files against what the log says already. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from attestation.logs.agent_files import AgentFiles
from attestation.logs.cel import Measurement, RecordKind
from attestation.wire.cyclonedx import AibomListing

StatKey = tuple[int, int, int, int, int]
"""Device, inode, size, mtime_ns, ctime_ns: while they stay, so did the content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One path under the agent's root.

    Attributes:
        kind: ``FILE`` for what is to be hashed, else what to record of it.
        key: Of the file, or of what a link leads to.
        digest: Of a link's text; zeros otherwise.
    """

    kind: RecordKind
    key: StatKey
    digest: bytes = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """A file as it was hashed."""

    key: StatKey
    measured: Measurement


def stale(found: Mapping[str, Found], known: Mapping[str, Remembered]) -> tuple[str, ...]:
    """Return the files that must be hashed: new ones, and those whose stat is another now."""
    return tuple(
        path
        for path, one in sorted(found.items())
        if one.kind is RecordKind.FILE and (path not in known or known[path].key != one.key)
    )


def pending(now: Mapping[str, Measurement], files: AgentFiles) -> Iterator[Measurement]:
    """Yield the records that bring the log to what is there now, in order of path.

    Args:
        now: What is there.
        files: What the log says is there.
    """
    for path in sorted(now.keys() | files.present.keys()):
        present, logged = now.get(path), files.present.get(path)
        if present is None and logged is not None:
            yield Measurement(kind=RecordKind.REMOVED, path=path, digest=logged.digest)
        elif present is not None and present != logged:
            yield present


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where the agent's files are not what its AIBOM lists.

    Attributes:
        changed: Listed, with another content, or not measurable.
        missing: Listed and not there.
        unlisted: There and not listed.
    """

    changed: tuple[str, ...]
    missing: tuple[str, ...]
    unlisted: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.changed or self.missing or self.unlisted)


def compare(present: Mapping[str, Measurement], listing: AibomListing) -> Difference:
    """Hold what is there against what the AIBOM lists."""
    return Difference(
        changed=tuple(
            path
            for path, one in sorted(present.items())
            if path in listing.files
            and not (one.kind.measured and one.digest in listing.files[path].digests)
        ),
        missing=tuple(sorted(listing.files.keys() - present.keys())),
        unlisted=tuple(sorted(present.keys() - listing.files.keys())),
    )


def difference_words(difference: Difference) -> str:
    """Return ``1 changed, 2 missing``; empty if there is no difference."""
    counts = (
        (len(difference.changed), "changed"),
        (len(difference.missing), "missing"),
        (len(difference.unlisted), "not listed"),
    )
    return ", ".join(f"{count} {word}" for count, word in counts if count)
