"""PC Client base RIMs as SWID tags (TCG PC Client RIM 1.04, RIM Information Model 1.01).

A base RIM names its support files with their digests; the support file that counts here is the
event log that a known-good machine writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.errors import LimitExceeded, MalformedInput, SignatureInvalid, Unsupported
from attestation.limits import MAX_RIM_FILES
from attestation.refusals import RefusalCode
from verifier.reference_values.rim_signature import SWID, Element

_STRUCTURE: Final = "base RIM"
_TCG: Final = "https://trustedcomputinggroup.org"
_MODEL: Final = (
    f"{{{_TCG}/resource/tcg-reference-integrity-manifest-rim-information-model/}}",
    f"{{{_TCG}/wp-content/uploads/TCG_RIM_Model}}",
)
"""Namespaces of the information model's attributes; the second one is that of common tools."""
_HASHES: Final[Mapping[str, HashAlgorithm]] = {
    "{http://www.w3.org/2001/04/xmlenc#sha256}hash": HashAlgorithm.SHA256,
    "{http://www.w3.org/2001/04/xmlenc#sha384}hash": HashAlgorithm.SHA384,
    "{http://www.w3.org/2001/04/xmldsig-more#sha384}hash": HashAlgorithm.SHA384,
    "{http://www.w3.org/2001/04/xmlenc#sha512}hash": HashAlgorithm.SHA512,
}
_BINDING: Final = "PC Client RIM"
_EVENT_LOG: Final = "TCG_EventLog_Assertion"
_EVENT_LOG_SUFFIX: Final = ".rimel"
_NOT_WHOLE: Final = ("patch", "supplemental", "corpus")
_MAX_TEXT_CHARS: Final = 128
_MAX_SIZE_DIGITS: Final = 12
_MOST_VERSION_DIGITS: Final = 9
_HEX: Final = frozenset("0123456789abcdefABCDEF")


@dataclass(frozen=True, slots=True, kw_only=True)
class SupportFile:
    """A file that the payload names.

    Attributes:
        path: Directories and name, as the RIM tells them.
        size: In bytes; None if it does not say.
        digests: By algorithm; at least one.
        event_log: Whether it is an event log: by its format, by its name, or as the only file.
    """

    path: str
    size: int | None
    digests: Mapping[HashAlgorithm, bytes]
    event_log: bool

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def is_content(self, content: bytes) -> bool:
        """Whether a content has the size and every digest."""
        return self.size in (None, len(content)) and all(
            algorithm.digest(content) == digest for algorithm, digest in self.digests.items()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRim:
    """What a base RIM says.

    Attributes:
        tag_id: The tag's id.
        tag_version: The tag's version; ``0`` if it does not say.
        name: The firmware's name.
        version: The firmware's version.
        manufacturer: The platform's manufacturer.
        model: The platform's model.
        platform_version: The platform's version; empty if it does not say.
        files: Support files in their order; at least one is an event log.
        notices: What it says besides, which is not used.
    """

    tag_id: str
    tag_version: str
    name: str
    version: str
    manufacturer: str
    model: str
    platform_version: str
    files: tuple[SupportFile, ...]
    notices: tuple[str, ...]

    @property
    def platform(self) -> str:
        """Manufacturer and model: what the set is named by."""
        return f"{self.manufacturer} {self.model}"

    @property
    def tag_number(self) -> int:
        """The tag's version as a number (ISO/IEC 19770-2: a whole one); 0 if it is none."""
        text = self.tag_version
        whole = text.isascii() and text.isdecimal() and len(text) <= _MOST_VERSION_DIGITS
        return int(text) if whole else 0

    def describe(self) -> str:
        """Return one line for people."""
        platform = f"{self.platform} {self.platform_version}".rstrip()
        return (
            f"PC Client RIM {self.tag_id} version {self.tag_version}, "
            f"{self.name} {self.version} for {platform}"
        )


def read_base_rim(tag: Element) -> BaseRim:
    """Read a base RIM.

    Args:
        tag: A SWID tag whose signature holds.

    Raises:
        MalformedInput: ``rim-malformed`` if something is missing or malformed, or it is not a
            primary RIM of the PC Client binding.
        Unsupported: ``unsupported-algorithm`` if a file has no digest of ours.
        LimitExceeded: If it names too many files.
    """
    for kind in _NOT_WHOLE:
        if tag.attributes.get(kind, "false") not in ("false", "0"):
            raise _malformed(f"is a {kind} RIM, which does not speak of the whole firmware")
    meta = _only(tag, "Meta")
    if _model_text(meta, "bindingSpec") != _BINDING:
        raise _malformed(f"is of another binding than {_BINDING!r}")
    notices = _notices(tag, meta)
    return BaseRim(
        tag_id=_text(tag.attributes, "tagId"),
        tag_version=_text(tag.attributes, "tagVersion", "0"),
        name=_text(tag.attributes, "name"),
        version=_text(tag.attributes, "version", "0.0"),
        manufacturer=_model_text(meta, "platformManufacturerStr"),
        model=_model_text(meta, "platformModel"),
        platform_version=_model_text(meta, "platformVersion", ""),
        files=_files(_only(tag, "Payload")),
        notices=notices,
    )


def match_support(rim: BaseRim, given: Mapping[str, bytes]) -> Sequence[tuple[SupportFile, bytes]]:
    """Hold the given files against those that the RIM names; all and no others must be there.

    Args:
        rim: The base RIM.
        given: Contents by the name that the operator knows them by; the name proves nothing.

    Returns:
        Each file of the RIM with its content.

    Raises:
        SignatureInvalid: ``rim-support-mismatch`` if one is missing, changed or not named.
    """
    found: list[tuple[SupportFile, bytes]] = []
    used: set[str] = set()
    for file in rim.files:
        fitting = [name for name, content in given.items() if file.is_content(content)]
        if not fitting:
            raise _mismatch(_why_absent(file, given))
        used.update(fitting)
        found.append((file, given[fitting[0]]))
    extra = sorted(given.keys() - used)
    if extra:
        raise _mismatch(f"the base RIM does not name {extra[0]}")
    return found


def _why_absent(file: SupportFile, given: Mapping[str, bytes]) -> str:
    for name, content in given.items():
        if name.rpartition("/")[2] != file.name:
            continue
        if file.size not in (None, len(content)):
            return f"{name} has {len(content)} bytes, the base RIM says {file.size}"
        return f"{name} has another digest than the base RIM says"
    return f"the support file {file.path!r} is not given (--support), or not as it was signed"


def _files(payload: Element) -> tuple[SupportFile, ...]:
    listed = list(_listed(payload, "", ""))
    if not listed:
        raise _malformed("names no support file")
    if len(listed) > MAX_RIM_FILES:
        raise LimitExceeded(
            RefusalCode.TOO_MANY,
            f"names {len(listed)} support files, at most {MAX_RIM_FILES} are taken",
            structure=_STRUCTURE,
        )
    alone = len(listed) == 1
    files = tuple(_file(element, path, kind, alone=alone) for element, path, kind in listed)
    logs = [one.path for one in files if one.event_log]
    if not logs:
        raise _malformed("names no event log among its support files")
    if len(set(logs)) < len(logs):
        raise _malformed("names two event logs by one path; each makes a set of that name")
    return files


def _listed(folder: Element, path: str, kind: str) -> Iterator[tuple[Element, str, str]]:
    """Yield each File below with its path and the format that it or a directory above states."""
    for one in folder.children:
        stated = _model_text(one, "supportRIMFormat", kind)
        if one.tag == f"{SWID}Directory":
            below = _text(one.attributes, "name", "")
            yield from _listed(one, f"{path}{below}/" if below else path, stated)
        elif one.tag == f"{SWID}File":
            yield one, path + _text(one.attributes, "name"), stated
        else:
            raise _malformed("the payload holds something besides directories and files")


def _file(element: Element, path: str, kind: str, *, alone: bool) -> SupportFile:
    digests: dict[HashAlgorithm, bytes] = {}
    for name, algorithm in _HASHES.items():
        value = element.attributes.get(name)
        if value is None:
            continue
        if len(value) != 2 * algorithm.size or not _HEX.issuperset(value):
            raise _malformed(f"the {algorithm.label} digest of {path!r} is not one in hex")
        digest = bytes.fromhex(value)
        if digests.setdefault(algorithm, digest) != digest:
            raise _malformed(f"{path!r} has two {algorithm.label} digests")
    if not digests:
        raise Unsupported(
            RefusalCode.UNSUPPORTED_ALGORITHM,
            f"{path!r} has no SHA-256, SHA-384 or SHA-512 digest",
            structure=_STRUCTURE,
        )
    size = element.attributes.get("size")
    if size is not None and not (
        size.isascii() and size.isdecimal() and len(size) <= _MAX_SIZE_DIGITS
    ):
        raise _malformed(f"the size of {path!r} is no number")
    return SupportFile(
        path=path,
        size=None if size is None else int(size),
        digests=digests,
        event_log=kind == _EVENT_LOG
        or (not kind and (alone or path.lower().endswith(_EVENT_LOG_SUFFIX))),
    )


def _notices(tag: Element, meta: Element) -> tuple[str, ...]:
    notices: list[str] = []
    if _model_text(meta, "rimLinkHash", ""):
        notices.append("the RIM that it links to (rimLinkHash) is not followed")
    if any(one.tag == f"{SWID}Evidence" for one in tag.children):
        notices.append("evidence in the tag is not used")
    return tuple(notices)


def _only(tag: Element, name: str) -> Element:
    found = [one for one in tag.children if one.tag == SWID + name]
    if len(found) != 1:
        raise _malformed(f"has {len(found)} {name} elements, wanted one")
    return found[0]


def _model_text(element: Element, name: str, default: str | None = None) -> str:
    """Return an attribute of the information model; two that disagree are refused."""
    stated = {space + name: element.attributes.get(space + name) for space in _MODEL}
    values = {value for value in stated.values() if value is not None}
    if len(values) > 1:
        raise _malformed(f"says {name} twice, and not the same")
    return _text({name: values.pop()} if values else {}, name, default)


def _text(attributes: Mapping[str, str], name: str, default: str | None = None) -> str:
    value = attributes.get(name, default)
    if value is None or (not value and default is None):
        raise _malformed(f"has no {name}")
    if len(value) > _MAX_TEXT_CHARS or not value.isprintable():
        raise _malformed(f"{name} is not up to {_MAX_TEXT_CHARS} printable characters")
    return value


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.RIM_MALFORMED, reason, structure=_STRUCTURE)


def _mismatch(reason: str) -> SignatureInvalid:
    return SignatureInvalid(RefusalCode.RIM_SUPPORT_MISMATCH, reason, structure=_STRUCTURE)
