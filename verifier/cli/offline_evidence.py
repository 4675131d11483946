"""One evidence file judged by files alone: no store, no configured maker, no challenge.

Whoever names the attestation key vouches for it, so no manufacturer need have endorsed it; there is
no challenge to hold the nonce against, so the nonce that the message names is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from attestation.identity import DeviceId, device_id
from attestation.tpm.public import parse_public_any
from verifier.appraisal.enrolment import Enrolment
from verifier.cli.reference_values import read_bounded, read_text
from verifier.endorsement.trust_anchors import TrustAnchors
from verifier.reference_values.model import ReferenceLibrary, library_at
from verifier.reference_values.runtime_policy_file import load_runtime_policy
from verifier.reference_values.toml_file import load_reference_set

TAKEN_AS_GIVEN: Final = (
    "key and nonce were taken as given: that a maker endorsed this key, and that the quote is new, "
    "is not proven here"
)
_MOST_KEY_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """A device as its key makes it, and the anchors that hold for it.

    Attributes:
        enrolment: Of whoever has the key; nothing was seen of it before.
        anchors: The key itself.
    """

    enrolment: Enrolment
    anchors: TrustAnchors


def vouched(ak: Path, name: str, at: datetime) -> Vouched:
    """Take a key for a device's because somebody says so.

    Args:
        ak: File of the attestation key: TPM2B_PUBLIC, TPMT_PUBLIC or PEM.
        name: The device's id; empty for ``offline``.
        at: The moment of judgement (aware).

    Raises:
        RequestRefused: If the file cannot be read.
        InputError: If it is no such key.
    """
    public = parse_public_any(read_bounded(ak, _MOST_KEY_BYTES))
    fingerprint = public.name[-32:]
    return Vouched(
        enrolment=Enrolment(
            device=device_id(name) if name else DeviceId("offline"),
            ak_public=public.raw,
            ak_name=public.name,
            anchor_sha256=fingerprint,
            endorsed_from=at - timedelta(days=1),
            endorsed_until=at + timedelta(days=1),
        ),
        anchors=TrustAnchors(certificates=(), endorsers=frozenset({fingerprint})),
    )


def library_of_files(
    sets: Sequence[Path], policies: Sequence[Path], at: datetime
) -> ReferenceLibrary:
    """Return what reference sets and runtime policies say, both TOML files, for a moment (aware).

    Raises:
        RequestRefused: If a file cannot be read.
        InputError: If one is malformed, or two bear one name and version.
    """
    running = [load_runtime_policy(read_text(file), str(file)) for file in policies]
    return library_at(
        at,
        [load_reference_set(read_text(file), str(file)) for file in sets],
        {one.name: one for one in running},
        {},
    ).library
