"""AIBOMs: what a CycloneDX 1.6 or 1.7 JSON document says about an AI agent's files and parts.

The document stays the exact text that its provider endorsed; nothing is ever written back. Read
here is only what measurement and appraisal need. Which files a component stands for:

- A component with a SHA-256 in ``hashes`` stands for the file at each of its
  ``evidence.occurrences[].location`` (CycloneDX 1.5 and later).
- A component of type ``file`` without occurrences stands for the file of its ``name``.
- Any other component stands for no file: its hash, if any, is that of a package or a place else.

Locations are relative to the agent's root. The five parts are those of the AIBOM requirement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from attestation.errors import LimitExceeded, MalformedInput
from attestation.limits import (
    MAX_AGENT_PATH_BYTES,
    MAX_AIBOM_BYTES,
    MAX_AIBOM_COMPONENTS,
    MAX_AIBOM_DEPTH,
)
from attestation.refusals import RefusalCode
from attestation.wire.strict_json import parse_json

_VERSIONS: Final = ("1.6", "1.7")
_STRUCTURE: Final = "AIBOM"
_MOST_NAME_CHARS: Final = 128
_DIGEST_CHARS: Final = 64
_SHOWN: Final = 60
_MOST_VULNERABILITIES: Final = 8
"""Named for one component; one is enough to refuse it."""
_MOST_DIGESTS: Final = 64
"""Accepted for one path."""

_PROGRAMS: Final = frozenset(
    {"application", "framework", "library", "machine-learning-model", "container", "device-driver"}
)
_INFRASTRUCTURE: Final = frozenset(
    {"platform", "device", "device-driver", "firmware", "operating-system", "container"}
)


class Part(StrEnum):
    """The five parts of an AIBOM, as words for people."""

    MODELS = "models"
    DATASETS = "datasets"
    CONFIGURATIONS = "configurations"
    DEPENDENCIES = "dependencies"
    INFRASTRUCTURE = "infrastructure"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """One file that an AIBOM lists.

    Attributes:
        digests: Every SHA-256 that it may have.
        program: Whether it is code or a model, rather than data or configuration.
        component: The component's bom-ref, or else its name.
    """

    digests: frozenset[bytes]
    program: bool
    component: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedComponent:
    """What a deny-list can name a component by.

    Attributes:
        ref: Its bom-ref, or else its name.
        purl: Its package URL; empty without.
        digests: Its SHA-256 digests.
        exploitable: Vulnerabilities that the document itself calls exploitable in it.
    """

    ref: str
    purl: str
    digests: frozenset[bytes]
    exploitable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AibomListing:
    """What one AIBOM says.

    Attributes:
        name: The agent's name and version, e.g. ``field-assistant 2.1``.
        sha256: SHA-256 of the document's bytes.
        files: The files it lists, by path relative to the agent's root.
        components: All components.
        missing: Those of the five parts that it says nothing of.
    """

    name: str
    sha256: bytes
    files: Mapping[str, ListedFile]
    components: tuple[ListedComponent, ...]
    missing: tuple[Part, ...]


def read_aibom(document: bytes) -> AibomListing:
    """Read an AIBOM.

    Args:
        document: The exact bytes of the file.

    Raises:
        MalformedInput: ``aibom-malformed`` naming the place.
        LimitExceeded: ``too-large`` or ``too-many``.
    """
    if len(document) > MAX_AIBOM_BYTES:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"{len(document)} bytes, at most {MAX_AIBOM_BYTES} are accepted",
            structure=_STRUCTURE,
        )
    try:
        bom = parse_json(document)
    except ValueError as error:
        raise _malformed(f"not JSON: {str(error)[:_SHOWN]}") from error
    if not isinstance(bom, dict) or bom.get("bomFormat") != "CycloneDX":
        raise _malformed('bomFormat is not "CycloneDX"')
    if bom.get("specVersion") not in _VERSIONS:
        raise _malformed(
            f"specVersion is {_shown(bom.get('specVersion'))}, wanted {' or '.join(_VERSIONS)}"
        )
    main = _table(_table(bom, "metadata"), "component")
    components = [*([main] if main else []), *_components(bom)]
    files = _files(components)
    if not files:
        raise _malformed("no component lists a file with a SHA-256; see docs/ai-agent.md")
    exploitable = _exploitable(bom)
    return AibomListing(
        name=_agent_name(main),
        sha256=hashlib.sha256(document).digest(),
        files=files,
        components=tuple(_component(one, exploitable) for one in components),
        missing=tuple(part for part in Part if not _tells(part, bom, components)),
    )


def _agent_name(main: Mapping[str, Any]) -> str:
    name, version = main.get("name"), main.get("version", "")
    if not isinstance(name, str) or not isinstance(version, str):
        raise _malformed("metadata.component has no name; it must name the agent")
    both = f"{name} {version}".strip()
    if not both.isprintable() or not 0 < len(both) <= _MOST_NAME_CHARS:
        raise _malformed(
            f"metadata.component: name and version must be 1 to {_MOST_NAME_CHARS} printable "
            "characters"
        )
    return both


def _components(bom: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield every component below the document's list, parents first."""
    level = _tables(bom, "components")
    main = _table(_table(bom, "metadata"), "component")
    level += _tables(main, "components")
    count = depth = 0
    while level:
        depth += 1
        count += len(level)
        if depth > MAX_AIBOM_DEPTH or count > MAX_AIBOM_COMPONENTS:
            raise LimitExceeded(
                RefusalCode.TOO_MANY,
                f"components nest deeper than {MAX_AIBOM_DEPTH} or are more than "
                f"{MAX_AIBOM_COMPONENTS}",
                structure=_STRUCTURE,
            )
        yield from level
        level = [below for one in level for below in _tables(one, "components")]


def _files(components: list[Mapping[str, Any]]) -> dict[str, ListedFile]:
    found: dict[str, ListedFile] = {}
    for one in components:
        digests = _sha256(one)
        if not digests:
            continue
        program = str(one.get("type")) in _PROGRAMS
        for path in _locations(one):
            before = found.get(path)
            if before is not None and len(before.digests) > _MOST_DIGESTS:
                raise _malformed(f"{_shown(path)} is listed with more than {_MOST_DIGESTS} digests")
            found[path] = ListedFile(
                digests=digests | (before.digests if before else frozenset()),
                program=program or (before is not None and before.program),
                component=_ref(one),
            )
    return found


def _locations(one: Mapping[str, Any]) -> Iterator[str]:
    occurrences = _tables(_table(one, "evidence"), "occurrences")
    given = [item.get("location") for item in occurrences]
    if not occurrences and one.get("type") == "file":
        given = [one.get("name")]
    for place in given:
        if not isinstance(place, str):
            raise _malformed(f"component {_shown(_ref(one))}: an occurrence has no location")
        path = place.removeprefix("./")
        names = path.split("/")
        if (
            not path.isprintable()
            or any(name in {"", ".", ".."} for name in names)
            or len(path.encode()) > MAX_AGENT_PATH_BYTES
        ):
            raise _malformed(
                f"component {_shown(_ref(one))}: location {_shown(place)} is not a path relative "
                "to the agent's root"
            )
        yield path


def _sha256(one: Mapping[str, Any]) -> frozenset[bytes]:
    found = set()
    for item in _tables(one, "hashes"):
        if item.get("alg") != "SHA-256":
            continue
        content = item.get("content")
        try:
            digest = bytes.fromhex(content) if isinstance(content, str) else b""
        except ValueError:
            digest = b""
        if len(digest) * 2 != _DIGEST_CHARS or len(str(content)) != _DIGEST_CHARS:
            raise _malformed(f"component {_shown(_ref(one))}: its SHA-256 is not 64 hex digits")
        found.add(digest)
    return frozenset(found)


def _component(
    one: Mapping[str, Any], exploitable: Mapping[str, tuple[str, ...]]
) -> ListedComponent:
    purl, ref = one.get("purl"), _ref(one)
    return ListedComponent(
        ref=ref,
        purl=purl if isinstance(purl, str) else "",
        digests=_sha256(one),
        exploitable=exploitable.get(ref, ()),
    )


def _exploitable(bom: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return bom-ref to the vulnerabilities that the document's own VEX calls exploitable."""
    found: dict[str, tuple[str, ...]] = {}
    for one in _tables(bom, "vulnerabilities"):
        if _table(one, "analysis").get("state") != "exploitable":
            continue
        name = one.get("id")
        for item in _tables(one, "affects"):
            ref = item.get("ref")
            if isinstance(ref, str):
                shown = name if isinstance(name, str) else "a vulnerability without id"
                found[ref] = (*found.get(ref, ()), shown)[:_MOST_VULNERABILITIES]
    return found


def _tells(part: Part, bom: Mapping[str, Any], components: list[Mapping[str, Any]]) -> bool:
    kinds = {str(one.get("type")) for one in components}
    data = {
        str(item.get("type")) for one in components for item in _tables(one, "data", lenient=True)
    }
    match part:
        case Part.MODELS:
            return "machine-learning-model" in kinds
        case Part.DATASETS:
            return "dataset" in data or any(_model_datasets(one) for one in components)
        case Part.CONFIGURATIONS:
            return "configuration" in data or "file" in kinds
        case Part.DEPENDENCIES:
            return any(item.get("dependsOn") for item in _tables(bom, "dependencies"))
        case Part.INFRASTRUCTURE:
            return bool(kinds & _INFRASTRUCTURE)


def _model_datasets(one: Mapping[str, Any]) -> bool:
    return bool(_table(_table(one, "modelCard"), "modelParameters").get("datasets"))


def _ref(one: Mapping[str, Any]) -> str:
    for key in ("bom-ref", "name"):
        value = one.get(key)
        if isinstance(value, str) and value:
            return value
    raise _malformed("a component has neither bom-ref nor name")


def _table(table: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise _malformed(f"{key} is not an object")
    return value


def _tables(table: Mapping[str, Any], key: str, *, lenient: bool = False) -> list[dict[str, Any]]:
    value = table.get(key, [])
    if lenient and not isinstance(value, list):
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _malformed(f"{key} is not a list of objects")
    return list(value)


def _shown(value: object) -> str:
    return ascii(str(value)[:_SHOWN])


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.AIBOM_MALFORMED, reason, structure=_STRUCTURE)
