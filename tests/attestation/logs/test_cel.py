from __future__ import annotations

import hashlib
import struct

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.errors import InputError, LimitExceeded, ReplayMismatch
from attestation.limits import MAX_AGENT_LOG_BYTES
from attestation.logs.agent_files import MOST_PAST, AgentFiles
from attestation.logs.cel import (
    Measurement,
    RecordKind,
    content_digests,
    decode_cel,
    encode_content,
    encode_record,
    replay_cel,
    shown_path,
    whole_records,
)

SHA1, SHA256, SHA384 = HashAlgorithm.SHA1, HashAlgorithm.SHA256, HashAlgorithm.SHA384
BANKS = (SHA1, SHA256)


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack(">BI", kind, len(value)) + value


def record(
    number: int = 0,
    *,
    recnum: bytes | None = None,
    pcr: bytes = b"\x0d",
    digests: bytes | None = None,
    content: bytes | None = None,
) -> bytes:
    """One record packed by hand, shaped as TCG Canonical Event Log 1.0 section 5.1 says."""
    content = tlv(8, tlv(0, b"agent.py") + tlv(1, bytes(32))) if content is None else content
    if digests is None:
        digests = tlv(4, hashlib.sha1(content).digest())  # noqa: S324 - a bank of the TPM
        digests += tlv(11, hashlib.sha256(content).digest())
    recnum = struct.pack(">Q", number) if recnum is None else recnum
    return tlv(0, recnum) + tlv(1, pcr) + tlv(3, digests) + content


def test_writer_writes_what_the_standard_says() -> None:
    measured = Measurement(kind=RecordKind.FILE, path="agent.py")
    content = encode_content(measured)

    assert encode_record(0, 13, content_digests(content, BANKS), content) == record()


def test_label_tells_the_kind() -> None:
    for kind in RecordKind:
        content = encode_content(Measurement(kind=kind, path="x"))
        log = encode_record(0, 13, content_digests(content, BANKS), content)
        assert decode_cel(log).records[0].measured.kind is kind


def test_paths_are_bytes_and_lose_nothing() -> None:
    content = tlv(8, tlv(0, b"\xff\n") + tlv(1, bytes(32)))
    measured = decode_cel(record(content=content)).records[0].measured

    assert measured.path == "\udcff\n"
    assert encode_content(measured) == content


def test_replay_hashes_the_content_fields_in_order() -> None:
    first, second = record(0), record(1)
    content = tlv(8, tlv(0, b"agent.py") + tlv(1, bytes(32)))
    digest = hashlib.sha256(content).digest()
    once = hashlib.sha256(bytes(32) + digest).digest()

    assert replay_cel(decode_cel(first), SHA256) == once
    assert replay_cel(decode_cel(first + second), SHA256) == hashlib.sha256(once + digest).digest()


def test_bank_without_digests_cannot_be_replayed() -> None:
    with pytest.raises(ReplayMismatch, match="no sha384 digests"):
        replay_cel(decode_cel(record()), SHA384)


def test_digest_that_is_not_of_its_content_is_named() -> None:
    digests = tlv(11, bytes(32))
    with pytest.raises(ReplayMismatch, match=r"record 0 \(agent\.py\)"):
        replay_cel(decode_cel(record(digests=digests)), SHA256)


FILE = tlv(0, b"agent.py") + tlv(1, bytes(32))
MALFORMED = {
    "empty": b"",
    "first number is not 0": record(1),
    "number repeats": record(0) + record(0),
    "number of 4 bytes": record(recnum=bytes(4)),
    "PCR of 4 bytes": record(pcr=b"\0\0\0\x0d"),
    "PCR 24": record(pcr=b"\x18"),
    "another PCR later": record(0) + record(1, pcr=b"\x10"),
    "NV index in place of a PCR": record().replace(tlv(1, b"\x0d"), tlv(2, b"\x0d"), 1),
    "no digest": record(digests=b""),
    "short digest": record(digests=tlv(11, bytes(31))),
    "unknown bank": record(digests=tlv(0x99, bytes(32))),
    "bank twice": record(digests=tlv(11, bytes(32)) * 2),
    "fewer banks later": record(0) + record(1, digests=tlv(11, bytes(32))),
    "CEL management content": record(content=tlv(4, b"")),
    "PC Client content": record(content=tlv(5, b"")),
    "IMA template content": record(content=tlv(7, FILE)),
    "content of a private type": record(content=tlv(200, FILE)),
    "empty content": record(content=tlv(8, b"")),
    "no data hash": record(content=tlv(8, tlv(0, b"a"))),
    "hash before path": record(content=tlv(8, tlv(1, bytes(32)) + tlv(0, b"a"))),
    "empty path": record(content=tlv(8, tlv(0, b"") + tlv(1, bytes(32)))),
    "path with NUL": record(content=tlv(8, tlv(0, b"a\0b") + tlv(1, bytes(32)))),
    "long path": record(content=tlv(8, tlv(0, b"a" * 4097) + tlv(1, bytes(32)))),
    "SHA-1 of the file": record(content=tlv(8, tlv(0, b"a") + tlv(1, bytes(20)))),
    "unknown label": record(content=tlv(8, FILE + tlv(7, b"trust me"))),
    "empty label": record(content=tlv(8, FILE + tlv(7, b""))),
    "signature field": record(content=tlv(8, FILE + tlv(2, b""))),
    "trailing field": record(content=tlv(8, FILE + tlv(7, b"removed") + tlv(7, b"removed"))),
    "cut": record()[:-1],
    "trailing byte": record() + b"\0",
    "length beyond the end": record() + b"\0\xff\xff\xff\xff",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_log_is_refused(data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        decode_cel(data)
    assert caught.value.code == "agent-log-malformed"


def test_caps_are_held() -> None:
    with pytest.raises(LimitExceeded):
        decode_cel(bytes(MAX_AGENT_LOG_BYTES + 1))
    small = tlv(8, tlv(0, b"a") + tlv(1, bytes(32)))
    digests = tlv(4, bytes(20))
    log = b"".join(record(n, content=small, digests=digests) for n in range(16_385))
    with pytest.raises(LimitExceeded) as caught:
        decode_cel(log)
    assert caught.value.code == "too-many"


def test_whole_records_stops_before_what_was_cut() -> None:
    two = record(0) + record(1)
    lengths = {whole_records(two[:end]) for end in range(len(two) + 1)}

    assert lengths == {0, len(record(0)), len(two)}


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("models/größe.onnx", "models/größe.onnx"),
        ("a\nb", r"a\nb"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\u202egpj", r"\u202egpj"),
        ("\udcff", r"\udcff"),
        ("back\\slash", r"back\\slash"),
    ],
)
def test_hostile_names_are_shown_escaped(path: str, shown: str) -> None:
    assert shown_path(path) == shown


@pytest.mark.parametrize("letter", ["a", "\n", "\udcff", "\u202e"])
def test_long_names_are_shown_short(letter: str) -> None:
    shown = shown_path(letter * 4000)

    assert len(shown) <= 121
    assert shown.isprintable()


def measured(kind: RecordKind, path: str = "a", number: int = 0) -> Measurement:
    return Measurement(kind=kind, path=path, digest=number.to_bytes(32, "big"))


def test_files_are_what_the_last_record_says() -> None:
    files = AgentFiles.of(
        [
            measured(RecordKind.AIBOM, "bom", 1),
            measured(RecordKind.FILE, "a", 1),
            measured(RecordKind.FILE, "b", 1),
            measured(RecordKind.FILE, "a", 2),
            measured(RecordKind.REMOVED, "b", 1),
            measured(RecordKind.AIBOM, "bom", 2),
            measured(RecordKind.EXCLUDED, "c*"),
        ]
    )

    assert files.present == {"a": measured(RecordKind.FILE, "a", 2)}
    assert files.past == {
        "a": (measured(RecordKind.FILE, "a", 1),),
        "b": (measured(RecordKind.FILE, "b", 1),),
    }
    assert files.aibom == measured(RecordKind.AIBOM, "bom", 2)
    assert tuple(files.aiboms) == ((1).to_bytes(32, "big"), (2).to_bytes(32, "big"))
    assert tuple(files.excluded) == ("c*",)
    assert not files.full


def test_past_of_a_flipping_file_is_bounded_and_keeps_the_first() -> None:
    files = AgentFiles.of(measured(RecordKind.FILE, "a", number) for number in range(100))

    assert len(files.past["a"]) == MOST_PAST
    assert files.past["a"][0] == measured(RecordKind.FILE, "a", 0)
