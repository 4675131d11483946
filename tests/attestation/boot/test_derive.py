from __future__ import annotations

import hashlib

import pytest

from attestation.boot.facts import BootFacts, ImageKind, Proof
from attestation.reader import pack
from attestation.uefi.guid import IMAGE_SECURITY_DATABASE, SHIM_LOCK
from tests.simulators.boot import (
    ACTION,
    APPLICATION,
    AUTHORITY,
    CONFIG,
    DRIVER,
    IPL,
    KEYS,
    TAG,
    VARIABLE_BOOT,
    boot,
    config,
    event,
    facts_of,
)
from tests.simulators.firmware_log import SHA1, SHA256, agile_event
from tests.simulators.uefi import (
    OWNER,
    hash_list,
    variable,
)

UNDECODABLE, UNKNOWN = "event-undecodable", "event-type-unknown"


def troubles(facts: BootFacts) -> list[tuple[str, int]]:
    return [(trouble.code, trouble.proof.pcr) for trouble in facts.troubles]


def test_honest_boot_tells_its_keys_with_their_proofs() -> None:
    facts = facts_of(boot())
    assert facts.troubles == ()
    assert facts.quirks == ()
    assert facts.secure_boot is not None
    assert facts.secure_boot.value is True
    assert facts.secure_boot.proofs == (Proof(7, 1),)
    assert facts.databases["dbx"].value.hashes == {b"x" * 32, b"y" * 32}
    assert facts.databases["dbx"].value.entries == 2
    assert facts.databases["dbx"].value.digest == (
        hashlib.sha256(hash_list(b"x" * 32, b"y" * 32)).digest()
    )
    assert set(facts.databases) == {"PK", "KEK", "db", "dbx"}
    assert facts.exit_boot_services is not None
    assert facts.exit_boot_services.value is True
    [image] = [fact.value for fact in facts.images]
    assert image.kind is ImageKind.APPLICATION
    assert (image.path, image.digest) == ("\\EFI\\BOOT\\BOOTX64.EFI", SHA256.digest(b"code"))
    assert not image.before_separator


def test_facts_are_read_in_the_bank_that_is_asked() -> None:
    assert facts_of(boot(), SHA1).images[0].value.digest == SHA1.digest(b"code")


def test_nothing_is_told_of_pcrs_that_no_quote_confirmed() -> None:
    facts = facts_of(boot(), proven=frozenset({4, 5}))
    assert facts.secure_boot is None
    assert facts.databases == {}
    assert len(facts.images) == 1
    assert any("PCR 7" in sentence for sentence in facts.not_covered)
    assert facts_of(boot(), proven=frozenset()).covered == frozenset()


def test_pcr_that_lacks_the_bank_in_one_event_is_not_interpreted() -> None:
    lone = agile_event(7, CONFIG, b"x", {4: SHA1.digest(b"x")})
    facts = facts_of(boot(after=lone))
    assert 7 not in facts.covered
    assert facts.secure_boot is None
    assert facts_of(boot(after=lone), SHA1).covered >= {7}


# --- N1: types -----------------------------------------------------------------------------


@pytest.mark.parametrize("pcr", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14])
def test_unknown_event_type_is_a_trouble_of_its_pcr(pcr: int) -> None:
    assert troubles(facts_of(boot(after=event(pcr, 0x8401, b"x")))) == [(UNKNOWN, pcr)]


@pytest.mark.parametrize("pcr", [10, 15, 16, 23])
def test_pcrs_of_others_are_not_interpreted(pcr: int) -> None:
    assert facts_of(boot(after=event(pcr, 0x8401, b"x"))).troubles == ()


@pytest.mark.parametrize("kind", [2, 5 + 7, IPL, TAG, APPLICATION, VARIABLE_BOOT, 0x80000008])
def test_no_event_of_pcr_7_hides_under_a_type_without_meaning_there(kind: int) -> None:
    hidden = event(7, kind, variable("SecureBoot", b"\0"))
    facts = facts_of(hidden + boot())
    assert (UNKNOWN, 7) in troubles(facts)


@pytest.mark.parametrize("kind", [2, IPL, TAG, 0xC, 0x80000008, CONFIG])
def test_no_boot_application_hides_under_another_type(kind: int) -> None:
    assert (UNKNOWN, 4) in troubles(facts_of(boot(after=event(4, kind, b"x", b"evil"))))


@pytest.mark.parametrize("kind", [ACTION, 5])
def test_no_boot_application_hides_as_an_action(kind: int) -> None:
    assert (UNDECODABLE, 4) in troubles(facts_of(boot(after=event(4, kind, b"text", b"evil"))))


@pytest.mark.parametrize("kind", [1, 0x11, 0x10, 0x80000008, DRIVER, TAG])
def test_option_rom_is_an_image_whatever_its_type_says(kind: int) -> None:
    facts = facts_of(boot(before=event(2, kind, b"note", b"rom")))
    [rom] = [fact.value for fact in facts.images if fact.value.kind is ImageKind.DRIVER]
    assert rom.digest == SHA256.digest(b"rom")
    assert rom.before_separator


def test_action_that_is_no_text_is_a_trouble() -> None:
    hidden = event(7, ACTION, variable("SecureBoot", b"\0"))
    assert (UNDECODABLE, 7) in troubles(facts_of(hidden + boot()))


# --- N2, N5, N29: variables ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["SecureBoot", "PK", "KEK"])
def test_second_measurement_of_a_key_variable_is_a_trouble(name: str) -> None:
    again = config(name, b"\1" if name == "SecureBoot" else b"")
    assert troubles(facts_of(boot(keys=KEYS + again))) == [(UNDECODABLE, 7)]


@pytest.mark.parametrize("name", ["db", "dbx"])
def test_second_measurement_of_a_database_is_a_trouble(name: str) -> None:
    again = config(name, b"", IMAGE_SECURITY_DATABASE)
    facts = facts_of(boot(keys=KEYS + again))
    assert troubles(facts) == [(UNDECODABLE, 7)]
    assert facts.databases[name].value.entries > 0


def test_first_secure_boot_value_stands_against_a_later_one() -> None:
    facts = facts_of(boot(keys=config("SecureBoot", b"\0") + config("SecureBoot", b"\1")))
    assert facts.secure_boot is not None
    assert facts.secure_boot.value is False
    assert troubles(facts) == [(UNDECODABLE, 7)]


def test_variable_after_the_separator_is_a_trouble_and_no_fact() -> None:
    facts = facts_of(boot(keys=b"", after=config("SecureBoot", b"\1")))
    assert facts.secure_boot is None
    assert troubles(facts) == [(UNDECODABLE, 7)]


def test_variable_whose_content_was_not_measured_is_a_trouble_and_no_fact() -> None:
    lie = event(7, CONFIG, variable("SecureBoot", b"\1"), variable("SecureBoot", b"\0"))
    facts = facts_of(boot(keys=lie))
    assert facts.secure_boot is None
    assert troubles(facts) == [(UNDECODABLE, 7)]


def test_variable_of_which_only_the_data_was_measured_is_no_key_variable() -> None:
    facts = facts_of(boot(keys=event(7, CONFIG, variable("SecureBoot", b"\1"), b"\1")))
    assert facts.secure_boot is None
    assert troubles(facts) == [(UNDECODABLE, 7)]


@pytest.mark.parametrize("data", [b"\2", b"\1\0", b"\0\0\0\0"])
def test_secure_boot_of_another_value_is_a_trouble_and_no_fact(data: bytes) -> None:
    facts = facts_of(boot(keys=config("SecureBoot", data)))
    assert facts.secure_boot is None
    assert troubles(facts) == [(UNDECODABLE, 7)]


def test_empty_secure_boot_is_off_and_named() -> None:
    facts = facts_of(boot(keys=config("SecureBoot", b"")))
    assert facts.secure_boot is not None
    assert facts.secure_boot.value is False
    assert facts.quirks == ("secure-boot-variable-empty",)


def test_secure_boot_of_another_vendor_is_not_secure_boot() -> None:
    facts = facts_of(boot(keys=config("SecureBoot", b"\1", OWNER)))
    assert facts.secure_boot is None
    assert "no event of PCR 7 tells whether Secure Boot is on" in facts.not_covered
    assert facts.quirks == ("secure-boot-not-measured",)


def test_secure_boot_in_another_pcr_is_not_secure_boot() -> None:
    facts = facts_of(boot(keys=config("SecureBoot", b"\1", pcr=1)))
    assert facts.secure_boot is None


@pytest.mark.parametrize(
    "data", [b"x", hash_list(b"a" * 32)[:-1], pack("<16sIII", OWNER, 27, 0, 17)]
)
def test_database_that_cannot_be_read_is_a_trouble_and_no_fact(data: bytes) -> None:
    facts = facts_of(boot(keys=config("dbx", data, IMAGE_SECURITY_DATABASE)))
    assert facts.databases == {}
    assert troubles(facts) == [(UNDECODABLE, 7)]


def test_modes_are_read_in_pcr_1_and_7() -> None:
    keys = config("AuditMode", b"\0", pcr=1) + config("DeployedMode", b"\1")
    modes = facts_of(boot(keys=keys)).modes
    assert {name: fact.value for name, fact in modes.items()} == {
        "AuditMode": False,
        "DeployedMode": True,
    }


# --- authorities, N30 ----------------------------------------------------------------------


def test_authority_tells_what_admitted_an_image_and_when() -> None:
    entry = event(7, AUTHORITY, variable("db", OWNER + b"a" * 32, IMAGE_SECURITY_DATABASE))
    early, late = facts_of(boot(keys=KEYS + entry, after=entry)).authorities
    assert (early.value.variable, early.value.digest) == ("db", b"a" * 32)
    assert early.value.before_separator
    assert not late.value.before_separator


def test_surplus_of_old_shim_is_taken_with_its_digest_only() -> None:
    content = variable("Shim", b"text", SHIM_LOCK) + b"surplu"
    good = facts_of(boot(after=event(7, AUTHORITY, content, content[:-1])))
    assert good.quirks == ("shim-surplus-bytes",)
    assert [fact.value.variable for fact in good.authorities] == ["Shim"]
    bad = facts_of(boot(after=event(7, AUTHORITY, content, b"another")))
    assert bad.authorities == ()
    assert troubles(bad) == [(UNDECODABLE, 7)]


@pytest.mark.parametrize("surplus", [b"surpl", b"s"])
def test_other_surplus_is_not_taken(surplus: bytes) -> None:
    content = variable("Shim", b"text", SHIM_LOCK) + surplus
    facts = facts_of(boot(after=event(7, AUTHORITY, content, content[:-1])))
    assert troubles(facts) == [(UNDECODABLE, 7)]


def test_surplus_whose_bytes_were_all_measured_is_refused_even_after_an_honest_one() -> None:
    content = variable("Shim", b"text", SHIM_LOCK) + b"surplu"
    honest = event(7, AUTHORITY, content, content[:-1])
    facts = facts_of(boot(after=honest + event(7, AUTHORITY, content)))
    assert len(facts.authorities) == 1
    assert troubles(facts) == [(UNDECODABLE, 7)]


@pytest.mark.parametrize(
    "content", [variable("SecureBoot", b"\0" * 20), variable("db", b"short", OWNER), b"x"]
)
def test_authority_that_is_none_is_a_trouble(content: bytes) -> None:
    facts = facts_of(boot(after=event(7, AUTHORITY, content)))
    assert facts.authorities == ()
    assert troubles(facts) == [(UNDECODABLE, 7)]
