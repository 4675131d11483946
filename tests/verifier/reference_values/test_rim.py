"""What a base RIM must say, and which files must stand beside it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.errors import AttestationError
from attestation.limits import MAX_RIM_FILES
from attestation.refusals import RefusalCode
from tests.simulators.rim_press import RIM_MODEL, SHA1, SHA512, file, tag
from verifier.reference_values.corim_sets import load_signer
from verifier.reference_values.rim import BaseRim, match_support, read_base_rim
from verifier.reference_values.rim_signature import _parse, _plain, open_signed_tag

DATA = Path(__file__).parents[2] / "data" / "nsacyber_RIM-Tool"
LOG, OTHER = b"event log", b"another"


def read(text: str) -> BaseRim:
    """Read a tag whose signature nobody looks at."""
    return read_base_rim(_plain(_parse(text.encode())))


def refused(text: str) -> AttestationError:
    with pytest.raises(AttestationError) as caught:
        read(text)
    return caught.value


def test_real_tag_is_read() -> None:
    pem = (DATA / "pubKey.pem").read_text()
    maker = load_signer(pem, "maker", datetime(2026, 3, 1, tzinfo=UTC))

    rim = read_base_rim(
        open_signed_tag((DATA / "laptop.SHA384.1.swidtag").read_bytes(), [maker])[0]
    )

    assert rim.describe() == (
        "PC Client RIM ca366cd7-b1a6-4afa-a5b1-2d7ebd8d9c version 1, TCG RIM example 0.1 for "
        "Example.com ProductA"
    )
    (only,) = rim.files
    assert (only.path, only.size, only.event_log) == ("Test/TpmLog.bin", 7459, True)
    assert only.digests[HashAlgorithm.SHA384].hex().startswith("75850e7c")


def test_real_tag_of_another_binding_is_refused() -> None:
    raw = (DATA / "laptop.default.bad-sig.swidtag").read_text()

    assert "another binding" in refused(raw).reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (tag(file(LOG), patch="true"), "is a patch RIM"),
        (tag(file(LOG), supplemental="1"), "is a supplemental RIM"),
        (tag(file(LOG), corpus="yes"), "is a corpus RIM"),
        (tag(file(LOG), meta={"bindingSpec": "IOT RIM"}), "another binding"),
        (tag(file(LOG), meta={"bindingSpec": ""}), "has no bindingSpec"),
        (tag(file(LOG), meta={"platformModel": ""}), "has no platformModel"),
        (tag(file(LOG), meta={"platformModel": "x" * 129}), "platformModel is not up to 128"),
        (tag(file(LOG), tagId=""), "has no tagId"),
        (tag(file(LOG), name="&#10;x"), "name is not up to 128 printable"),
        (tag(payload="<Directory/>"), "names no support file"),
        (tag(payload="<Process name='x'/>"), "something besides directories and files"),
        (tag(file(LOG)).replace("Payload", "Evidence"), "has 0 Payload elements"),
        (tag(file(LOG)).replace("<Payload", "<Payload/><Payload"), "has 2 Payload elements"),
        (tag(file(LOG, hash="ab")), "is not one in hex"),
        (tag(file(LOG, hash="g" * 64)), "is not one in hex"),
        (tag(file(LOG, hash="\u0661" * 64)), "is not one in hex"),
        (tag(file(LOG, size="-1")), "is no number"),
        (tag(file(LOG, size="9" * 13)), "is no number"),
        (tag(file(LOG, "")), "has no name"),
        (tag(file(LOG, "a.bin"), file(OTHER, "b.bin")), "names no event log"),
        (tag(file(LOG), file(OTHER)), "names two event logs by one path"),
        (
            tag(
                file(
                    LOG,
                    more='xmlns:b="http://www.w3.org/2001/04/xmldsig-more#sha384" '
                    f'xmlns:c="http://www.w3.org/2001/04/xmlenc#sha384" b:hash="{"0" * 96}" '
                    f'c:hash="{"1" * 96}"',
                )
            ),
            "has two sha384 digests",
        ),
        (
            tag(file(LOG)).replace(
                f'rim:platformModel="RoadRunner" xmlns:rim="{RIM_MODEL}"', ""
            ).replace(
                "<Meta ",
                '<Meta xmlns:old="https://trustedcomputinggroup.org/wp-content/uploads/'
                'TCG_RIM_Model" old:platformModel="Coyote" ',
            ),
            "says platformModel twice",
        ),
    ],
)  # fmt: skip
def test_malformed_rim(text: str, reason: str) -> None:
    error = refused(text)

    assert error.code is RefusalCode.RIM_MALFORMED
    assert reason in error.reason


def test_sha1_digest_alone_is_refused() -> None:
    weak = f'<File xmlns:h="{SHA1}" h:hash="{"0" * 40}" name="box.rimel" size="9"/>'

    assert refused(tag(weak)).code is RefusalCode.UNSUPPORTED_ALGORITHM


def test_files_are_bounded() -> None:
    many = [file(LOG, f"{number}.rimel") for number in range(MAX_RIM_FILES + 1)]

    assert len(read(tag(*many[1:])).files) == MAX_RIM_FILES
    assert refused(tag(*many)).code is RefusalCode.TOO_MANY


def test_event_log_is_told_by_format_then_by_name() -> None:
    log = 'rim:supportRIMFormat="TCG_EventLog_Assertion"'
    pcrs = 'rim:supportRIMFormat="TCG_PCR_Assertion"'
    inner = f"<Directory name='d' {pcrs}>{file(OTHER, 'a.rimel')}{file(LOG, 'b', log)}</Directory>"
    rim = read(tag(payload=inner + file(LOG, "C.RIMEL") + file(OTHER, "d.txt")))

    assert {one.path: one.event_log for one in rim.files} == {
        "d/a.rimel": False,
        "d/b": True,
        "C.RIMEL": True,
        "d.txt": False,
    }
    only = read(tag(file(LOG, "x.bin", pcrs), file(LOG)))
    assert [one.event_log for one in only.files] == [False, True]


def test_what_is_not_followed_is_told() -> None:
    rim = read(
        tag(file(LOG), meta={"rimLinkHash": "00"}).replace("<Payload", "<Evidence/><Payload")
    )

    assert len(rim.notices) == 2


class TestSupport:
    def match(self, text: str, **given: bytes) -> list[tuple[str, bytes]]:
        return [(one.path, content) for one, content in match_support(read(text), given)]

    def mismatch(self, text: str, **given: bytes) -> str:
        with pytest.raises(AttestationError) as caught:
            self.match(text, **given)
        assert caught.value.code is RefusalCode.RIM_SUPPORT_MISMATCH
        return caught.value.reason

    def test_file_is_found_by_its_content(self) -> None:
        two = tag(file(LOG), file(OTHER, "more.txt"))

        assert self.match(two, b=LOG, a=OTHER) == [("rim/box.rimel", LOG), ("rim/more.txt", OTHER)]

    def test_file_that_is_not_given(self) -> None:
        two = tag(file(LOG), file(OTHER, "more.txt"))

        assert "'rim/more.txt' is not given" in self.mismatch(two, log=LOG)
        assert "'rim/box.rimel' is not given" in self.mismatch(two)

    def test_changed_file(self) -> None:
        given = {"here/box.rimel": b"event lox"}

        assert "here/box.rimel has another digest" in self.mismatch(tag(file(LOG)), **given)
        given = {"box.rimel": b"event log+"}
        assert "has 10 bytes, the base RIM says 9" in self.mismatch(tag(file(LOG)), **given)

    def test_size_and_every_digest_count(self) -> None:
        assert "says 8" in self.mismatch(tag(file(LOG, size="8")), **{"box.rimel": LOG})
        second = f'xmlns:l="{SHA512}" l:hash="{hashlib.sha512(OTHER).hexdigest()}"'
        both = tag(file(LOG, more=second))
        assert "another digest" in self.mismatch(both, **{"box.rimel": LOG})
        right = f'xmlns:l="{SHA512}" l:hash="{hashlib.sha512(LOG).hexdigest()}"'
        assert self.match(tag(file(LOG, more=right)), log=LOG)

    def test_size_may_be_left_out(self) -> None:
        assert self.match(tag(file(LOG)).replace('size="9"', ""), log=LOG)

    def test_file_that_the_rim_does_not_name(self) -> None:
        assert "does not name spare" in self.mismatch(tag(file(LOG)), log=LOG, spare=OTHER)
