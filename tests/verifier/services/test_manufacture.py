"""A manufacturing line: who gets certificates, how often, and what it remembers."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from attestation.algorithms import HashAlgorithm
from attestation.certificates import (
    EK_CERTIFICATE_SHA256,
    PERMANENT_IDENTIFIER,
    hardware_module,
    spki_der,
)
from attestation.ek.certificate import parse_maker_certificate
from attestation.errors import (
    IdentityMismatch,
    InputError,
    NotFresh,
    UntrustedEndorsement,
    VerificationError,
)
from attestation.refusals import RefusalCode as Code
from attestation.tpm import csr_idevid
from attestation.tpm.ek_templates import EkTemplate, ek_template
from attestation.tpm.public import parse_public
from attestation.tpm.templates import iak_branches, idevid_branches, policy_or
from attestation.wire.manufacture_codec import decode_challenge, encode_challenge
from tests.attestation.tpm.structures import ATTESTZ
from tests.simulators import soft_tpm_maker
from tests.simulators.soft_device import SoftTpm
from tests.simulators.soft_factory import SoftUnit, wrong_answer
from tests.verifier.appraisal.courtroom import NOW
from tests.verifier.issuance.factory_floor import owner_ca
from verifier.endorsement.vendor_roots import VendorRoots
from verifier.errors import Conflict, Unavailable
from verifier.issuance.manufacture import EkTerms, read_inventory
from verifier.issuance.profiles import VERIFIED_TPM_RESIDENCY
from verifier.services.manufacture import LineTerms, ManufacturingLine
from verifier.sources import load_vendor_roots

MAKER = soft_tpm_maker.root()


class Memory:
    """A journal in memory; ``full`` says that its disk is."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, datetime, str, Mapping[str, Any]]] = []
        self.full = False

    def entries(self) -> Iterator[tuple[int, datetime, str, Mapping[str, Any]]]:
        return iter(self.rows)

    def append(self, kind: str, entry: Mapping[str, Any], at: datetime) -> int:
        if self.full:
            raise Unavailable(Code.STATE_UNWRITABLE, "no space left")
        self.rows.append((len(self.rows) + 1, at, kind, entry))
        return len(self.rows)

    def kinds(self) -> list[str]:
        return [row[2] for row in self.rows]


class Clock:
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at


class Entropy:
    def take(self, size: int) -> bytes:
        return secrets.token_bytes(size)


class Floor:
    """A line whose journal outlives it, as on a machine that is switched off and on."""

    def __init__(self, **terms: Any) -> None:
        self.journal, self.clock = Memory(), Clock()
        roots = VendorRoots(roots=(parse_maker_certificate(MAKER.der),))
        allowed = terms.pop("allowed", frozenset())
        keys = EkTerms(roots=roots, required=True, allowed=allowed)
        self.terms = LineTerms(**({"ek": keys, "activation": True} | terms))

    def line(self) -> ManufacturingLine:
        return ManufacturingLine(
            issuer=owner_ca(),
            journal=self.journal,
            terms=self.terms,
            clock=self.clock,
            entropy=Entropy(),
        )

    def make(self, unit: SoftUnit, request: bytes | None = None, replace: str = "") -> Any:
        request = request or unit.request()
        answer = unit.answer(encode_challenge(self.line().challenge(request)))
        return self.line().issue(request, answer=answer, replace=replace)


@pytest.fixture
def floor() -> Floor:
    return Floor()


@pytest.fixture
def unit() -> SoftUnit:
    return SoftUnit("EB-77", MAKER)


def other_names(certificate: bytes) -> dict[str, bytes]:
    names = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return {
        one.type_id.dotted_string: one.value
        for one in names.value.get_values_for_type(x509.OtherName)
    }


def policies(certificate: bytes) -> list[str]:
    try:
        found = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_class(
            x509.CertificatePolicies
        )
    except x509.ExtensionNotFound:
        return []
    return [one.policy_identifier.dotted_string for one in found.value]


def test_proven_device_gets_certificates_that_name_its_tpm(floor: Floor, unit: SoftUnit) -> None:
    outcome = floor.make(unit)

    assert (outcome.again, outcome.made.resident) == (False, True)
    for der in (outcome.made.idevid, outcome.made.iak):
        module = hardware_module(x509.load_der_x509_certificate(der))
        assert module is not None
        assert module[1] == b"EB-77"
        permanent = other_names(der)[PERMANENT_IDENTIFIER.dotted_string]
        assert outcome.made.ek_certificate_sha256.hex().encode() in permanent
        assert permanent.endswith(soft_tpm_maker.oid(EK_CERTIFICATE_SHA256.dotted_string))
        assert policies(der)[0] == VERIFIED_TPM_RESIDENCY.dotted_string
    assert floor.journal.kinds() == ["challenged", "proven", "issued"]


def test_unproven_residency_is_not_claimed(unit: SoftUnit) -> None:
    floor = Floor(activation=False)
    made = floor.line().issue(unit.request()).made

    assert not made.resident
    for der in (made.idevid, made.iak):
        assert PERMANENT_IDENTIFIER.dotted_string not in other_names(der)
        assert policies(der) == []


def test_line_that_wants_proof_issues_nothing_without(floor: Floor, unit: SoftUnit) -> None:
    with pytest.raises(IdentityMismatch) as caught:
        floor.line().issue(unit.request())

    assert caught.value.code is Code.ACTIVATION_MISSING
    assert floor.journal.kinds() == []


def test_wrong_answer_spends_the_challenge(floor: Floor, unit: SoftUnit) -> None:
    request = unit.request()
    right = unit.answer(encode_challenge(floor.line().challenge(request)))

    with pytest.raises(IdentityMismatch) as failed:
        floor.line().issue(request, answer=wrong_answer(request))
    with pytest.raises(NotFresh) as spent:
        floor.line().issue(request, answer=right)

    assert failed.value.code is Code.CREDENTIAL_ACTIVATION_FAILED
    assert spent.value.code is Code.CREDENTIAL_ACTIVATION_SPENT
    assert floor.journal.kinds() == ["challenged", "failed"]


def test_answer_that_comes_too_late_is_refused(floor: Floor, unit: SoftUnit) -> None:
    request = unit.request()
    answer = unit.answer(encode_challenge(floor.line().challenge(request)))
    floor.clock.at += timedelta(days=1, seconds=1)

    with pytest.raises(NotFresh):
        floor.line().issue(request, answer=answer)


def test_answer_to_an_earlier_challenge_is_refused(floor: Floor, unit: SoftUnit) -> None:
    request = unit.request()
    early = unit.answer(encode_challenge(floor.line().challenge(request)))
    floor.line().challenge(request)

    with pytest.raises(IdentityMismatch):
        floor.line().issue(request, answer=early)


def test_answer_of_another_request_does_not_spend_the_challenge(
    floor: Floor, unit: SoftUnit
) -> None:
    request, other = unit.request(), SoftUnit("EB-78", MAKER).request()
    answer = unit.answer(encode_challenge(floor.line().challenge(request)))

    with pytest.raises(NotFresh):
        floor.line().issue(request, answer=wrong_answer(other))
    assert floor.line().issue(request, answer=answer).made.resident


def test_software_with_a_stolen_ek_certificate_cannot_answer(floor: Floor, unit: SoftUnit) -> None:
    """Its keys are its own, the EK certificate is another device's: only that TPM unwraps."""
    thief = SoftUnit("EB-99", MAKER, ek=unit.ek)
    challenge = encode_challenge(floor.line().challenge(thief.request()))

    with pytest.raises(ValueError, match="TPM_RC_INTEGRITY"):
        unit.answer(challenge)


def test_unit_whose_tpm_runs_firmware_with_a_known_hole_is_not_made(floor: Floor) -> None:
    unit = SoftUnit("EB-80", MAKER, tpm=SoftTpm(firmware_version=7 << 48 | 61 << 32))

    with pytest.raises(UntrustedEndorsement) as caught:
        floor.line().challenge(unit.request())

    assert caught.value.code is Code.TPM_FIRMWARE_DENIED
    unit.tpm.firmware_version = 7 << 48 | 62 << 32
    assert floor.make(unit).made.resident


def test_proof_does_not_carry_over_to_other_keys(floor: Floor, unit: SoftUnit) -> None:
    """The line proved EK and IAK together: another IAK beside the same EK is not proven."""
    floor.make(unit)
    thief = SoftUnit("EB-78", MAKER, ek=unit.ek)

    with pytest.raises(IdentityMismatch) as caught:
        floor.line().issue(thief.request(), replace="repaired, it says")
    assert caught.value.code is Code.ACTIVATION_MISSING


def test_line_that_was_cut_after_the_proof_goes_on(floor: Floor, unit: SoftUnit) -> None:
    request = unit.request()
    answer = unit.answer(encode_challenge(floor.line().challenge(request)))
    issue = floor.line()
    issue._issuer = None  # type: ignore[assignment]  # ends between proof and certificate
    with pytest.raises(AttributeError):
        issue.issue(request, answer=answer)

    assert floor.journal.kinds() == ["challenged", "proven"]
    assert floor.line().issue(request).made.resident
    assert floor.line().issue(request, answer=answer).again


def test_secret_is_nowhere_in_the_journal(floor: Floor, unit: SoftUnit) -> None:
    request = unit.request()
    challenge = floor.line().challenge(request)
    answer = unit.answer(encode_challenge(challenge)).decode()

    told = str(floor.journal.rows)
    assert answer.split('"answer": "')[1].split('"')[0] not in told
    assert challenge.credential_blob.hex() not in told
    assert "credential_blob" not in repr(challenge)


def test_same_device_gets_the_same_certificates_again(floor: Floor, unit: SoftUnit) -> None:
    first = floor.make(unit)

    again = floor.line().issue(unit.request())
    newly = floor.line().issue(unit.request(entropy=b"\x01" * 16))

    assert again.again
    assert newly.again
    assert again.made == newly.made == first.made
    assert floor.journal.kinds().count("issued") == 1


def refusal(floor: Floor, unit: SoftUnit) -> Conflict:
    with pytest.raises(Conflict) as caught:
        floor.line().issue(unit.request())
    assert caught.value.code is Code.ALREADY_MANUFACTURED
    return caught.value


@pytest.mark.parametrize("serial", ["EB-77", "eb-77", "EB.77"])
def test_second_unit_of_one_serial_or_name_is_refused(
    floor: Floor, unit: SoftUnit, serial: str
) -> None:
    floor.make(unit)

    assert "EB-77 (entry 3" in refusal(floor, SoftUnit(serial, MAKER)).reason
    assert floor.journal.kinds().count("issued") == 1


def test_second_serial_for_one_tpm_is_refused(floor: Floor, unit: SoftUnit) -> None:
    floor.make(unit)

    refusal(floor, SoftUnit("EB-78", MAKER, tpm=unit.tpm, ek=unit.ek))


def test_tpm_that_was_made_has_no_second_identity_by_other_keys(
    floor: Floor, unit: SoftUnit
) -> None:
    """Keys of another template, or made after the TPM was cleared, are still that TPM's."""
    floor.make(unit)

    refusal(floor, SoftUnit("EB-78", MAKER, ek=unit.ek))
    assert floor.make(SoftUnit("EB-79", MAKER)).made.serial == "EB-79"


def test_units_of_which_no_endorsement_key_is_believed_do_not_clash() -> None:
    floor = Floor(ek=None, activation=False)

    for serial in ("EB-77", "EB-78"):
        assert not floor.line().issue(SoftUnit(serial, MAKER).request()).again


def test_replacement_is_made_only_with_a_reason_and_kept(floor: Floor, unit: SoftUnit) -> None:
    first = floor.make(unit)
    repaired = SoftUnit("EB-77", MAKER)

    second = floor.make(repaired, replace="mainboard changed")

    assert second.replaced == (first.made,)
    assert (second.made.replaces, second.made.reason) == ((3,), "mainboard changed")
    record = floor.line().record
    assert record.replaced_by(3) == second.made.number == 6
    assert record.replaced_by(6) is None
    assert floor.line().issue(repaired.request()).again
    refusal(floor, unit)


def test_reason_without_anything_to_replace_is_not_recorded(floor: Floor, unit: SoftUnit) -> None:
    assert floor.make(unit, replace="just in case").made.reason == ""


def test_full_disk_issues_nothing(floor: Floor, unit: SoftUnit) -> None:
    request = unit.request()
    answer = unit.answer(encode_challenge(floor.line().challenge(request)))
    line = floor.line()
    line._journal.full = True  # type: ignore[attr-defined]

    with pytest.raises(Unavailable):
        line.issue(request, answer=answer)
    assert line.record.made == {}


def test_tpm_without_certificate_needs_its_key_on_the_list() -> None:
    unit = SoftUnit("EB-77", MAKER, with_ek=False)
    area = ek_area(unit)
    request = unit.request(ca_data=area)

    with pytest.raises(VerificationError) as caught:
        Floor().line().challenge(request)
    assert caught.value.code is Code.MANUFACTURE_REQUEST_INVALID

    floor = Floor(allowed=frozenset({spki_sha256(unit)}))
    made = floor.make(unit, request).made
    assert made.resident
    assert made.ek_certificate_sha256 == b""
    assert PERMANENT_IDENTIFIER.dotted_string not in other_names(made.iak)
    assert policies(made.iak)[0] == VERIFIED_TPM_RESIDENCY.dotted_string


def ek_area(unit: SoftUnit) -> bytes:
    """The EK's public area by template L-1, with its modulus."""
    modulus = unit.ek.public_key().public_numbers().n.to_bytes(256)
    return ek_template(EkTemplate.RSA_2048_LOW)[:-256] + modulus


def spki_sha256(unit: SoftUnit) -> bytes:
    return hashlib.sha256(soft_tpm_maker.spki(unit.ek.public_key())).digest()


def test_foreign_use_of_prodcadata_is_no_endorsement_key() -> None:
    unit = SoftUnit("EB-77", MAKER, with_ek=False)
    floor = Floor(allowed=frozenset({spki_sha256(unit)}))

    with pytest.raises(VerificationError):
        floor.line().challenge(unit.request(ca_data=b"order 7"))


def test_line_without_endorsement_keys_has_none_to_challenge(unit: SoftUnit) -> None:
    floor = Floor(ek=None, activation=False)

    with pytest.raises(IdentityMismatch):
        floor.line().challenge(unit.request())


def test_challenge_names_its_request(floor: Floor, unit: SoftUnit) -> None:
    challenge = floor.line().challenge(unit.request())

    assert decode_challenge(encode_challenge(challenge)) == challenge
    assert challenge.serial == "EB-77"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"version": "1"}',
        b'{"version": "2", "request": "00", "answer": "AA"}',
        b'{"version": "1", "request": "00", "answer": "AA"}',
        b'{"version": "1", "request": "' + b"0" * 64 + b'", "answer": "A+"}',
        b'{"version": "1", "request": "' + b"0" * 64 + b'", "answer": "A"}',
        b'{"version": "1", "request": "' + b"0" * 64 + b'", "answer": 7}',
        b" " * 17_000,
    ],
)
def test_malformed_answer_is_refused_and_spends_nothing(
    floor: Floor, unit: SoftUnit, raw: bytes
) -> None:
    request = unit.request()
    floor.line().challenge(request)

    with pytest.raises(InputError) as refused:
        floor.line().issue(request, answer=raw)
    assert refused.value.code is (
        Code.TOO_LARGE if len(raw) > 16_384 else Code.ACTIVATION_FILE_MALFORMED
    )
    assert floor.line().waits(request)


@pytest.mark.parametrize(
    "entry", [{}, {"request": "zz"}, {"request": "00" * 32, "ek": 1}, {"serial": "x"}]
)
@pytest.mark.parametrize("kind", ["issued", "challenged", "proven"])
def test_journal_that_is_not_ours_is_refused(
    floor: Floor, kind: str, entry: dict[str, object]
) -> None:
    floor.journal.rows.append((1, NOW, kind, entry))

    with pytest.raises(Unavailable) as caught:
        floor.line()
    assert caught.value.code is Code.LINE_JOURNAL_BROKEN


def test_real_devices_request_is_judged_challenged_and_given_certificates() -> None:
    """An Arista control card's: its EK chains to the packaged roots of STMicroelectronics."""
    request = csr_idevid.build(
        (ATTESTZ / "csrResponse-csr_contents").read_bytes(),
        (ATTESTZ / "csrResponse-idevid_signature_csr").read_bytes(),
    )
    keys = EkTerms(roots=load_vendor_roots(), required=True)
    floor = Floor(ek=keys, activation=False, inventory={"JPN2517P064"})

    challenge = floor.line().challenge(request)
    made = floor.line().issue(request).made

    assert (made.serial, made.model, made.resident) == ("JPN2517P064", "DCS-7001-SUP-L", False)
    assert len(challenge.encrypted_secret) == 2 + 256  # an RSA-2048 EK
    content = csr_idevid.parse(request).content
    for der, public in ((made.idevid, content.idevid_public), (made.iak, content.iak_public)):
        assert spki_der(x509.load_der_x509_certificate(der)) == parse_public(public).spki_der
    for role, public in (
        (idevid_branches(HashAlgorithm.SHA384), content.idevid_public),
        (iak_branches(HashAlgorithm.SHA384), content.iak_public),
    ):
        assert parse_public(public).auth_policy == policy_or(HashAlgorithm.SHA384, role)


def test_inventory_is_read_with_comments() -> None:
    assert read_inventory("# line 4\nEB-1\n\n EB-2 \n") == {"EB-1", "EB-2"}


@pytest.mark.parametrize("text", ["EB-1\nEB-1\n", "EB-1\neb.1\n", "EB-1\n-\n", "EB\t1\n"])
def test_inventory_that_holds_one_device_twice_is_refused(text: str) -> None:
    with pytest.raises(VerificationError, match="line "):
        read_inventory(text)
