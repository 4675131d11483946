"""Every template, ascii and binary; real lists; and the whole pass against a plain replay."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.algorithms import HashAlgorithm
from attestation.errors import AttestationError, MalformedInput
from attestation.logs.ima import ImaEntry, parse_ima_list, replay_ima
from attestation.logs.ima.aggregate import BOOT_AGGREGATE, AggregateVerdict, judge_aggregate
from attestation.logs.ima.follow import Followed, Known, Place, follow, hashed_entries
from attestation.logs.ima.measured import binary_list
from attestation.logs.ima.template import ImaFile, path_of, read_template, show
from attestation.pcr import PcrBanks
from attestation.refusals import RefusalCode
from tests.simulators.soft_ima import ascii_line, entry, field, ng, tagged

DATA = Path(__file__).parents[3] / "data"
H12SSL = DATA / "immune-gmbh_guard-oss" / "bundle" / "h12ssl"
BINARY = (H12SSL / "binary_runtime_measurements").read_bytes()
BANKS = (HashAlgorithm.SHA1, HashAlgorithm.SHA256)
SHA256 = HashAlgorithm.SHA256
HEX = hashlib.sha256(b"x").hexdigest()
LEGACY = hashlib.sha1(b"x").digest() + b"/bin/a b".ljust(256, b"\0")  # noqa: S324
SIGNED = ng(b"/bin/a b", b"x") + field(b"\x03\x02")

TEMPLATES = {
    "ima": (LEGACY, f"{LEGACY[:20].hex()} /bin/a b"),
    "ima-ng": (ng(b"/bin/a b", b"x"), f"sha256:{HEX} /bin/a b"),
    "ima-ngv2": (
        field(b"ima:" + tagged(b"x")) + field(b"/bin/a b\0"),
        f"ima:sha256:{HEX} /bin/a b",
    ),
    "ima-sig": (SIGNED, f"sha256:{HEX} /bin/a b 0302"),
    "ima-sigv2": (
        field(b"verity:" + tagged(b"x")) + field(b"/bin/a b\0") + field(b"\x06\x03"),
        f"verity:sha256:{HEX} /bin/a b 0603",
    ),
    "ima-modsig": (
        SIGNED + field(tagged(b"m")) + field(b"\x30\x82"),
        f"sha256:{HEX} /bin/a b 0302 sha256:{hashlib.sha256(b'm').hexdigest()} 3082",
    ),
    "ima-buf": (ng(b"kexec-cmdline", b"x") + field(b"ro"), f"sha256:{HEX} kexec-cmdline 726f"),
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_each_template_is_read_alike_from_both_forms(template: str) -> None:
    data, text = TEMPLATES[template]
    line = ascii_line(text, data, template=template)

    binary = entry(data, template=template.encode())

    assert binary_list(line.encode()) == binary
    (read,) = parse_ima_list(binary).entries
    assert read == ImaEntry(10, HashAlgorithm.SHA1.digest(data), template.encode(), data)


def test_fields_of_each_template_are_told() -> None:
    files = {name: read_template(name.encode(), data, 0) for name, (data, _) in TEMPLATES.items()}

    assert {file.path for name, file in files.items() if name != "ima-buf"} == {b"/bin/a b"}
    assert files["ima"].algorithm == "sha1"
    assert files["ima-ngv2"].digest == files["ima-ng"].digest == tagged(b"x")
    assert files["ima-sigv2"].digest == b"verity:" + tagged(b"x")
    assert files["ima-sig"].signature == b"\x03\x02"
    assert (files["ima-modsig"].modsig_digest, files["ima-modsig"].modsig) == (
        tagged(b"m"),
        b"\x30\x82",
    )
    assert files["ima-buf"].buffer == b"ro"


@pytest.mark.parametrize("text", ["{} /bin/sh   ", "{} /bin/sh"])
def test_modsig_line_without_any_signature_is_read(text: str) -> None:
    data = ng(b"/bin/sh", b"x") + field(b"") * 3
    line = ascii_line(text.format(f"sha256:{HEX}"), data, template="ima-modsig")

    (read,) = parse_ima_list(line.encode()).entries

    assert read.data == data


@pytest.mark.parametrize("column", ["sha256", "sha384", "sha512"])
def test_lists_of_other_banks_have_longer_template_hashes(column: str) -> None:
    data = ng(b"/bin/sh", b"x")
    binary = entry(data, column=column) + entry(data, digest=bytes(hashlib.new(column).digest_size))
    line = f"10 {hashlib.new(column, data).hexdigest()} ima-ng sha256:{HEX} /bin/sh\n"

    measured = parse_ima_list(binary)

    assert (measured.count, measured.violations) == (2, 1)
    assert binary_list(line.encode()) == entry(data, column=column)
    assert replay_ima(measured, BANKS, start={}, padded=False) == replay_ima(
        parse_ima_list(entry(data) + entry(data, digest=bytes(20))), BANKS, start={}, padded=False
    )


@pytest.mark.parametrize("name", ["evm-sig", "d-ng|n-ng", "ima-new"])
def test_n33_template_that_is_not_known_is_refused_with_a_way_out(name: str) -> None:
    with pytest.raises(AttestationError, match=r"ima_template=") as refused:
        parse_ima_list(entry(ng(b"/bin/sh", b"x"), template=name.encode()))

    assert refused.value.code is RefusalCode.LOG_MALFORMED


def test_violation_names_its_file_also_where_its_digest_has_no_algorithm() -> None:
    data = field(bytes(20)) + field(b"/var/log/wtmp\0")
    line = f"10 {'0' * 40} ima-ng {'0' * 40} /var/log/wtmp\n"

    assert path_of(b"ima-ng", data) == b"/var/log/wtmp"
    (read,) = parse_ima_list(line.encode()).entries
    assert (read.is_violation, path_of(read.template, read.data)) == (True, b"/var/log/wtmp")


def test_hostile_paths_are_shown_on_one_line_and_cut() -> None:
    assert show(b"/opt/\x1b[2J\n\xff\\") == "/opt/\\x1b[2J\\n\\\\xff\\\\"
    assert show("/home/ü".encode()) == "/home/ü"
    assert len(show(b"a" * 5000)) == 121


KEYLIME = {
    "ima-log-sha1": (2, 1),
    "ima-log-sha256": (2, 0),
    "ima-log-sha384": (2, 1),
    "ima-log-sha512": (2, 1),
}


@pytest.mark.parametrize("name", KEYLIME)
def test_short_lists_of_each_digest_are_read(name: str) -> None:
    measured = parse_ima_list((DATA / "keylime_keylime" / "ima" / name).read_bytes())

    assert (measured.count, measured.violations) == KEYLIME[name]


@pytest.mark.parametrize("name", ["ima-log-sm3_256", "ima-log-unknown"])
def test_list_whose_template_hash_we_do_not_compute_is_refused(name: str) -> None:
    with pytest.raises(MalformedInput) as refused:
        parse_ima_list((DATA / "keylime_keylime" / "ima" / name).read_bytes())

    assert refused.value.code is RefusalCode.IMA_TEMPLATE_MISMATCH


# --- the pass -----------------------------------------------------------------------------------
class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.last: ImaEntry | None = None

    def restart(self) -> None:
        self.numbers = []

    def judge(self, number: int, entry: ImaEntry) -> None:
        self.numbers.append(number)
        self.last = entry


def passed(
    content: bytes,
    quoted: PcrBanks,
    *,
    known: Known | None = None,
    entries: int = 0,
    start: PcrBanks | None = None,
    padded: bool = False,
) -> tuple[Followed, list[int]]:
    told = Told()
    place = Place(entries=entries, start=start or {}, quoted=quoted, padded=padded)
    return follow(content, place, 10, known or Known(), told), told.numbers


@pytest.mark.parametrize("banks", [(HashAlgorithm.SHA1,), (SHA256,), BANKS])
def test_real_list_is_followed_to_the_real_tpms_pcr_10(banks: tuple[HashAlgorithm, ...]) -> None:
    stated = json.loads((H12SSL / "eventlog.expected-pcrs.json").read_text())
    quoted = {bank: {10: bytes.fromhex(stated[bank.label]["10"])} for bank in banks}

    followed, told = passed(BINARY, quoted)

    assert (followed.matched, followed.entries, followed.tail) == (True, 5071, 0)
    assert followed.pcrs == quoted
    assert told == list(range(5071))


pieces = st.lists(
    st.tuples(
        st.sampled_from(["known", "by digest", "other", "violation", "signed", "pcr 11", "pcr 12"]),
        st.integers(0, 3),
    ),
    max_size=12,
)


def made(kind: str, number: int) -> bytes:
    data = ng(b"/%d" % number, b"%d" % number)
    if kind == "violation":
        return entry(data, digest=bytes(20))
    if kind == "signed":
        return entry(data + field(b""), template=b"ima-sig")
    if kind == "other":
        return entry(ng(b"/other%d" % number, b"other"))
    return entry(data, pcr={"pcr 11": 11, "pcr 12": 12}.get(kind, 10))


def led_to(
    parts: list[bytes], banks: tuple[HashAlgorithm, ...], *, padded: bool = False
) -> PcrBanks:
    """Replay the beginning of a list; one without entries leads to nothing, and is no list."""
    if not parts:
        return {bank: {} for bank in banks}
    return replay_ima(parse_ima_list(b"".join(parts)), banks, start={}, padded=padded)


@given(
    chosen=pieces,
    at=st.integers(0, 12),
    padded=st.booleans(),
    banks=st.sampled_from([(HashAlgorithm.SHA1,), (SHA256,), (HashAlgorithm.SHA384,), BANKS]),
)
def test_pass_agrees_with_a_plain_replay_of_every_prefix(
    *, chosen: list[tuple[str, int]], at: int, padded: bool, banks: tuple[HashAlgorithm, ...]
) -> None:
    at = min(at, len(chosen))
    parts = [made(*one) for one in chosen]
    zeros = {bank: {10: bytes(bank.size), 11: bytes(bank.size)} for bank in banks}
    plain = led_to(parts[:at], banks, padded=padded)
    quoted = {
        bank: {pcr: plain[bank].get(pcr, zeros[bank][pcr]) for pcr in (10, 11)} for bank in banks
    }
    known = Known(hashed_entries(ng(b"/%d" % one, b"%d" % one) for one in range(4)))

    followed, told = passed(b"".join(parts), quoted, known=known, padded=padded)

    assert followed.matched
    assert followed.entries + followed.tail == len(parts)
    # Entries for PCRs that are not quoted move no quoted value: they may fall on either side.
    between = chosen[followed.entries : at]
    assert all(kind == "pcr 12" for kind, _ in between)
    proven = chosen[: followed.entries]
    assert told == [n for n, (kind, _) in enumerate(proven) if kind in ("other", "violation")]


@given(st.integers(0, 8), st.integers(0, 8))
def test_pass_in_two_pieces_ends_where_the_whole_ends(first: int, second: int) -> None:
    parts = [made("other", number) for number in range(first + second)]
    quoted = led_to(parts, (SHA256,))
    half = led_to(parts[:first], (SHA256,))
    quoted = {SHA256: {10: quoted[SHA256].get(10, bytes(32))}}

    followed, told = passed(b"".join(parts[first:]), quoted, entries=first, start=half)

    assert (followed.matched, followed.entries) == (True, second)
    assert told == list(range(first, first + second))


def test_known_entries_are_kept_with_their_own_hash() -> None:
    entries = [ng(b"/%d" % one, b"%d" % one) for one in range(3)]
    assert hashed_entries(entries) == {one: SHA256.digest(one) for one in entries}


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("bank", [HashAlgorithm.SHA1, SHA256, HashAlgorithm.SHA384])
def test_known_entries_extend_each_bank_by_its_own_rule(
    bank: HashAlgorithm, *, padded: bool
) -> None:
    parts = [made("known", number) for number in range(4)]
    quoted = led_to(parts, (bank,), padded=padded)
    known = Known(hashed_entries(ng(b"/%d" % one, b"%d" % one) for one in range(4)))

    followed, told = passed(b"".join(parts), quoted, known=known, padded=padded)

    assert (followed.matched, followed.entries, told) == (True, 4, [])


def test_digest_under_any_path_is_known() -> None:
    content = entry(ng(b"/anywhere", b"x"))
    quoted = replay_ima(parse_ima_list(content), (SHA256,), start={}, padded=False)

    _, told = passed(content, quoted, known=Known(digests=frozenset([field(tagged(b"x"))])))

    assert told == []


def test_last_entry_that_announces_more_than_there_is_is_refused_although_the_chain_holds() -> None:
    data = ng(b"/x", b"x")
    content = entry(data)
    quoted = replay_ima(parse_ima_list(content), (SHA256,), start={}, padded=False)
    size = len(data).to_bytes(4, "little")
    lie = content.replace(size + data, (len(data) + 7).to_bytes(4, "little") + data)

    with pytest.raises(MalformedInput) as refused:
        passed(lie, quoted)
    assert refused.value.code is RefusalCode.TRUNCATED


@given(noise=st.binary(max_size=200), at=st.integers(0, 3000), padded=st.booleans())
def test_any_bytes_are_followed_or_refused_by_our_errors(
    *, noise: bytes, at: int, padded: bool
) -> None:
    for content in (noise, BINARY[:at] + noise):
        try:
            followed, _ = passed(content, {SHA256: {10: b"\x01" * 32}}, padded=padded)
        except AttestationError:
            continue
        assert not followed.matched


names = st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name)


@given(st.lists(names, min_size=1, max_size=6))
def test_any_path_survives_from_binary_to_its_reading(paths: list[bytes]) -> None:
    content = b"".join(entry(ng(path, path)) for path in paths)

    read = [read_template(one.template, one.data, 0).path for one in parse_ima_list(content)]

    assert read == paths


def test_one_bank_of_two_that_the_list_does_not_lead_to_is_no_match() -> None:
    content = entry(ng(b"/x", b"x"))
    quoted = replay_ima(parse_ima_list(content), BANKS, start={}, padded=False)

    followed, _ = passed(content, {**quoted, SHA256: {10: b"\x01" * 32}})

    assert not followed.matched


def test_n36_aggregate_that_needs_pcrs_which_are_not_quoted_is_said_to() -> None:
    values = {SHA256: {index: bytes([index]) * 32 for index in range(10)}}
    whole = ImaFile(tagged(b"".join(values[SHA256].values())), BOOT_AGGREGATE)
    fewer = {SHA256: {index: values[SHA256][index] for index in range(8)}}

    assert judge_aggregate(whole, values) is AggregateVerdict.HOLDS
    assert judge_aggregate(whole, fewer) is AggregateVerdict.NOT_QUOTED
    assert judge_aggregate(whole, {}) is AggregateVerdict.NOT_QUOTED
    zeros = ImaFile(b"sha256:\0" + bytes(32), BOOT_AGGREGATE)
    assert judge_aggregate(zeros, {}) is AggregateVerdict.DIFFERS


def test_real_boot_aggregate_holds_against_the_real_tpms_values() -> None:
    stated = json.loads((H12SSL / "eventlog.expected-pcrs.json").read_text())
    values = {
        bank: {int(pcr): bytes.fromhex(value) for pcr, value in stated[bank.label].items()}
        for bank in BANKS
    }
    first = parse_ima_list(BINARY).entries[0]

    verdict = judge_aggregate(read_template(first.template, first.data, 0), values)

    assert verdict is AggregateVerdict.HOLDS
