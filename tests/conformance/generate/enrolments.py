"""Cases of kind ``enrolment``: N11, N17, N18, N41, N43 at the moment a device asks to be known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509

from attestation.evidence import Quote, certify_qualifying_data, qualifying_data
from attestation.identity import Nonce
from attestation.pcr import parse_selection
from attestation.wire.enrolment_codec import EnrolmentRequest
from attestation.wire.evidence_codec import encode_evidence, encode_parts
from device_agent.ports import KeyRole
from tests.conformance.generate.device import (
    NOW,
    FixedMaker,
    FixedTpm,
    fixed_key,
    private_key,
    seed,
)
from tests.conformance.generate.freshness import LIFETIME, authority
from tests.conformance.generate.model import Json, blob, case, pcrs
from tests.conformance.generate.quotes import SELECTION, device
from tests.simulators.soft_device import IAK_ATTRIBUTES, IDEVID_ATTRIBUTES, LDEVID_ATTRIBUTES
from verifier.issuance.enrol import enrolment_subject

SECOND: Final = timedelta(seconds=1)
SERIAL: Final = "BOX-0042"
_MISMATCH: Final = "idevid-iak-mismatch"
_TIED: Final = (
    "An attestation key is believed for a device only when something ties it to that device's "
    "own identity key: else anybody's key attests for anybody (CVE-2021-3406)."
)


class Floor:
    """An honest enrolment; a case changes one part of it."""

    def __init__(self) -> None:
        self.maker = FixedMaker()
        self.anchors = [self.maker.root_der]
        self.tpm = device()
        certified(self.tpm, self.maker)

    def nonce(self, presented: bytes = b"") -> Nonce:
        """The nonce that was issued to a TLS client certificate; its own if none is given."""
        shown = presented or self.tpm.certificates[KeyRole.IDEVID]
        return authority().issue(enrolment_subject(shown), NOW, seed("enrolment", 16))

    def request(self, **parts: Any) -> Json:
        """The request and what a verifier knows; ``parts`` replace fields of the request."""
        tpm, witness = self.tpm, parts.pop("witness", self.tpm)
        presented = parts.pop("presented", tpm.certificates[KeyRole.IDEVID])
        nonce = self.nonce(presented)
        certify = parts.pop("nonce_certified", nonce)
        selections = parse_selection(SELECTION)
        values = tpm.read_pcrs(selections)
        bound = encode_parts(values, None, False, {})  # noqa: FBT003
        quote = tpm.quote(selections, qualifying_data(nonce, bound.digests))
        honest = EnrolmentRequest(
            idevid_chain=(tpm.certificates[KeyRole.IDEVID],),
            iak_chain=(tpm.certificates[KeyRole.IAK],),
            idevid_public=tpm.public_area(KeyRole.IDEVID),
            iak_public=tpm.public_area(KeyRole.IAK),
            ldevid_public=tpm.public_area(KeyRole.LDEVID),
            idevid_certify=witness.certify(
                KeyRole.IDEVID, certify_qualifying_data(certify, "idevid")
            ),
            ldevid_certify=witness.certify(
                KeyRole.LDEVID, certify_qualifying_data(certify, "ldevid")
            ),
            csr=tpm.csr(KeyRole.LDEVID, "device"),
            evidence=encode_evidence(nonce, quote, bound),
        )
        sent = replace(honest, **parts)
        return {
            "at": NOW.isoformat(),
            "trust_anchors": [blob(der) for der in self.anchors],
            "tls_client_certificate": blob(presented),
            "nonce": nonce.hex(),
            "policy": {
                "selection": SELECTION,
                "reference": pcrs(values),
                "nonce_lifetime_s": int(LIFETIME.total_seconds()),
            },
            "request": _described(sent),
        }


def certified(tpm: FixedTpm, maker: FixedMaker) -> FixedTpm:
    """Have a maker certify both of a TPM's keys."""
    for role in (KeyRole.IAK, KeyRole.IDEVID):
        public = tpm.keys[role].private.public_key()
        tpm.certificates[role] = maker.issue(role, public, tpm.serial)
    return tpm


def _described(sent: EnrolmentRequest) -> Json:
    def quote(one: Quote) -> Mapping[str, object]:
        return {"attest": blob(one.attest), "signature": blob(one.signature)}

    return {
        "idevid_chain": [blob(der) for der in sent.idevid_chain],
        "iak_chain": [blob(der) for der in sent.iak_chain],
        "idevid_public": blob(sent.idevid_public),
        "iak_public": blob(sent.iak_public),
        "ldevid_public": blob(sent.ldevid_public),
        "idevid_certify": quote(sent.idevid_certify),
        "ldevid_certify": quote(sent.ldevid_certify),
        "csr": blob(sent.csr),
        "evidence": blob(sent.evidence),
        **({"nonce": sent.nonce.hex(), "result": sent.result} if sent.result else {}),
    }


def refused(
    name: str,
    anchors: str,
    title: str,
    code: str,
    why: str,
    given: Json,
    *,
    importance: str = "critical",
    verdict: str = "refused",
) -> Json:
    """A device that may not enrol."""
    return case(
        f"enrolment-{name}",
        anchors,
        title,
        kind="enrolment",
        given=given,
        verdict=verdict,
        code=code,
        why=why,
        importance=importance,
    )


def cases() -> list[Json]:
    """Every case of this file."""
    return [
        case(
            "enrolment-honest",
            "N11 N17 N18 N41 N43",
            "An honest device is enrolled",
            kind="enrolment",
            given=Floor().request(),
            verdict="accepted",
            why="The neighbour of every refused enrolment.",
            importance="critical",
        ),
        *_classes(),
        *_borrowed_keys(),
        *_two_tpms(),
        *_two_makers(),
        *_other_keys(),
        *_attributes(),
        *_certificates(),
        *_connections(),
        *_revoked(),
        *_moments(),
    ]


_PROOFS: Final = ("pop", "residency", "evidence")


def _asked(trust: str, *proofs: str, **parts: Any) -> Json:
    given = Floor().request(**parts)
    given["class"] = {"initial_trust": trust, "proofs": list(proofs or _PROOFS)}
    return given


def _classes() -> list[Json]:
    why = "What an owner asks for and what was not shown must never be taken for granted."
    return [
        case(
            "enrolment-either-trust",
            "N11 N41",
            "A device that shows one of two kinds of initial trust that are asked for is enrolled",
            kind="enrolment",
            given=_asked("tpm-ek OR idevid"),
            verdict="accepted",
            why="The neighbour of every refusal for want of initial trust.",
        ),
        refused(
            "trust-denied",
            "N41",
            "A class with an empty initial trust lets in nobody, whatever is shown",
            "enrolment-denied",
            "An empty list of what is trusted must not mean that everything is.",
            _asked(""),
        ),
        refused(
            "trust-missing",
            "N11 N41",
            "A device that shows its identity where its endorsement key is wanted too is refused",
            "initial-trust-missing",
            why,
            _asked("idevid AND tpm-ek"),
        ),
        refused(
            "request-for-no-key",
            "N17",
            "A device without a request that its key has signed is refused",
            "proofs-missing",
            why,
            _asked("idevid", csr=b""),
        ),
        refused(
            "owner-not-bound",
            "N15",
            "A device whose owner has signed nothing is refused where that is wanted",
            "proofs-missing",
            why,
            _asked("idevid", *_PROOFS, "owner-binding"),
        ),
        refused(
            "result-not-shown",
            "N14",
            "Evidence does not do where the result of an earlier appraisal is wanted",
            "proofs-missing",
            why,
            _asked("idevid", "pop", "residency", "result"),
        ),
    ]


def _borrowed_keys() -> list[Json]:
    floor = Floor()
    other = certified(FixedTpm("BOX-0666"), floor.maker)
    borrowed = floor.request(
        iak_chain=(other.certificates[KeyRole.IAK],), iak_public=other.public_area(KeyRole.IAK)
    )

    module = Floor()
    key = module.tpm.keys[KeyRole.IAK].private.public_key()
    odd = module.maker.issue(KeyRole.IAK, key, SERIAL, module="OTHER")
    return [
        refused(
            "iak-of-another-device",
            "N11",
            "The attestation key of another genuine device is refused",
            _MISMATCH,
            _TIED,
            borrowed,
        ),
        refused(
            "iak-of-another-module",
            "N11",
            "An attestation key certified for another hardware module is refused",
            _MISMATCH,
            _TIED,
            module.request(iak_chain=(odd,)),
        ),
    ]


def _two_tpms() -> list[Json]:
    stolen = Floor()
    theirs = FixedTpm("BOX-0666").keys[KeyRole.IDEVID]
    stolen.tpm.certificates[KeyRole.IDEVID] = stolen.maker.issue(
        KeyRole.IDEVID, theirs.private.public_key(), SERIAL
    )
    stolen_given = stolen.request(idevid_public=theirs.public_area)

    elsewhere = Floor()
    witness = FixedTpm("BOX-0666")
    for role in (KeyRole.IDEVID, KeyRole.LDEVID):
        witness.keys[role] = elsewhere.tpm.keys[role]
    return [
        refused(
            "idevid-of-another-tpm",
            "N11 N17",
            "An identity key in another TPM than the attestation key's is refused",
            _MISMATCH,
            _TIED + " Both certificates are genuine and of one serial; only TPM2_Certify tells.",
            stolen_given,
        ),
        refused(
            "certified-by-another-tpm",
            "N11 N17",
            "A certification by another TPM's attestation key is refused",
            "certify-signature-invalid",
            _TIED,
            elsewhere.request(witness=witness),
        ),
    ]


def _two_makers() -> list[Json]:
    twin = Floor()
    second = FixedMaker("Second Maker")
    twin.anchors.append(second.root_der)
    key = twin.tpm.keys[KeyRole.IAK].private.public_key()
    chain = (second.issue(KeyRole.IAK, key, SERIAL),)
    return [
        refused(
            "iak-of-another-maker",
            "N11 N41",
            "An attestation key of a second trusted maker with the same serial is refused",
            _MISMATCH,
            "Serial numbers are unique for one manufacturer only.",
            twin.request(iak_chain=chain),
            importance="high",
        ),
    ]


def _other_keys() -> list[Json]:
    why = (
        "What the TPM certified, what the certificate says and what asks for a certificate must "
        "be one key; else a software key gets a hardware key's name."
    )
    software = fixed_key("software", KeyRole.LDEVID)
    other = FixedTpm("BOX-0666")
    stale = authority().issue("enrol/elsewhere", NOW, seed("another enrolment", 16))
    return [
        refused(
            "ldevid-not-the-certified-key",
            "N17",
            "A key outside the TPM beside the certification of one inside is refused",
            "certify-mismatch",
            why,
            Floor().request(ldevid_public=software.public_area),
        ),
        refused(
            "csr-for-another-key",
            "N17",
            "A CSR for another key than the certified one is refused",
            "csr-key-mismatch",
            why,
            Floor().request(csr=other.csr(KeyRole.LDEVID, "device")),
        ),
        refused(
            "idevid-public-not-the-certificates",
            "N17",
            "A public area that is not the certificate's key is refused",
            "certificate-key-mismatch",
            why,
            Floor().request(idevid_public=other.public_area(KeyRole.IDEVID)),
        ),
        refused(
            "iak-public-not-the-certificates",
            "N11 N18",
            "Another attestation key's public area than the certificate's is refused",
            "certificate-key-mismatch",
            "The area whose Name was proven is the area that is used.",
            Floor().request(iak_public=other.public_area(KeyRole.IAK)),
        ),
        refused(
            "certification-for-another-challenge",
            "N10 N17",
            "A certification made for another challenge is refused",
            "certify-mismatch",
            "An old certification says nothing about where the key is now.",
            Floor().request(nonce_certified=stale),
        ),
    ]


def _attributes() -> list[Json]:
    told = {
        "iak-unrestricted": (KeyRole.IAK, IDEVID_ATTRIBUTES, "ak-not-restricted", "N8 N18"),
        "iak-duplicable": (KeyRole.IAK, IAK_ATTRIBUTES & ~2, "ak-attributes-wrong", "N18"),
        "idevid-duplicable": (
            KeyRole.IDEVID,
            IDEVID_ATTRIBUTES & ~2,
            "key-attributes-wrong",
            "N18",
        ),
        "ldevid-duplicable": (
            KeyRole.LDEVID,
            LDEVID_ATTRIBUTES & ~2,
            "key-attributes-wrong",
            "N18",
        ),
    }
    made = []
    for name, (role, attributes, code, anchors) in told.items():
        floor = Floor()
        floor.tpm.keys[role] = fixed_key(name, role, attributes=attributes)
        certified(floor.tpm, floor.maker)
        kind = name.partition("-")[2]
        made.append(
            refused(
                name,
                anchors,
                f"A genuinely certified {role.value.upper()} key that is {kind} is refused",
                code,
                "A certificate names a key; only its attributes say that it cannot leave its TPM "
                "or sign what the TPM did not make.",
                floor.request(),
            )
        )
    return made


def _certificates() -> list[Json]:
    foreign = Floor()
    certified(foreign.tpm, FixedMaker("Example Devices", key="impostor"))

    shown = Floor()
    iak = shown.tpm.certificates[KeyRole.IAK]

    authority_like = Floor()
    key = authority_like.tpm.keys[KeyRole.IDEVID].private.public_key()
    authority_like.tpm.certificates[KeyRole.IDEVID] = authority_like.maker.issue(
        KeyRole.IDEVID, key, SERIAL, ca=True
    )

    weak = Floor()
    p192 = private_key("weak", "p192").public_key()
    weak_chain = (weak.maker.issue(KeyRole.IAK, p192, SERIAL),)

    profile = "A signature by a trusted maker is not enough: the certificate must be of the kind."
    return [
        refused(
            "foreign-maker",
            "N41",
            "A device of a maker that only bears a trusted maker's name is refused",
            "certificate-untrusted",
            "A chain is proven by keys, never by names.",
            foreign.request(),
        ),
        refused(
            "iak-certificate-as-idevid",
            "N41",
            "An attestation key's certificate in place of the identity's is refused",
            "certificate-profile-wrong",
            profile,
            shown.request(idevid_chain=(iak,), presented=iak),
        ),
        refused(
            "idevid-certificate-as-iak",
            "N41",
            "A certificate without the attestation key usage endorses no attestation key",
            "certificate-profile-wrong",
            profile,
            Floor().request(iak_chain=(Floor().tpm.certificates[KeyRole.IDEVID],)),
        ),
        refused(
            "ca-certificate-as-idevid",
            "N41",
            "A CA's certificate in place of a device's is refused",
            "certificate-profile-wrong",
            profile,
            authority_like.request(),
        ),
        refused(
            "weak-key",
            "N41 N42",
            "A genuinely certified key on a 192-bit curve is refused",
            "key-too-weak",
            "A maker's mistake is still a mistake.",
            weak.request(iak_chain=weak_chain),
        ),
    ]


def _connections() -> list[Json]:
    other = certified(FixedTpm("BOX-0666"), Floor().maker).certificates[KeyRole.IDEVID]
    return [
        refused(
            "another-tls-certificate",
            "N39",
            "A request over the TLS connection of another device is refused",
            "client-certificate-wrong",
            "Evidence that a stranger may forward proves nothing about who forwards it.",
            Floor().request(presented=other),
        ),
    ]


def _revoked() -> list[Json]:
    made = []
    for role in (KeyRole.IDEVID, KeyRole.IAK):
        floor = Floor()
        serial = x509.load_der_x509_certificate(floor.tpm.certificates[role]).serial_number
        given = floor.request()
        given["revocation_lists"] = [blob(floor.maker.revocation_list(serial))]
        made.append(
            refused(
                f"{role.value}-revoked",
                "N43",
                f"An {role.value.upper()} certificate on its maker's revocation list is refused",
                "certificate-revoked",
                "A maker takes back what it learns to be broken; whoever does not look believes.",
                given,
            )
        )
    others = Floor()
    given = others.request()
    given["revocation_lists"] = [blob(others.maker.revocation_list(1, 2, 3))]
    made.append(
        case(
            "enrolment-others-revoked",
            "N43",
            "A device beside revoked ones is enrolled",
            kind="enrolment",
            given=given,
            verdict="accepted",
            why="The neighbour of the revoked certificate.",
        )
    )
    return made


def _moments() -> list[Json]:
    return [
        refused(
            f"{role.value}-{word}",
            "N43",
            f"An {role.value.upper()} certificate that is {word.replace('-', ' ')} is refused",
            code,
            "Validity is judged at the moment of appraisal.",
            _dated(role, start, until).request(),
        )
        for role in (KeyRole.IDEVID, KeyRole.IAK)
        for word, code, start, until in (
            ("expired", "certificate-expired", NOW - 9 * SECOND, NOW - SECOND),
            ("not-yet-valid", "certificate-not-yet-valid", NOW + SECOND, NOW + 9 * SECOND),
        )
    ]


def _dated(role: KeyRole, start: datetime, until: datetime) -> Floor:
    floor = Floor()
    key = floor.tpm.keys[role].private.public_key()
    floor.tpm.certificates[role] = floor.maker.issue(role, key, SERIAL, start=start, until=until)
    return floor
