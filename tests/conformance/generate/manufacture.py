"""Cases of kind ``tcg-csr``: N44, a device's request for its first identity (TCG-CSR-IDEVID)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from attestation.algorithms import HashAlgorithm
from attestation.reader import pack
from attestation.tpm.csr_idevid import TcgCsrIdevidContent, build, build_content
from device_agent.ports import KeyRole
from tests.conformance.cases import ROOT
from tests.conformance.generate.device import NOW, FixedTpm, fixed_key, seed
from tests.conformance.generate.endorsement_keys import certificate, maker
from tests.conformance.generate.model import Json, blob, case
from tests.simulators.soft_device import IDEVID_ATTRIBUTES

_REAL: Final = "tests/data/openconfig_attestz/"
_HEAD_BYTES: Final = 12
_CONTENT_SIZES_AT: Final = _HEAD_BYTES + 32


def content(tpm: FixedTpm, **changes: Any) -> TcgCsrIdevidContent:
    """What an honest device asks for."""
    certify = tpm.certify(KeyRole.IDEVID, seed("manufacture"))
    honest = TcgCsrIdevidContent(
        hash=HashAlgorithm.SHA256,
        product_model=b"EDGE-1",
        product_serial=b"BOX-0042",
        ek_certificate=b"",
        iak_public=tpm.public_area(KeyRole.IAK),
        idevid_public=tpm.public_area(KeyRole.IDEVID),
        idevid_certify=certify.attest,
        idevid_certify_signature=certify.signature,
    )
    return replace(honest, **changes)


def signed(tpm: FixedTpm, raw: bytes) -> bytes:
    """The envelope around content, signed by the IDevID key."""
    return build(raw, tpm.keys[KeyRole.IDEVID].sign(raw))


def honest_content(tpm: FixedTpm, **changes: Any) -> bytes:
    """Content with its hash."""
    return build_content(content(tpm, **changes), entropy=seed("padding", 16))


def refused(
    name: str,
    title: str,
    code: str,
    why: str,
    request: bytes,
    *,
    verdict: str = "malformed",
    **more: Any,
) -> Json:
    """A request that no maker may grant."""
    return case(
        f"tcg-csr-{name}",
        "N44",
        title,
        kind="tcg-csr",
        given={"request": blob(request), **more},
        verdict=verdict,
        code=code,
        why=why,
    )


def cases() -> list[Json]:
    """Every case of this file."""
    raw, signature = (
        (ROOT / _REAL / name).read_bytes()
        for name in ("csrResponse-csr_contents", "csrResponse-idevid_signature_csr")
    )
    tpm = FixedTpm()
    accepted = {
        "honest": ("An honest request is taken", signed(tpm, honest_content(tpm))),
        "real": ("The request of a real network device is taken", build(raw, signature)),
    }
    return [
        *(
            case(
                f"tcg-csr-{name}",
                "N44",
                title,
                kind="tcg-csr",
                given={"request": blob(request)},
                verdict="accepted",
                why="The neighbour of every refused request.",
            )
            for name, (title, request) in accepted.items()
        ),
        *_sizes(),
        *_proofs(),
        *_lists(),
        *_twice(),
        *_once(),
    ]


def _lists() -> list[Json]:
    tpm = FixedTpm()
    ek = {"roots": [blob(maker().root_der)], "at": NOW.isoformat()}

    def request(der: bytes) -> bytes:
        return signed(tpm, honest_content(tpm, ek_certificate=der))

    return [
        case(
            "tcg-csr-of-a-listed-unit",
            "N44",
            "The request of a unit on the list, with its EK certificate, is taken",
            kind="tcg-csr",
            given={
                "request": blob(request(certificate())),
                "inventory": ["BOX-0041", "BOX-0042"],
                "ek": ek,
            },
            verdict="accepted",
            why="The neighbour of every refused request.",
        ),
        refused(
            "of-another-unit",
            "A request with a serial that is not on the line's list is refused",
            "manufacture-request-invalid",
            "The serial becomes the device's name for good.",
            request(certificate()),
            verdict="refused",
            inventory=["BOX-0041"],
        ),
        refused(
            "ek-missing",
            "A request without an EK certificate is refused where one is asked for",
            "manufacture-request-invalid",
            "Without it nobody says that the keys live in a TPM.",
            request(b""),
            verdict="refused",
            ek=ek,
        ),
        refused(
            "ek-by-an-impostor",
            "A request with an EK certificate of nobody's making is refused",
            "ek-certificate-untrusted",
            "A field that is carried and not checked is worse than none.",
            request(certificate(maker("impostor"))),
            verdict="refused",
            ek=ek,
        ),
    ]


def _request(of: FixedTpm, serial: bytes, der: bytes = b"") -> bytes:
    return signed(of, honest_content(of, product_serial=serial, ek_certificate=der))


def _twice() -> list[Json]:
    tpm, other = FixedTpm(), FixedTpm("BOX-0043")
    once = "A line that makes two devices of one name has made one that nobody can tell apart."
    ek = {"roots": [blob(maker().root_der)], "at": NOW.isoformat()}

    before = [blob(_request(tpm, b"BOX-0042"))]
    endorsed = _request(tpm, b"BOX-0042", certificate())
    clashes = {
        "serial-made-for-another": (
            "A second unit with a serial that was made is refused", _request(other, b"BOX-0042")),
        "serial-made-in-other-letters": (
            "A second unit whose serial would name the same device is refused",
            _request(other, b"box.0042")),
        "keys-made-under-another-serial": (
            "Keys that were certified under one serial are not certified under another",
            _request(tpm, b"BOX-0043")),
    }  # fmt: skip
    made = [
        refused(
            name,
            title,
            "already-manufactured",
            once,
            asked,
            verdict="refused",
            made=before,
        )
        for name, (title, asked) in clashes.items()
    ]
    made.append(
        refused(
            "tpm-made-under-another-serial",
            "A TPM that was made gets no second identity by other keys",
            "already-manufactured",
            once,
            _request(other, b"BOX-0043", certificate()),
            verdict="refused",
            made=[blob(endorsed)],
            ek=ek,
        )
    )
    made.append(
        refused(
            "residency-unproven",
            "A line that wants the TPM proven makes nothing before it is",
            "activation-missing",
            "Whoever has a copy of an EK certificate can put it into a request.",
            endorsed,
            verdict="refused",
            made=[],
            activation=True,
            ek=ek,
        )
    )
    return made


def _once() -> list[Json]:
    tpm, other = FixedTpm(), FixedTpm("BOX-0043")
    before = [blob(_request(tpm, b"BOX-0042"))]
    neighbours = {
        "same-unit-again": ("A unit that was made may ask again", _request(tpm, b"BOX-0042")),
        "another-unit-after-it": ("Another unit is made after it", _request(other, b"BOX-0043")),
    }
    return [
        case(
            f"tcg-csr-{name}",
            "N13 N44",
            title,
            kind="tcg-csr",
            given={"request": blob(asked), "made": before},
            verdict="accepted",
            why="The neighbour of the unit that is refused because of an earlier one.",
        )
        for name, (title, asked) in neighbours.items()
    ]


def _sizes() -> list[Json]:
    tpm = FixedTpm()
    raw = honest_content(tpm)
    sizes = "Sizes that do not add up to the length let two readers see two requests."

    def rehashed(changed: bytes) -> bytes:
        rest = changed[_HEAD_BYTES + 32 :]
        return changed[:_HEAD_BYTES] + HashAlgorithm.SHA256.digest(rest) + rest

    at = _CONTENT_SIZES_AT
    grown = rehashed(raw[:at] + pack(">I", 7) + raw[at + 4 :])
    huge = rehashed(raw[:at] + pack(">I", 0xFFFFFFF0) + raw[at + 4 :])
    serial = raw.index(b"BOX-0042")
    other = raw[:serial] + b"BOX-0043" + raw[serial + 8 :]
    envelope = signed(tpm, raw)
    return [
        refused(
            "size-that-does-not-add-up",
            "A field that announces one byte more than there is is refused",
            "truncated",
            sizes,
            signed(tpm, grown),
        ),
        refused(
            "size-that-overflows",
            "A field of four gigabytes is refused by its size alone",
            "too-large",
            sizes + " Summed in 32 bits, huge sizes wrap round to the right one.",
            signed(tpm, huge),
        ),
        refused(
            "content-size-huge",
            "Contents of four gigabytes are refused by their size alone",
            "too-large",
            sizes,
            envelope[:4] + pack(">I", 0xFFFFFFFF) + envelope[8:],
        ),
        refused(
            "trailing-bytes",
            "Bytes after the signature are refused",
            "trailing-bytes",
            sizes,
            envelope + b"\x00",
        ),
        refused(
            "hash-ignored",
            "Contents whose own hash is not theirs are refused although they are signed",
            "value-out-of-range",
            "A reader that skips the hash field takes what a broken device or a forger sends.",
            signed(tpm, other),
        ),
    ]


def _proofs() -> list[Json]:
    tpm, other = FixedTpm(), FixedTpm("BOX-0666")
    raw = honest_content(tpm)
    elsewhere = honest_content(tpm, iak_public=other.public_area(KeyRole.IAK))
    theirs = other.certify(KeyRole.IDEVID, seed("manufacture"))
    swapped = honest_content(
        tpm,
        iak_public=other.public_area(KeyRole.IAK),
        idevid_certify=theirs.attest,
        idevid_certify_signature=theirs.signature,
    )
    loose = FixedTpm()
    loose.keys[KeyRole.IAK] = fixed_key("loose", KeyRole.IAK, attributes=IDEVID_ATTRIBUTES)
    why = "A maker certifies keys for good: every link is proven first."
    return [
        refused(
            "signed-by-another-key",
            "A request that another key signed is refused",
            "quote-signature-invalid",
            why,
            build(raw, other.keys[KeyRole.IDEVID].sign(raw)),
            verdict="refused",
        ),
        refused(
            "certified-by-another-iak",
            "A request whose certification another attestation key made is refused",
            "quote-signature-invalid",
            why,
            signed(tpm, elsewhere),
            verdict="refused",
        ),
        refused(
            "certifies-another-key",
            "A request whose certification names another unit's key is refused",
            "manufacture-request-invalid",
            why,
            signed(tpm, swapped),
            verdict="refused",
        ),
        refused(
            "iak-unrestricted",
            "A request for an attestation key that signs anything is refused",
            "ak-not-restricted",
            why,
            signed(loose, honest_content(loose)),
            verdict="refused",
        ),
    ]
