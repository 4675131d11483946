"""What the cloud says, read from files; never fetched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attestation.limits import MAX_CLOUD_DOCUMENT_BYTES
from attestation.wire.enrolment_codec import CloudStatement
from device_agent.collector import InitialTrust
from device_agent.errors import SourceUnreadable
from device_agent.main import initial_trust
from device_agent.settings import parse_settings
from device_agent.sources.cloud import CloudFiles


def files(tmp_path: Path, aws: bytes | None, azure: bytes | None) -> CloudFiles:
    paths = []
    for name, content in (("aws", aws), ("azure", azure)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        paths.append(tmp_path / name if content is not None else None)
    return CloudFiles(aws_document=paths[0], azure_token=paths[1])


def test_document_and_token_are_told_as_they_are_now(tmp_path: Path) -> None:
    source = files(tmp_path, b"AAAA\nBBBB\n", b"a.b.c\n")

    assert source.read() == CloudStatement(aws_iid=b"AAAA\nBBBB", azure_msi="a.b.c")
    (tmp_path / "azure").write_text(json.dumps({"access_token": "d.e.f", "expires_in": "9"}))
    assert source.read().azure_msi == "d.e.f"


def test_nothing_configured_is_nothing_told(tmp_path: Path) -> None:
    assert files(tmp_path, None, None).read() == CloudStatement()


@pytest.mark.parametrize(
    ("aws", "azure"),
    [
        (b"", None),
        (b" \n", None),
        (bytes([65]) * (MAX_CLOUD_DOCUMENT_BYTES + 1), None),
        (None, b"{}"),
        (None, b"{broken"),
        (None, b"\xff\xfe"),
        (None, json.dumps({"access_token": 7}).encode()),
    ],
)
def test_file_without_what_it_should_hold_is_a_source_that_cannot_be_read(
    tmp_path: Path, aws: bytes | None, azure: bytes | None
) -> None:
    with pytest.raises(SourceUnreadable):
        files(tmp_path, aws, azure).read()


def test_file_that_is_not_there_is_named_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match=r"enrolment\.aws_document .*none"):
        CloudFiles(aws_document=tmp_path / "none", azure_token=None).read()


@pytest.mark.parametrize(
    ("word", "trust"),
    [
        ("idevid", InitialTrust(idevid=True, tpm_ek=False)),
        ("tpm-ek", InitialTrust(idevid=False, tpm_ek=True)),
        ("both", InitialTrust(idevid=True, tpm_ek=True)),
    ],
)
def test_settings_say_what_is_shown(word: str, trust: InitialTrust) -> None:
    text = f'[enrolment]\ninitial_trust = "{word}"\n'

    assert initial_trust(parse_settings(text, "test", {})) == trust
    assert initial_trust(parse_settings("", "test", {})) == InitialTrust()
