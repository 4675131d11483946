from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.reader import pack
from tests.simulators.firmware_log import SEPARATOR, SHA1, SHA256, agile_event, header
from verifier.cli import offline
from verifier.cli.offline import judge_eventlog

DATA = Path(__file__).parents[1] / "data"
BUNDLES = DATA / "immune-gmbh_guard-oss/bundle"
GOOD = BUNDLES / "good-1"
KEYLIME = DATA / "keylime_keylime/quote-set"
WINDOWS = DATA / "google_go-attestation"
KEYS = ["signature", "pcr_selection", "pcr_digest", "replay", "status", "reason"]

Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``verifier quote --json``; give exit code, document (None if none) and stderr."""

    def call(**given: Any) -> tuple[int, Any, str]:
        arguments: dict[str, Any] = {"pcrs": None, "eventlog": None, "nonce": None, **given}
        code = offline.quote(**arguments, as_json=True)
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if printed.out else None, printed.err

    return call


def bundle(name: str, *, pcrs: bool = True, log: bool = True) -> dict[str, Path | None]:
    folder = BUNDLES / name
    return {
        "attest": folder / "quote.attest",
        "sig": folder / "quote.sig",
        "ak": folder / "ak.pem",
        "pcrs": folder / "eventlog.expected-pcrs.json" if pcrs else None,
        "eventlog": folder / "eventlog" if log else None,
    }


def verdicts(document: Any) -> dict[tuple[str, int], str]:
    return {(item["bank"], item["pcr"]): item["verdict"] for item in document["replay"]}


def test_eventlog_prints_the_document_of_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    folder = BUNDLES / "h12ssl"
    assert offline.eventlog(folder / "eventlog", as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["format", "events", "pcrs", "findings"]
    assert (document["format"], document["events"], document["findings"]) == (
        "crypto-agile",
        114,
        [],
    )
    second = json.loads((folder / "eventlog.replay.json").read_text())
    assert document["pcrs"] == second["pcrs"]


def test_eventlog_prints_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert offline.eventlog(BUNDLES / "IMN-SUPERMICRO-no-epp/eventlog", as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "crypto-agile log, 39 events"
    assert lines[1] == "bank    pcr  value"
    assert any(line.startswith("finding: bank sha1, pcr 11: ") for line in lines)


def test_eventlog_reports_content_that_was_not_measured() -> None:
    false = agile_event(7, SEPARATOR, bytes(4), {4: SHA1.digest(b"x"), 11: SHA256.digest(b"x")})
    findings = judge_eventlog(header() + false)["findings"]
    assert [(item["code"], item["bank"], item["event"], item["pcr"]) for item in findings] == [
        ("log-event-contradicts", "sha1", 1, 7),
        ("log-event-contradicts", "sha256", 1, 7),
    ]


@pytest.mark.parametrize("content", [b"", b"no log" * 9, header()[:-1]])
def test_malformed_eventlog_is_one_line_on_stderr_and_exit_2(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "log"
    file.write_bytes(content)
    assert offline.eventlog(file, as_json=True) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("verifier eventlog: ")
    assert "event 0: " in printed.err


def test_absent_or_too_large_eventlog_is_one_line_with_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(5 * 1024 * 1024)
    for path in (tmp_path / "absent", tmp_path, huge):
        assert offline.eventlog(path, as_json=True) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert str(path) in error


@pytest.mark.parametrize("name", ["good-1", "latitude-7520"])
def test_good_quote_with_values_and_log_is_consistent(name: str, run: Run) -> None:
    code, document, error = run(**bundle(name))
    assert (code, error) == (0, "")
    assert list(document) == KEYS
    assert document["signature"] == "verified"
    assert document["pcr_digest"] == "matches"
    assert document["status"] == "consistent"
    assert {verdicts(document)["sha256", pcr] for pcr in range(8)} == {"matches"}
    assert verdicts(document)["sha256", 8] == "not_covered"
    assert "does not cover sha256:8" in document["reason"]
    assert "PEM" in document["reason"]
    assert "no nonce was given" in document["reason"]


def test_manipulated_boot_is_refused_for_the_pcr_that_differs(run: Run) -> None:
    code, document, _ = run(**bundle("failed-1"))
    assert code == 1
    assert document["signature"] == "verified"
    assert document["pcr_digest"] == "matches"
    assert document["status"] == "refused"
    assert [place for place, word in verdicts(document).items() if word == "differs"] == [
        ("sha256", 0)
    ]
    assert document["reason"].startswith("the log does not lead to the quoted sha256:0")


def test_capped_bank_of_windows_differs_and_the_other_bank_matches(run: Run) -> None:
    code, document, _ = run(**bundle("IMN-SUPERMICRO-no-epp"))
    assert code == 1
    assert list(document["pcr_selection"]) == ["sha1", "sha256"]
    found = verdicts(document)
    assert {found["sha1", pcr] for pcr in range(8)} == {"differs"}
    assert {found["sha256", pcr] for pcr in (*range(8), *range(11, 15))} == {"matches"}


def test_without_values_a_log_that_covers_a_part_leaves_the_digest_unknown(run: Run) -> None:
    code, document, _ = run(**bundle("good-1", pcrs=False))
    assert code == 0
    assert document["pcr_digest"] == "unknown"
    assert set(verdicts(document).values()) == {"not_covered"}
    assert "lack sha256:8" in document["reason"]


def test_without_values_and_log_only_the_signature_is_judged(run: Run) -> None:
    code, document, _ = run(**bundle("good-1", pcrs=False, log=False))
    assert code == 0
    assert (document["pcr_digest"], document["replay"]) == ("unknown", [])
    assert "no PCR values were given" in document["reason"]


def test_other_machines_log_is_refused(run: Run) -> None:
    code, document, _ = run(
        **{**bundle("good-1"), "eventlog": BUNDLES / "latitude-7520" / "eventlog"}
    )
    assert code == 1
    assert "differs" in verdicts(document).values()


def test_other_machines_key_is_refused(run: Run) -> None:
    code, document, _ = run(**{**bundle("good-1"), "ak": BUNDLES / "latitude-7520" / "ak.pem"})
    assert code == 1
    assert document["signature"] == "refused"
    assert document["pcr_digest"] == "matches"


def test_favourable_values_are_refused_by_the_digest(run: Run, tmp_path: Path) -> None:
    values = json.loads((GOOD / "eventlog.expected-pcrs.json").read_text())
    values["sha256"]["4"] = "00" * 32
    forged = tmp_path / "pcrs.json"
    forged.write_text(json.dumps(values))
    code, document, _ = run(**{**bundle("good-1"), "pcrs": forged})
    assert code == 1
    assert document["pcr_digest"] == "differs"
    assert "do not hash to the quoted PCR digest" in document["reason"]


def test_values_that_lack_a_quoted_pcr_leave_the_digest_unknown(run: Run, tmp_path: Path) -> None:
    values = json.loads((GOOD / "eventlog.expected-pcrs.json").read_text())
    del values["sha256"]["4"]
    part = tmp_path / "pcrs.json"
    part.write_text(json.dumps(values))
    _, document, _ = run(**{**bundle("good-1"), "pcrs": part})
    assert document["pcr_digest"] == "unknown"
    assert "lack sha256:4" in document["reason"]


@pytest.mark.parametrize("place", [0, 5, 20, 50, 75, 110, 144])
def test_changed_quote_is_never_consistent(place: int, run: Run, tmp_path: Path) -> None:
    raw = bytearray((GOOD / "quote.attest").read_bytes())
    raw[place] ^= 1
    changed = tmp_path / "quote"
    changed.write_bytes(raw)
    code, document, _ = run(**{**bundle("good-1"), "attest": changed})
    assert code in (1, 2)
    assert document is None or document["status"] == "refused"


def test_bytes_that_no_tpm_made_are_refused(run: Run, tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"\0" + (GOOD / "quote.attest").read_bytes()[1:])
    code, document, _ = run(**{**bundle("good-1"), "attest": blob})
    assert code == 1
    assert "not made by a TPM" in document["reason"]
    assert document["pcr_selection"] == {}


def signed(folder: Path, kind: int, said: bytes) -> dict[str, Path]:
    """A TPMS_ATTEST of this kind, truly signed by a fresh key."""
    key = ec.generate_private_key(ec.SECP256R1())
    attest = pack(">IHHHQIIBQ", 0xFF544347, kind, 0, 0, 1, 1, 0, 1, 1) + said
    r, s = decode_dss_signature(key.sign(attest, ec.ECDSA(hashes.SHA256())))
    files = {
        "attest": attest,
        "sig": pack(">HHH32sH32s", 0x18, 0x0B, 32, r.to_bytes(32), 32, s.to_bytes(32)),
        "ak": key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in files}


@pytest.mark.parametrize(
    ("kind", "said", "words"),
    [
        (0x8018, pack(">IH32s", 0, 32, SHA256.digest(b"")), "covers no PCR"),
        (0x8018, pack(">IHB3sH32s", 1, 11, 3, bytes(3), 32, SHA256.digest(b"")), "covers no PCR"),
        (0x8017, pack(">HH", 0, 0), "certifies a key, wanted a quote"),
        (0x8014, b"", "type is 0x8014"),
    ],
)
def test_attestation_that_quotes_nothing_is_refused_though_truly_signed(
    kind: int, said: bytes, words: str, run: Run, tmp_path: Path
) -> None:
    code, document, _ = run(**signed(tmp_path, kind, said))
    assert code == 1
    assert document["signature"] == "verified" or kind == 0x8014
    assert document["status"] == "refused"
    assert words in document["reason"]


def test_log_that_contradicts_itself_is_refused(run: Run, tmp_path: Path) -> None:
    raw = (GOOD / "eventlog").read_bytes()
    at = raw.index("SecureBoot".encode("utf-16-le")) + 20
    lying = tmp_path / "log"
    lying.write_bytes(raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :])
    code, document, _ = run(**{**bundle("good-1"), "eventlog": lying})
    assert code == 1
    assert verdicts(document)["sha256", 7] == "matches"
    assert "EV_EFI_VARIABLE_DRIVER_CONFIG, PCR 7" in document["reason"]


def test_nonce_of_the_quote_is_accepted_and_another_refused(run: Run) -> None:
    extra = (GOOD / "quote.attest").read_bytes()[44:76].hex()
    code, document, _ = run(**bundle("good-1"), nonce=extra.upper())
    assert code == 0
    assert "nonce" not in document["reason"]
    for other in ("00" * 32, extra[:-2], ""):
        code, document, _ = run(**bundle("good-1"), nonce=other)
        assert code == 1
        assert document["reason"].startswith("the quote answers another nonce")
        assert extra not in document["reason"]


def test_keylime_quote_verifies_with_its_key_in_both_forms(run: Run, tmp_path: Path) -> None:
    quotepcr = (KEYLIME / "quotepcr.out").read_bytes()
    values = {"15": "00" * 32, "16": quotepcr[0xD0:0xF0].hex(), "22": "ff" * 32}
    pcrs = tmp_path / "pcrs.json"
    pcrs.write_text(json.dumps({"sha256": values}))
    files = {"attest": KEYLIME / "quote.out", "sig": KEYLIME / "quotesig.out", "pcrs": pcrs}
    tpmt = tmp_path / "ak.tpmt"
    tpmt.write_bytes((KEYLIME / "ak.pub").read_bytes()[2:])
    for ak in (KEYLIME / "ak.pub", tpmt, KEYLIME / "akpub.pem"):
        code, document, _ = run(**files, ak=ak)
        assert code == 0
        assert document["pcr_selection"] == {"sha256": [15, 16, 22]}
        assert document["pcr_digest"] == "matches"
        assert ("PEM" in document["reason"]) == (ak.suffix == ".pem")


def test_unrestricted_key_cannot_vouch(run: Run, tmp_path: Path) -> None:
    raw = bytearray((KEYLIME / "ak.pub").read_bytes()[2:])
    raw[5] ^= 1  # TPMA_OBJECT restricted is bit 16
    ak = tmp_path / "ak"
    ak.write_bytes(raw)
    code, document, _ = run(attest=KEYLIME / "quote.out", sig=KEYLIME / "quotesig.out", ak=ak)
    assert code == 1
    assert document["signature"] == "refused"
    assert "must be restricted" in document["reason"]


def test_sha1_signature_of_the_windows_sample_is_refused_but_its_values_fit(run: Run) -> None:
    name = "windows_gcp_shielded_vm"
    code, document, _ = run(
        attest=WINDOWS / f"{name}.quote.attest",
        sig=WINDOWS / f"{name}.quote.sig",
        ak=WINDOWS / f"{name}.ak.tpmt_public",
        pcrs=WINDOWS / f"{name}.eventlog.expected-pcrs.json",
        eventlog=WINDOWS / f"{name}.eventlog",
        nonce="",
    )
    assert code == 1
    assert document["signature"] == "refused"
    assert "SHA-1" in document["reason"]
    assert document["pcr_digest"] == "matches"
    assert "differs" not in verdicts(document).values()


BAD_FILES = {
    "empty quote": ("attest", b""),
    "cut quote": ("attest", (GOOD / "quote.attest").read_bytes()[:-1]),
    "longer quote": ("attest", (GOOD / "quote.attest").read_bytes() + b"\0"),
    "empty signature": ("sig", b""),
    "cut signature": ("sig", (GOOD / "quote.sig").read_bytes()[:-1]),
    "empty key": ("ak", b""),
    "broken PEM": ("ak", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"),
    "cut key": ("ak", (KEYLIME / "ak.pub").read_bytes()[:-1]),
    "no JSON": ("pcrs", b"{"),
    "deep JSON": ("pcrs", b"[" * 50_000),
    "not UTF-8": ("pcrs", b"\xff\xfe{}"),
    "list": ("pcrs", b"[]"),
    "list of a bank": ("pcrs", b'{"sha256": []}'),
    "unknown bank": ("pcrs", b'{"md5": {}}'),
    "bank twice": ("pcrs", b'{"sha256": {}, "sha256": {}}'),
    "PCR 24": ("pcrs", b'{"sha256": {"24": "' + b"00" * 32 + b'"}}'),
    "PCR 01": ("pcrs", b'{"sha256": {"01": "' + b"00" * 32 + b'"}}'),
    "number": ("pcrs", b'{"sha256": {"0": 1}}'),
    "short value": ("pcrs", b'{"sha256": {"0": "00"}}'),
    "no hexadecimal": ("pcrs", b'{"sha256": {"0": "' + b"0 " * 32 + b'"}}'),
    "too large": ("pcrs", b" " * 70_000),
    "no log": ("eventlog", b"no log" * 9),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_malformed_file_is_one_line_on_stderr_and_exit_2(
    case: str, run: Run, tmp_path: Path
) -> None:
    option, content = BAD_FILES[case]
    file = tmp_path / "file"
    file.write_bytes(content)
    code, document, error = run(**{**bundle("good-1"), option: file})
    assert (code, document) == (2, None)
    assert error.count("\n") == 1
    assert error.startswith("verifier quote: ")


def test_absent_file_is_named(run: Run, tmp_path: Path) -> None:
    code, _, error = run(**{**bundle("good-1"), "sig": tmp_path / "absent"})
    assert code == 2
    assert str(tmp_path / "absent") in error


def test_malformed_nonce_is_not_repeated(run: Run) -> None:
    code, _, error = run(**bundle("good-1"), nonce="secretnonce")
    assert code == 2
    assert "secretnonce" not in error


@pytest.mark.parametrize("kind", ["P-224", "Ed25519"])
def test_key_of_a_kind_no_ak_has_is_refused(kind: str, run: Run, tmp_path: Path) -> None:
    private = (
        ec.generate_private_key(ec.SECP224R1())
        if kind == "P-224"
        else ed25519.Ed25519PrivateKey.generate()
    )
    ak = tmp_path / "ak.pem"
    ak.write_bytes(
        private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    code, document, _ = run(**{**bundle("good-1"), "ak": ak})
    assert code == 1
    assert document["signature"] == "refused"


def test_quote_prints_tables_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    code = offline.quote(**bundle("failed-1"), nonce=None, as_json=False)  # type: ignore[arg-type]
    lines = capsys.readouterr().out.splitlines()
    assert code == 1
    assert lines[0].split() == ["what", "verdict"]
    assert "sha256  0    differs" in lines
    assert lines[-1].startswith("the log does not lead to the quoted sha256:0")
