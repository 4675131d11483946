"""One PCR and the log that explains it, kept together over crashes and failing TPMs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.errors import AttestationError
from attestation.limits import MAX_AGENT_LOG_BYTES, MAX_AGENT_RECORDS
from attestation.logs.agent_files import AgentFiles
from attestation.logs.cel import (
    CelLog,
    Measurement,
    RecordKind,
    content_digests,
    decode_cel,
    encode_content,
    encode_record,
    replay_cel,
    whole_records,
)
from attestation.pcr import PcrSelection, extend
from device_agent.errors import StateUnwritable, TpmRefused
from device_agent.measure.log_file import AgentLogFile
from device_agent.ports import Tpm


def _nobody(_reason: str) -> None:
    """Tell nobody."""


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Who is kept informed.

    Attributes:
        report: Told in words what an operator should know.
        alive: Called now and then in long work (the watchdog).
    """

    report: Callable[[str], None] = _nobody
    alive: Callable[[], None] = _nothing


UNWATCHED: Final = Watch()
"""Nobody is kept informed."""


_LAST_BYTES: Final = 512
"""Room kept for the record that says that the log is full."""

Values = dict[HashAlgorithm, bytes]
"""The PCR's value in each bank."""


class MeasuredRegister:
    """A PCR that only we extend, with its log.

    Args:
        tpm: The TPM.
        pcr: The PCR.
        file: Where the log is kept.
        watch: Told of what the log cannot explain, and of a disk that cannot be written.
        most: Records until the log is full.
    """

    def __init__(
        self,
        tpm: Tpm,
        pcr: int,
        file: AgentLogFile,
        watch: Watch,
        *,
        most: int = MAX_AGENT_RECORDS,
    ) -> None:
        self._tpm = tpm
        self._pcr = pcr
        self._file = file
        self._report = watch.report
        self._most = most
        self._banks: tuple[HashAlgorithm, ...] = ()
        self._held: Values = {}
        self._content = bytearray()
        self._count = 0
        self._sure = False
        self._on_disk = False
        self._told = False
        self.files = AgentFiles()

    @property
    def pcr(self) -> int:
        """The PCR."""
        return self._pcr

    @property
    def content(self) -> bytes:
        """The whole log."""
        return bytes(self._content)

    def synchronise(self) -> None:
        """Make sure that the log leads to what the PCR holds, or say that it does not.

        The PCR may have moved without us: a TPM that lost its state over sleep begins at zeros, and
        so does the log then. The log may be one record ahead of the PCR (we fell between writing
        and extending): that record is extended now. If nothing we kept explains the PCR we say so
        once and go on: the verifier will refuse the device until it is restarted.

        Raises:
            TpmError: If the TPM fails, or has no bank that we can extend.
        """
        if self._sure and self._values() == self._held:
            return
        held = self._read()
        kept = (bytes(self._content), *self._file.kept())
        chosen = b""
        if any(any(value) for value in held.values()):
            chosen = self._explaining(held, kept)
        self._take(chosen)
        self._write_whole()
        self._held = self._values()
        self._sure = True

    def _read(self) -> Values:
        labels = self._tpm.status().banks
        self._banks = tuple(bank for bank in HashAlgorithm if bank.label in labels)
        if not self._banks:
            raise TpmRefused("the TPM has no PCR bank that we can extend; allocate SHA-256")
        return self._values()

    def _values(self) -> Values:
        selections = [PcrSelection(bank=bank, indices=(self._pcr,)) for bank in self._banks]
        values = self._tpm.read_pcrs(selections)
        return {bank: values[bank][self._pcr] for bank in self._banks}

    def _explaining(self, held: Values, kept: tuple[bytes, ...]) -> bytes:
        """Return the kept log that leads to these values; extends its last record if need be."""
        logs = [content[: whole_records(content)] for content in kept]
        for content in logs:
            log = self._readable(content)
            if log is None:
                continue
            before, after = self._replay(log, skip=1), self._replay(log, skip=0)
            if after == held:
                return content
            if before == held:
                self._extend(log.records[-1].content)
                return content
        self._report(
            f"PCR {self._pcr} holds what no log of ours explains: something else extended it, or "
            "the state directory was emptied. The verifier will refuse this device until it is "
            "restarted"
        )
        return next((content for content in logs[:2] if self._readable(content)), b"")

    def _readable(self, content: bytes) -> CelLog | None:
        try:
            log = decode_cel(content)
        except AttestationError:
            return None
        same = log.pcr == self._pcr and set(log.banks) == set(self._banks)
        return log if same else None

    def _replay(self, log: CelLog, *, skip: int) -> Values:
        records = log.records[: len(log.records) - skip]
        try:
            return {
                bank: replay_cel(CelLog(pcr=log.pcr, banks=log.banks, records=records), bank)
                for bank in self._banks
            }
        except AttestationError:
            return {}

    def _take(self, content: bytes) -> None:
        self._content = bytearray(content)
        records = decode_cel(content).records if content else ()
        self._count = len(records)
        self.files = AgentFiles.of(record.measured for record in records)

    def record(self, measured: Measurement) -> None:
        """Log and extend one measurement; nothing once the log is full.

        Raises:
            TpmError: If the TPM fails; the next :meth:`synchronise` finds out how far it came.
        """
        if self.files.full:
            return
        room = len(self._content) + len(measured.path) * 4 + 2 * _LAST_BYTES
        if self._count + 1 >= self._most or room > MAX_AGENT_LOG_BYTES:
            self.close_log()
            return
        self._record(measured)

    def close_log(self) -> None:
        """Say in the log that nothing is measured any more.

        Raises:
            TpmError: If the TPM fails.
        """
        if self.files.full:
            return
        self._record(Measurement(kind=RecordKind.FULL, path="."))
        self._report(
            f"the agent's measurement log is full after {self._count} records; nothing more is "
            "measured until the machine is restarted. Exclude files that change all the time"
        )

    def _record(self, measured: Measurement) -> None:
        content = encode_content(measured)
        digests = content_digests(content, self._banks)
        record = encode_record(self._count, self._pcr, digests, content)
        self._content += record
        self._count += 1
        self._sure = False
        self._write(record)
        self._extend(content)
        self._held = {bank: extend(bank, self._held[bank], digests[bank]) for bank in self._banks}
        self.files.apply(measured)
        self._sure = True

    def _extend(self, content: bytes) -> None:
        self._tpm.extend_pcr(self._pcr, content_digests(content, self._banks))

    def _write(self, record: bytes) -> None:
        if not self._on_disk:
            self._write_whole()
            return
        try:
            self._file.append(record)
        except StateUnwritable as error:
            self._unwritable(error)

    def _write_whole(self) -> None:
        """Write the log anew; where that fails, it is tried again with the next record."""
        try:
            self._file.replace(bytes(self._content))
        except StateUnwritable as error:
            self._unwritable(error)
            return
        self._on_disk, self._told = True, False

    def _unwritable(self, error: StateUnwritable) -> None:
        """Go on with the log in memory; tell once until it can be written again."""
        self._on_disk = False
        if not self._told:
            self._told = True
            self._report(error.reason)
