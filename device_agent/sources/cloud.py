"""The cloud's word about this instance, from files that cloud-init or the operator puts there.

Nothing is fetched here: who may ask the metadata service, and when, is the operator's to say.
"""

from __future__ import annotations

import json
from pathlib import Path

from attestation.limits import MAX_CLOUD_DOCUMENT_BYTES
from attestation.refusals import RefusalCode
from attestation.wire.enrolment_codec import CloudStatement
from device_agent.errors import SourceUnreadable


class CloudFiles:
    """Implements :class:`device_agent.collector.CloudWords`.

    Args:
        aws_document: What AWS's ``/latest/dynamic/instance-identity/rsa2048`` answered; None for
            none.
        azure_token: A managed identity token, alone or as Azure's metadata service answers it
            (JSON with ``access_token``); None for none.
    """

    def __init__(self, *, aws_document: Path | None, azure_token: Path | None) -> None:
        self._aws_document = aws_document
        self._azure_token = azure_token

    def read(self) -> CloudStatement:
        """Return what the files hold now.

        Raises:
            SourceUnreadable: If one cannot be read, is empty or too large, or is no token.
        """
        return CloudStatement(
            aws_iid=_content(self._aws_document, "enrolment.aws_document"),
            azure_msi=_token(_content(self._azure_token, "enrolment.azure_token")),
        )


def _content(path: Path | None, setting: str) -> bytes:
    if path is None:
        return b""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CLOUD_DOCUMENT_BYTES + 1).strip()
    except OSError as error:
        raise _unreadable(f"{setting} {path}: {error.strerror}") from error
    if not content or len(content) > MAX_CLOUD_DOCUMENT_BYTES:
        raise _unreadable(
            f"{setting} {path} is empty, or larger than {MAX_CLOUD_DOCUMENT_BYTES} bytes"
        )
    return content


def _token(content: bytes) -> str:
    try:
        if content[:1] == b"{":
            found = json.loads(content).get("access_token")
        else:
            found = content.decode("ascii")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, str) or not found.isascii():
        raise _unreadable("enrolment.azure_token holds no token")
    return found


def _unreadable(reason: str) -> SourceUnreadable:
    return SourceUnreadable(RefusalCode.SOURCE_UNREADABLE, reason)
