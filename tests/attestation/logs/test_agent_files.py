"""What an agent's log says in the end costs no more than its records."""

from __future__ import annotations

from typing import ClassVar

from typing_extensions import override

from attestation.logs.agent_files import AgentFiles
from attestation.logs.cel import Measurement, RecordKind

RECORDS = 1000


class CountedPath(str):
    """A path that counts how often it is compared."""

    __slots__ = ()
    compared: ClassVar[list[int]] = [0]

    @override
    def __eq__(self, other: object) -> bool:
        self.compared[0] += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


class CountedDigest(bytes):
    """A digest that counts how often it is compared."""

    compared: ClassVar[list[int]] = [0]

    @override
    def __eq__(self, other: object) -> bool:
        self.compared[0] += 1
        return bytes.__eq__(self, other)

    __hash__ = bytes.__hash__


def test_flood_of_excluded_patterns_does_not_grow_the_work_quadratically() -> None:
    CountedPath.compared[0] = 0

    files = AgentFiles.of(
        Measurement(kind=RecordKind.EXCLUDED, path=CountedPath(number)) for number in range(RECORDS)
    )

    assert len(files.excluded) == RECORDS
    assert CountedPath.compared[0] < RECORDS


def test_flood_of_aiboms_does_not_grow_the_work_quadratically() -> None:
    CountedDigest.compared[0] = 0

    files = AgentFiles.of(
        Measurement(
            kind=RecordKind.AIBOM, path="bom", digest=CountedDigest(number.to_bytes(32, "big"))
        )
        for number in range(RECORDS)
    )

    assert len(files.aiboms) == RECORDS
    assert CountedDigest.compared[0] < RECORDS
