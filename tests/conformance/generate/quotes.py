"""Cases of kind ``quote``: N6 to N9, N16, N18 to N20, and the honest neighbours of each."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any, Final

from attestation.algorithms import HashAlgorithm
from attestation.evidence import Quote, qualifying_data
from attestation.pcr import PcrBanks, parse_selection
from attestation.reader import pack
from attestation.wire.evidence_codec import encode_parts
from device_agent.ports import KeyRole
from tests.conformance.cases import ROOT
from tests.conformance.generate.device import FixedKey, FixedTpm, fixed_key, seed
from tests.conformance.generate.model import Json, blob, case, file_blob, pcrs
from tests.simulators.soft_device import IAK_ATTRIBUTES, IDEVID_ATTRIBUTES, Lies

SELECTION: Final = "sha256:0,4,7"
SHA256: Final = HashAlgorithm.SHA256
_NONCE: Final = seed("nonce of the quote cases", 32)
_FIXED_TPM, _FIXED_PARENT, _DATA_ORIGIN = 1 << 1, 1 << 4, 1 << 5
_DECRYPT: Final = 1 << 17
_KEYLIME: Final = "tests/data/keylime_keylime/quote-set/"
_WINDOWS: Final = "tests/data/google_go-attestation/windows_gcp_shielded_vm."


def device(kind: str = "p256") -> FixedTpm:
    """A device with known PCR values in two banks."""
    tpm = FixedTpm(kind=kind)
    tpm.load_pcrs(
        {
            bank: {index: seed(f"{bank.label} PCR {index}", bank.size) for index in range(8)}
            for bank in (HashAlgorithm.SHA1, SHA256)
        }
    )
    return tpm


def given(
    tpm: FixedTpm,
    *,
    lies: Lies | None = None,
    key: FixedKey | None = None,
    selection: str = SELECTION,
    values: PcrBanks | None = None,
    quote: Quote | None = None,
    public: bytes | None = None,
    **more: Any,
) -> Json:
    """One quote and what a verifier asked; the quote binds nonce and values."""
    if key is not None:
        tpm.keys[KeyRole.IAK] = key
    asked = parse_selection(selection)
    held = tpm.read_pcrs(asked)
    shown = held if values is None else values
    wanted = qualifying_data(_NONCE, encode_parts(shown, None, False, {}).digests)  # noqa: FBT003
    tpm.lies = lies or Lies()
    made = tpm.quote(asked, wanted) if quote is None else quote
    return {
        "ak": {"tpmt_public": blob(public or tpm.public_area(KeyRole.IAK))},
        "attest": blob(made.attest),
        "signature": blob(made.signature),
        "pcrs": pcrs(shown),
        "nonce": _NONCE.hex(),
        "qualifying_data": wanted.hex(),
        "policy": {"selection": selection, "reference": pcrs(held if values is None else values)},
        **more,
    }


def refused(name: str, anchors: str, title: str, code: str, why: str, **how: Any) -> Json:
    """A quote that nobody may believe."""
    importance = how.pop("importance", "high")
    verdict = how.pop("verdict", "refused")
    tpm = how.pop("tpm", None) or device()
    return case(
        name,
        anchors,
        title,
        kind="quote",
        given=given(tpm, **how),
        verdict=verdict,
        code=code,
        why=why,
        importance=importance,
    )


def cases() -> list[Json]:
    """Every case of this file."""
    return [
        *_honest(),
        *_selections(),
        *_values(),
        *_kinds(),
        *_bounds(),
        *_keys(),
        *_signatures(),
        *_digests(),
        *_real(),
    ]


def _honest() -> list[Json]:
    told = {
        "p256": "a P-256 key",
        "p384": "a P-384 key, which digests SHA-256 PCRs with SHA-384",
    }
    made = [
        case(
            f"quote-honest-{kind}",
            "N6 N7 N8 N9 N16 N18 N19 N20",
            f"An honest quote by {words} is accepted",
            kind="quote",
            given=given(device(kind)),
            verdict="accepted",
            why="The neighbour of every refused quote: a verifier that refuses all is no verifier.",
            importance="critical",
        )
        for kind, words in told.items()
    ]
    both = given(device(), selection="sha256:0,4,7+sha1:0,4,7")
    made.append(
        case(
            "quote-honest-two-banks",
            "N6 N20 N21",
            "One honest quote over two banks, in the order asked, is accepted",
            kind="quote",
            given=both,
            verdict="accepted",
            why="The pcrDigest is over the banks in the order of the quote's own list.",
        )
    )
    return made


def _selections() -> list[Json]:
    told = {
        "fewer": ("sha256:0,4", "one PCR fewer than asked"),
        "more": ("sha256:0,4,5,7", "one PCR more than asked"),
        "other": ("sha256:16,17,23", "PCRs that anybody may reset"),
        "other-bank": ("sha1:0,4,7", "the right PCRs of another bank"),
        "extra-bank": ("sha256:0,4,7+sha1:0", "another bank beside the one asked"),
    }
    made = [
        refused(
            f"quote-selection-{name}",
            "N6 N7",
            f"A quote over {words} is refused",
            "pcr-selection-wrong",
            "The signature covers what was selected, not what was asked: a device chooses PCRs it "
            "likes and sends values and a log that fit (CVE-2022-0317, CVE-2024-29039).",
            lies=Lies(selections=parse_selection(chosen)),
            importance="critical",
        )
        for name, (chosen, words) in told.items()
    ]
    made.append(
        refused(
            "quote-selection-empty",
            "N6 N7",
            "A quote over no PCR at all is refused",
            "pcr-selection-wrong",
            "An empty selection has a constant digest, whatever the machine runs (CVE-2022-0317).",
            lies=Lies(
                selections=(dataclasses.replace(parse_selection("sha256:0")[0], indices=()),)
            ),
            importance="critical",
        )
    )
    return made


def _values() -> list[Json]:
    tpm = device()
    good = tpm.read_pcrs(parse_selection(SELECTION))
    tpm.extend(SHA256, 4, seed("tampering"))
    swapped = device()
    values = dict(swapped.read_pcrs(parse_selection(SELECTION))[SHA256])
    values[4], values[7] = values[7], values[4]
    return [
        refused(
            "quote-favourable-values",
            "N6",
            "Good PCR values beside a quote of bad ones are refused",
            "pcr-digest-mismatch",
            "Values that travel beside the quote prove nothing until they hash to its pcrDigest.",
            tpm=tpm,
            values=good,
            importance="critical",
        ),
        refused(
            "quote-values-exchanged",
            "N6 N20",
            "The values of two PCRs, exchanged, are refused",
            "pcr-digest-mismatch",
            "The digest is over the values in ascending PCR order.",
            tpm=swapped,
            values={SHA256: values},
        ),
    ]


def _kinds() -> list[Json]:
    tpm = device()
    certify = tpm.certify(KeyRole.IDEVID, seed("qualifying data"))
    names = {
        0x8014: "nv",
        0x8015: "command-audit",
        0x8016: "session-audit",
        0x8019: "time",
        0x801A: "creation",
        0x801C: "nv-digest",
    }
    why = (
        "Other attestations are signed by the same key and hold bytes that a user chooses: read as "
        "a quote they say whatever he likes (GHSA-gwfg-w3jr-xh66)."
    )
    made = [
        refused(
            f"quote-type-{words}",
            "N9",
            f"An attestation of type 0x{kind:04x} presented as a quote is refused",
            "quote-type-wrong",
            why,
            lies=Lies(attest_type=kind),
            importance="critical",
        )
        for kind, words in names.items()
    ]
    made.append(
        refused(
            "quote-type-certify",
            "N9",
            "A TPM2_Certify answer presented as a quote is refused",
            "quote-type-wrong",
            why,
            tpm=tpm,
            quote=certify,
            importance="critical",
        )
    )
    return made


def _bounds() -> list[Json]:
    return [
        refused(
            "quote-magic-wrong",
            "N8",
            "A signed blob without the TPM's magic is refused",
            "quote-magic-wrong",
            "A restricted key never signs outside data that begins with TPM_GENERATED; a blob "
            "without it was not made by a TPM (CVE-2024-29038, CVE-2024-29040).",
            lies=Lies(magic=0xFF544348),
            importance="critical",
        ),
        refused(
            "quote-trailing-bytes",
            "N9",
            "Bytes after the attestation are refused even when they are signed",
            "trailing-bytes",
            "Two readers that stop at two places see two quotes.",
            lies=Lies(trailing=b"\x00"),
            verdict="malformed",
        ),
    ]


def _keys() -> list[Json]:
    told = {
        "unrestricted": (
            IDEVID_ATTRIBUTES,
            "ak-not-restricted",
            "that may sign anything",
            "Such a key signs a forged attestation as willingly as a digest (go-attestation #112).",
        ),
        "decrypting": (
            IAK_ATTRIBUTES | _DECRYPT,
            "ak-not-restricted",
            "that also decrypts",
            "A signing key that decrypts is no restricted signing key.",
        ),
        "duplicable": (
            IAK_ATTRIBUTES & ~_FIXED_TPM,
            "ak-attributes-wrong",
            "that may live in another TPM",
            "Without fixedTPM the signature does not say which TPM made it.",
        ),
        "movable": (
            IAK_ATTRIBUTES & ~_FIXED_PARENT,
            "ak-attributes-wrong",
            "that may change its parent",
            "Without fixedParent the key can be moved under a parent outside this TPM.",
        ),
        "imported": (
            IAK_ATTRIBUTES & ~_DATA_ORIGIN,
            "ak-attributes-wrong",
            "that was made outside the TPM",
            "Without sensitiveDataOrigin somebody else had the private key first.",
        ),
    }
    made = [
        refused(
            f"quote-key-{name}",
            "N8 N18",
            f"A quote by a key {words} is refused",
            code,
            why,
            key=fixed_key(f"odd {name}", KeyRole.IAK, attributes=attributes),
            importance="critical",
        )
        for name, (attributes, code, words, why) in told.items()
    ]
    return [*made, *_malformed_keys()]


def _malformed_keys() -> list[Json]:
    honest = device().public_area(KeyRole.IAK)
    off_curve = bytearray(honest)
    off_curve[-1] ^= 1
    odd_curve = honest.replace(pack(">HH", 3, 16), pack(">HH", 0x10, 16))
    why = (
        "A key that cannot be read must end as a refusal: a reader that returns no key and no "
        "error verifies nothing (go-attestation #491, #509)."
    )
    return [
        refused(
            "quote-key-off-its-curve",
            "N16",
            "An attestation key that is no point on its curve is refused",
            "key-malformed",
            why,
            public=bytes(off_curve),
            verdict="malformed",
            importance="critical",
        ),
        refused(
            "quote-key-of-another-curve",
            "N16",
            "An attestation key on a curve that is not on the list (BN P-256) is refused",
            "unsupported-algorithm",
            why,
            public=odd_curve,
            verdict="malformed",
        ),
    ]


def _signatures() -> list[Json]:
    tpm = device()
    honest = tpm.quote(parse_selection(SELECTION), b"")
    sha1 = bytearray(honest.signature)
    sha1[2:4] = pack(">H", HashAlgorithm.SHA1)
    rsa = pack(">HHH", 0x14, SHA256, 256) + seed("no RSA signature at all", 256)
    other_hash = dataclasses.replace(device().keys[KeyRole.IAK], scheme_hash=HashAlgorithm.SHA384)
    why = "The signature's scheme is the attacker's to write; only the key's own counts."
    return [
        refused(
            "quote-by-another-key",
            "N8",
            "A quote by another TPM's attestation key is refused",
            "quote-signature-invalid",
            "The key that is believed is the one that was enrolled.",
            lies=Lies(sign_with=fixed_key("another device", KeyRole.IAK)),
            importance="critical",
        ),
        refused(
            "quote-signature-changed",
            "N8",
            "A quote with one bit of its signature changed is refused",
            "quote-signature-invalid",
            "Nothing in the quote is proven but by this signature.",
            lies=Lies(flip_signature=True),
            importance="critical",
        ),
        refused(
            "quote-signature-rsa-for-ecc-key",
            "N19",
            "A signature tagged RSASSA for an elliptic-curve key is refused, not a crash",
            "signature-scheme-mismatch",
            why + " Verifiers have crashed on the disagreement (go-attestation #515).",
            quote=Quote(attest=honest.attest, signature=rsa),
        ),
        refused(
            "quote-signature-other-hash",
            "N19 N20",
            "A signature with another hash than the key's scheme names is refused",
            "signature-scheme-mismatch",
            why,
            lies=Lies(sign_with=other_hash),
        ),
        refused(
            "quote-signature-sha1",
            "N19",
            "A signature that names SHA-1 is refused from any key",
            "unsupported-algorithm",
            "Collisions of SHA-1 are affordable.",
            quote=Quote(attest=honest.attest, signature=bytes(sha1)),
            verdict="malformed",
        ),
    ]


def _digests() -> list[Json]:
    tpm = device("p384")
    values = tpm.read_pcrs(parse_selection(SELECTION))[SHA256]
    bank_hash = hashlib.sha256(b"".join(values[index] for index in (0, 4, 7))).digest()
    return [
        refused(
            "quote-digest-by-bank-hash",
            "N20",
            "A pcrDigest made with the bank's hash in place of the signing scheme's is refused",
            "pcr-digest-mismatch",
            "A P-384 key digests with SHA-384 whatever the bank; a verifier that tries several "
            "hashes can be led to the weakest (TPM 2.0 Part 3, 18.4).",
            tpm=tpm,
            lies=Lies(pcr_digest=bank_hash),
        )
    ]


def _real() -> list[Json]:
    """Quotes of real TPMs; they bind a nonce alone, and their keys are RSA."""
    values = json.loads((ROOT / (_WINDOWS + "eventlog.expected-pcrs.json")).read_text())
    shown = {bank: values[bank] for bank in values}
    return [
        case(
            "quote-real-rsa",
            "N6 N19 N20",
            "A real TPM's RSA quote is accepted",
            kind="quote",
            given={
                "ak": {"tpmt_public": file_blob(_KEYLIME + "ak.pub")},
                "attest": file_blob(_KEYLIME + "quote.out"),
                "signature": file_blob(_KEYLIME + "quotesig.out"),
            },
            verdict="accepted",
            why="The neighbour of the refused schemes: RSASSA with SHA-256 by an RSA key is fine.",
        ),
        case(
            "quote-real-sha1",
            "N19 N20",
            "A real TPM's quote signed over SHA-1 is refused",
            kind="quote",
            given={
                "ak": {"tpmt_public": file_blob(_WINDOWS + "ak.tpmt_public")},
                "attest": file_blob(_WINDOWS + "quote.attest"),
                "signature": file_blob(_WINDOWS + "quote.sig"),
                "pcrs": shown,
            },
            verdict="refused",
            why="Genuine, and still signed with a hash that no longer proves anything.",
        ),
    ]
