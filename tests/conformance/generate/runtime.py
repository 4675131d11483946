"""Cases of kind ``ima-list``: N33 to N37, what the running kernel measured."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.algorithms import HashAlgorithm
from attestation.pcr import parse_selection
from attestation.reader import pack
from tests.conformance.generate.device import FixedTpm, private_key, seed
from tests.conformance.generate.model import Json, blob, case, pcrs
from tests.simulators.soft_ima import SoftIma, field, ng, tagged

SHA256: Final = HashAlgorithm.SHA256
SELECTION: Final = "sha256:0,1,2,3,4,5,6,7,8,9,10"
FILES: Final = {"/usr/bin/env": b"env", "/usr/bin/sh": b"sh", "/usr/lib/with blank.so": b"lib"}


class Kernel:
    """A machine whose kernel measured the allowed files; a case measures or edits more."""

    def __init__(self, *, aggregate_of: bool = True, measures: bool = True) -> None:
        self.tpm = FixedTpm()
        booted = {index: seed(f"boot PCR {index}") for index in range(10)}
        other = {index: seed(f"another boot's PCR {index}") for index in range(10)}
        self.tpm.load_pcrs({SHA256: booted if aggregate_of else other})
        self.ima = SoftIma(self.tpm, banks=(SHA256,))
        self.tpm.load_pcrs({SHA256: booted})
        for path, content in FILES.items() if measures else ():
            self.ima.measure(path.encode(), content)

    def given(self, content: bytes | None = None, **rules: Any) -> Json:
        """The list beside the proven PCR values, and what is allowed."""
        files = {path: hashlib.sha256(held).hexdigest() for path, held in FILES.items()}
        return {
            "list": blob(self.ima.list() if content is None else content),
            "pcrs": pcrs(self.tpm.read_pcrs(parse_selection(SELECTION))),
            "policy": {"pcr": 10, "files": files, **rules},
        }


def one(
    name: str,
    anchors: str,
    title: str,
    verdict: str,
    code: str | None,
    why: str,
    given: Json,
    *,
    importance: str = "high",
) -> Json:
    """One case."""
    return case(
        f"ima-{name}",
        anchors,
        title,
        kind="ima-list",
        given=given,
        verdict=verdict,
        code=code,
        why=why,
        importance=importance,
    )


def cases() -> list[Json]:
    """Every case of this file."""
    honest = Kernel()
    return [
        one(
            "honest",
            "N33 N34 N35 N36 N37",
            "A list of allowed files that leads to the PCR is accepted",
            "accepted",
            None,
            "The neighbour of every list that is not.",
            honest.given(),
            importance="critical",
        ),
        *_forms(),
        *_violations(),
        *_chains(),
        *_entries(),
        *_missing(),
        *_boots(),
        *_paths(),
        *_signatures(),
    ]


def _forms() -> list[Json]:
    why = "Lengths are held against what is left; what is not understood proves nothing."
    digest = tagged(b"x")
    path = field(b"/x\0")
    odd = {
        "digest-without-its-nul": (
            field(digest.replace(b"\0", b"_", 1)) + path,
            "A digest field without the NUL behind its algorithm is malformed",
        ),
        "digest-length-beyond-the-entry": (
            pack("<I", 0xFFFFFFF0) + digest + path,
            "A digest field that announces four gigabytes is malformed",
        ),
        "path-without-its-nul": (
            field(digest) + field(b"/x"),
            "A path field without its NUL is malformed",
        ),
    }
    made = []
    for name, (data, title) in odd.items():
        kernel = Kernel()
        kernel.ima.measure_data(data)
        made.append(one(name, "N33", title, "malformed", None, why, kernel.given()))
    strange = Kernel()
    strange.ima.measure_data(ng(b"/usr/bin/env", b"env"), template=b"ima-strange")
    made.append(
        one(
            "unknown-template",
            "N33",
            "An entry of a template that is not known fails the whole list",
            "malformed",
            "log-malformed",
            "An entry that cannot be read could say anything.",
            strange.given(),
        )
    )
    cut = Kernel()
    made.append(
        one(
            "cut-inside-an-entry",
            "N33 N35",
            "A list that ends inside an entry is malformed",
            "malformed",
            "truncated",
            why,
            cut.given(cut.ima.list()[:-3]),
        )
    )
    return made


def _violations() -> list[Json]:
    why = (
        "A file that was open for writing while it was measured has no digest: the kernel logs "
        "zeros and extends ones. It must be told, never passed over."
    )
    told = Kernel()
    told.ima.violate(b"/usr/bin/env")

    zeros = Kernel()
    zeros.ima.violate(b"/usr/bin/env")
    before = Kernel()
    before.tpm.extend(SHA256, 10, bytes(32))

    return [
        one(
            "violation-is-told",
            "N34",
            "A violation is replayed as ones and told",
            "warning",
            "ima-violation",
            why,
            told.given(),
            importance="critical",
        ),
        one(
            "violation-replayed-as-zeros",
            "N34",
            "A list whose violation was extended as zeros does not lead to the PCR",
            "refused",
            "ima-replay-mismatch",
            why,
            {**before.given(zeros.ima.list())},
        ),
    ]


def _chains() -> list[Json]:
    why = (
        "The PCR is what the list must lead to: a beginning that leads there is proven, what "
        "comes after ran ahead of the quote, and a shorter list hides what was run."
    )
    ahead = Kernel()
    told = ahead.given()
    ahead.ima.measure(b"/usr/bin/later", b"later")
    longer = {**told, "list": blob(ahead.ima.list())}

    shorter = Kernel()
    shorter.ima.measure(b"/usr/bin/evil", b"evil")
    hidden = shorter.given(b"".join(shorter.ima.pieces[:-1]))

    return [
        one(
            "list-ahead-of-the-quote",
            "N35",
            "Entries that were added after the quote do not spoil the proof",
            "accepted",
            None,
            why,
            longer,
            importance="critical",
        ),
        one(
            "list-shorter-than-the-quote",
            "N35",
            "A list without its last entry does not lead to the PCR",
            "refused",
            "ima-replay-mismatch",
            why,
            hidden,
            importance="critical",
        ),
    ]


def _entries() -> list[Json]:
    edited = Kernel()
    pieces = list(edited.ima.pieces)
    pieces[1] = pieces[1].replace(b"/usr/bin/env", b"/usr/bin/vim")

    elsewhere = Kernel()
    elsewhere.ima.measure(b"/usr/bin/evil", b"evil", pcr=10)
    moved = list(elsewhere.ima.pieces)
    moved[-1] = pack("<I", 11) + moved[-1][4:]
    return [
        one(
            "entry-moved-to-another-pcr",
            "N35",
            "An entry that says another PCR than it extended breaks the replay",
            "refused",
            "ima-replay-mismatch",
            "Each PCR has a chain of its own: an entry that is moved leaves a hole in one.",
            elsewhere.given(b"".join(moved)),
        ),
        one(
            "entry-edited",
            "N35",
            "An entry with another path than was measured is refused",
            "refused",
            None,
            "The template hash covers path and digest together.",
            edited.given(b"".join(pieces)),
            importance="critical",
        ),
    ]


def _missing() -> list[Json]:
    return [
        one(
            "list-missing",
            "N35",
            "No list beside a PCR that holds one is refused",
            "refused",
            "ima-list-missing",
            "A device that sends nothing hides everything.",
            Kernel().given(b""),
        ),
        one(
            "list-measures-no-file",
            "N35 N36",
            "A list of boot_aggregate alone does not make what runs known",
            "warning",
            "ima-list-missing",
            "A kernel without an IMA policy measures where it booted and nothing that it runs.",
            Kernel(measures=False).given(),
            importance="critical",
        ),
    ]


def _boots() -> list[Json]:
    other = Kernel(aggregate_of=False)
    return [
        one(
            "boot-aggregate-of-another-boot",
            "N36",
            "A list whose boot_aggregate is not that of the quoted PCRs is refused",
            "refused",
            "ima-boot-aggregate-mismatch",
            "A kernel started by another boot, or by kexec, brings its own first entry.",
            other.given(),
            importance="critical",
        )
    ]


def _paths() -> list[Json]:
    unknown = "ima-file-unknown"
    why = "A path allows nothing by itself: pattern and digest must fit as a whole."
    exclude = {"exclude": ["/srv/cache/**"]}
    told = {
        "known-path-of-another-content": ("/usr/bin/env", b"evil", {}, "warning", unknown),
        "known-content-under-another-path": ("/usr/bin/evil", b"env", {}, "warning", unknown),
        "excluded": ("/srv/cache/x/y", b"anything", exclude, "accepted", None),
        "beside-an-excluded-folder": ("/srv/cached/evil", b"evil", exclude, "warning", unknown),
        "below-a-namesake": ("/data/srv/cache/evil", b"evil", exclude, "warning", unknown),
        "out-of-an-excluded-folder": (
            "/srv/cache/../../usr/bin/evil",
            b"evil",
            exclude,
            "warning",
            unknown,
        ),
        "denied-content": (
            "/usr/bin/old-sudo",
            b"evil",
            {"denied": [hashlib.sha256(b"evil").hexdigest()]},
            "refused",
            "ima-file-denied",
        ),
    }
    made = []
    for name, (path, content, rules, verdict, code) in told.items():
        kernel = Kernel()
        kernel.ima.measure(path.encode(), content)
        words = name.replace("-", " ")
        made.append(
            one(
                f"file-{name}",
                "N37",
                f"A file that is {words} is {verdict if verdict != 'warning' else 'told'}",
                verdict,
                code,
                why,
                kernel.given(**rules),
            )
        )
    return made


def _signature(key: ec.EllipticCurvePrivateKey, content: bytes) -> bytes:
    """``security.ima`` over a file's SHA-256 digest, the same each time."""
    algorithm = ec.ECDSA(Prehashed(hashes.SHA256()), deterministic_signing=True)
    made = key.sign(hashlib.sha256(content).digest(), algorithm)
    name = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest[-4:]
    return bytes([3, 2, 4]) + name + pack(">H", len(made)) + made


def _signatures() -> list[Json]:
    key = private_key("file signer")
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    told = {
        "signed": (_signature(key, b"tool"), "accepted", None),
        "signed-for-other-content": (
            _signature(key, b"other"),
            "refused",
            "ima-signature-invalid",
        ),
        "signed-by-a-stranger": (
            _signature(private_key("a stranger"), b"tool"),
            "warning",
            "ima-signer-unknown",
        ),
    }
    made = []
    for name, (signature, verdict, code) in told.items():
        kernel = Kernel()
        kernel.ima.measure_signed(b"/usr/bin/tool", b"tool", signature)
        made.append(
            one(
                f"file-{name}",
                "N37",
                f"A file that is {name.replace('-', ' ')} is judged by its signature",
                verdict,
                code,
                "A signature counts for the digest it is over and the key that made it.",
                kernel.given(signers=[pem]),
            )
        )
    return made
