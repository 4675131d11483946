"""``[boot]``: each rule met, broken and not proven, on facts made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.boot.facts import (
    Authority,
    BootFacts,
    Fact,
    Image,
    ImageKind,
    Proof,
    SignatureDatabase,
    Trouble,
)
from attestation.logs.event_types import EventType
from attestation.refusals import RefusalCode as Code
from attestation.result import Claim, Finding
from tests.simulators.uefi import certificate_named
from tests.verifier.appraisal.courtroom import firmware_log
from tests.verifier.appraisal.test_policy_file import GOOD
from verifier.appraisal.boot_rules import BootRules, judge_boot
from verifier.appraisal.boot_seen import BOOT_AS_REQUIRED
from verifier.appraisal.policy import load_policy
from verifier.appraisal.replay_cache import judge_log

A, B, C = b"\xaa" * 32, b"\xbb" * 32, b"\xcc" * 32


def fact(value: Any, pcr: int = 7, event: int = 12) -> Fact[Any]:
    return Fact(value, (Proof(pcr, event),))


def database(*hashes: bytes, certificates: tuple[bytes, ...] = (), others: int = 0) -> Fact[Any]:
    return fact(
        SignatureDatabase(
            certificates=dict.fromkeys(certificates, certificate_named("Maker")),
            hashes=frozenset(hashes),
            others=others,
            digest=C,
        )
    )


def image(digest: bytes, kind: ImageKind, pcr: int) -> Fact[Any]:
    made = Image(
        kind=kind,
        digest=digest,
        before_separator=True,
        event_type=int(EventType.POST_CODE),
        content=b"PciRoot(0)",
    )
    return fact(made, pcr, 3)


def authority(digest: bytes, variable: str = "db") -> Fact[Any]:
    return fact(
        Authority(variable=variable, digest=digest, subject="CN=Maker", before_separator=False)
    )


FACTS = BootFacts(
    secure_boot=fact(value=True),
    databases={
        "PK": database(certificates=(A,)),
        "KEK": database(certificates=(A, B)),
        "db": database(C, certificates=(A,)),
        "dbx": database(A, B),
    },
    modes={
        "SetupMode": fact(value=False),
        "AuditMode": fact(value=False),
        "DeployedMode": fact(value=True),
    },
    authorities=(authority(A), authority(B, "MokList"), authority(C, "SbatLevel")),
    images=(
        image(A, ImageKind.DRIVER, 2),
        image(B, ImageKind.APPLICATION, 4),
        image(C, ImageKind.FIRMWARE, 0),
    ),
    firmware_version=fact("1.4", 0, 1),
    boot_order=fact((1, 0), 1),
    command_lines=(fact("/vmlinuz root=/dev/sda1 ro lockdown=integrity quiet", 8),),
    exit_boot_services=fact(value=True, pcr=5),
    covered=frozenset(range(10)),
)
EMPTY = BootFacts(covered=frozenset())
AA, BB, CC = A.hex(), B.hex(), C.hex()


def rules(text: str) -> BootRules:
    made = load_policy(f"{GOOD}[boot]\n{text}\n", "mine.toml").boot
    assert made is not None
    return made


def judge(text: str, facts: BootFacts | None = FACTS) -> Finding:
    (finding,) = judge_boot(facts, rules(text))
    return finding


MET = [
    "secure_boot = 96",
    'secure_boot = { state = "on", otherwise = 96 }',
    'setup_mode = { state = "off", otherwise = 96 }',
    'audit_mode = { state = "off", otherwise = 96 }',
    'deployed_mode = { state = "on", otherwise = 32 }',
    "dbx = { entries = 2, otherwise = 32 }",
    f'dbx = {{ at_least = ["{AA}", "{BB}"], otherwise = 32 }}',
    f'PK = {{ digests = ["{CC}"], otherwise = 96 }}',
    f'PK = {{ allowed = ["{AA}"], otherwise = 96 }}',
    f'KEK = {{ allowed = ["{AA}", "{BB}"], otherwise = 96 }}',
    f'db = {{ allowed = ["{AA}", "{CC}"], otherwise = 96 }}',
    f'authorities = {{ allowed = ["{AA}", "{BB}"], otherwise = 96 }}',
    f'option_roms = {{ allowed = ["{AA}"], otherwise = 96 }}',
    f'option_roms = {{ forbidden = ["{BB}"], otherwise = 96 }}',
    f'boot_applications = {{ allowed = ["{BB}"], otherwise = 96 }}',
    f'boot_applications = {{ forbidden = ["{AA}"], otherwise = 96 }}',
    f'firmware = {{ forbidden = ["{AA}"], otherwise = 96 }}',
    'firmware = { forbidden_versions = ["1.3"], otherwise = 96 }',
    'command_line = { required = ["ro", "lockdown=*"], otherwise = 96 }',
    'command_line = { forbidden = ["init=*", "selinux=0*"], otherwise = 96 }',
    'command_line = { allowed = ["/vmlinuz", "root=*", "ro", "quiet", "lockdown=*"], otherwise=32}',
    "boot_order = { allowed = [[0, 1], [1, 0]], otherwise = 32 }",
    "exit_boot_services = 96",
    "dma_protection = 32",
]


@pytest.mark.parametrize("text", MET)
def test_rule_that_is_met_accuses_nobody_and_asserts_nothing(text: str) -> None:
    finding = judge(text)

    assert (finding.code, finding.value) == (BOOT_AS_REQUIRED, 0)
    assert finding.rule == f"boot.{text.partition(' ')[0]}"


def test_rule_that_is_met_may_affirm() -> None:
    finding = judge("secure_boot = { otherwise = 96, met = 3 }")

    assert (finding.claim, finding.value) == (Claim.CONFIGURATION, 3)


@pytest.mark.parametrize(
    ("text", "facts", "code", "named"),
    [
        ("secure_boot = 97", {"secure_boot": fact(value=False)}, Code.SECURE_BOOT_OFF, "event 12"),
        (
            'setup_mode = { state = "on", otherwise = 97 }',
            {},
            Code.PLATFORM_MODE_REFUSED,
            "SetupMode was off",
        ),
        ("dbx = { entries = 3, otherwise = 97 }", {}, Code.DBX_OUTDATED, "2 entries, wanted 3"),
        (
            f'dbx = {{ at_least = ["{AA}", "{CC}"], otherwise = 97 }}',
            {},
            Code.DBX_OUTDATED,
            "1 of the 2",
        ),
        (
            f'PK = {{ digests = ["{AA}"], otherwise = 97 }}',
            {},
            Code.SECURE_BOOT_KEYS_UNKNOWN,
            CC[:16],
        ),
        (
            f'KEK = {{ allowed = ["{AA}"], otherwise = 97 }}',
            {},
            Code.SECURE_BOOT_KEYS_UNKNOWN,
            BB,
        ),
        (f'db = {{ allowed = ["{AA}"], otherwise = 97 }}', {}, Code.SECURE_BOOT_KEYS_UNKNOWN, CC),
        (
            f'db = {{ allowed = ["{AA}"], otherwise = 97 }}',
            {"databases": {"db": database(others=2)}},
            Code.SECURE_BOOT_KEYS_UNKNOWN,
            "2 entries",
        ),
        (
            f'db = {{ allowed = ["{AA}"], otherwise = 97 }}',
            {"databases": {"db": database()}},
            Code.SECURE_BOOT_KEYS_UNKNOWN,
            "no entries",
        ),
        (
            f'authorities = {{ allowed = ["{AA}"], otherwise = 97 }}',
            {},
            Code.BOOT_AUTHORITY_UNKNOWN,
            BB,
        ),
        ("option_roms = 97", {}, Code.OPTION_ROM_UNKNOWN, AA),
        (
            f'option_roms = {{ allowed = ["{BB}"], otherwise = 97 }}',
            {},
            Code.OPTION_ROM_UNKNOWN,
            AA,
        ),
        (
            f'boot_applications = {{ forbidden = ["{BB}"], otherwise = 97 }}',
            {},
            Code.BOOT_IMAGE_REFUSED,
            "forbids",
        ),
        (
            f'boot_applications = {{ allowed = ["{AA}"], otherwise = 97 }}',
            {},
            Code.BOOT_IMAGE_REFUSED,
            "does not list",
        ),
        (
            f'firmware = {{ forbidden = ["{AA}", "{CC}"], otherwise = 97 }}',
            {},
            Code.FIRMWARE_REFUSED,
            CC,
        ),
        (
            f'firmware = {{ forbidden = ["{AA}"], forbidden_versions = ["1.4"], otherwise = 97 }}',
            {},
            Code.FIRMWARE_REFUSED,
            "'1.4', which the policy forbids (PCR 0, event 1)",
        ),
        (
            'command_line = { forbidden = ["quiet"], otherwise = 97 }',
            {},
            Code.COMMAND_LINE_REFUSED,
            "quiet",
        ),
        (
            "boot_order = { allowed = [[0, 1]], otherwise = 97 }",
            {},
            Code.BOOT_ORDER_CHANGED,
            "0001, 0000",
        ),
        (
            "exit_boot_services = 97",
            {"exit_boot_services": fact(value=False, pcr=5)},
            Code.EXIT_BOOT_SERVICES_MISSING,
            "whole log",
        ),
        (
            "dma_protection = 97",
            {"dma_protection_disabled": fact(value=True)},
            Code.DMA_PROTECTION_OFF,
            "event 12",
        ),
    ],
)
def test_rule_that_is_broken_gives_its_value_and_a_reason_to_act_on(
    text: str, facts: dict[str, Any], code: Code, named: str
) -> None:
    finding = judge(text, replace(FACTS, **facts))

    assert (finding.code, finding.value, finding.step) == (code, 97, 4)
    assert named in finding.reason


@pytest.mark.parametrize("text", MET)
@pytest.mark.parametrize("facts", [EMPTY, None])
def test_what_no_log_proves_is_never_fine(text: str, facts: BootFacts | None) -> None:
    finding = judge(text, facts)

    assert finding.code == Code.BOOT_FACT_MISSING
    assert finding.value == (36 if finding.claim is Claim.CONFIGURATION else -33)


def test_firmware_without_a_proven_version_is_not_fine_where_versions_are_forbidden() -> None:
    unknown = replace(FACTS, firmware_version=None)
    both = f'firmware = {{ forbidden = ["{CC}"], forbidden_versions = ["1.4"], otherwise = 97 }}'

    version = judge('firmware = { forbidden_versions = ["1.4"], otherwise = 97 }', unknown)
    code = judge(
        f'firmware = {{ forbidden = ["{CC}"], otherwise = 97 }}', replace(FACTS, images=())
    )

    assert (version.code, version.value) == (Code.BOOT_FACT_MISSING, -33)
    assert (code.code, code.value) == (Code.BOOT_FACT_MISSING, -33)
    assert judge(both, unknown).code == Code.FIRMWARE_REFUSED


def test_what_is_not_proven_has_its_own_value() -> None:
    assert judge("secure_boot = { otherwise = 96, missing = 97 }", EMPTY).value == 97


@pytest.mark.parametrize(
    ("pcr", "claim"), [(7, Claim.CONFIGURATION), (4, Claim.EXECUTABLES), (2, Claim.HARDWARE)]
)
def test_unreadable_event_is_contraindicated_and_names_itself(pcr: int, claim: Claim) -> None:
    troubles = tuple(
        Trouble(code="event-type-unknown", proof=Proof(pcr, event), reason="type 0x77")
        for event in (31, 32, 33)
    )

    (finding,) = judge_boot(replace(FACTS, troubles=troubles), BootRules())

    assert (finding.code, finding.value, finding.claim) == ("event-type-unknown", 96, claim)
    assert finding.reason == f"PCR {pcr}, event 31: type 0x77 (and 2 more events of this PCR)"


def test_facts_beside_an_unreadable_event_are_not_proven() -> None:
    trouble = Trouble(code="event-undecodable", proof=Proof(7, 31), reason="cut off")

    found = judge_boot(
        replace(FACTS, troubles=(trouble,)),
        rules("unknown_events = 33\nsecure_boot = 96\nexit_boot_services = 96"),
    )

    assert [(one.code, one.value) for one in found] == [
        ("event-undecodable", 33),
        (Code.BOOT_FACT_MISSING, 36),
        (BOOT_AS_REQUIRED, 0),
    ]


@pytest.mark.parametrize("wrong", [AA, BB])
def test_every_authority_counts_but_switches_of_shim_do_not(wrong: str) -> None:
    finding = judge(f'authorities = {{ allowed = ["{wrong}"], otherwise = 96 }}')

    assert finding.code == Code.BOOT_AUTHORITY_UNKNOWN
    assert CC not in finding.reason


@pytest.mark.parametrize(
    ("words", "line", "broken"),
    [
        ('forbidden = ["init=*"]', "ro init=/bin/sh", True),
        ('forbidden = ["init=*"]', 'ro "init=/bin/sh x"', True),
        ('forbidden = ["init=*"]', 'ro init="/bin/sh"', True),
        ('forbidden = ["init=*"]', "ro rdinit=/x noinit=1", False),
        ('forbidden = ["ima_appraise=off"]', "ima-appraise=off", True),
        ('forbidden = ["ima-appraise=off"]', "ima_appraise=off", True),
        ('forbidden = ["selinux=0"]', "ro\tselinux=0\0", True),
        ('forbidden = ["selinux=0"]', 'name="a selinux=0"', False),
        ('forbidden = ["debug"]', "ro -- debug", True),
        ('required = ["lockdown=integrity"]', "lockdown=integrity", False),
        ('required = ["lockdown=integrity"]', "lockdown=integrity lockdown=none", True),
        ('required = ["lockdown=integrity"]', "lockdown=none lockdown=integrity", False),
        ('required = ["ro"]', "quiet -- ro", True),
        ('required = ["ro"]', "", True),
        ('allowed = ["ro"]', "ro quiet", True),
        ('allowed = ["ro"], required = ["quiet"]', "ro quiet", False),
        ('forbidden = ["x"]', "foo\u00e0bar", True),
        ('forbidden = ["x"]', "foo\u00a0bar", True),
    ],
)
def test_command_line_is_read_as_the_kernel_reads_it(
    words: str,
    line: str,
    broken: bool,  # noqa: FBT001 - a test parameter
) -> None:
    facts = replace(FACTS, command_lines=(fact(line, 9),))

    finding = judge(f"command_line = {{ {words}, otherwise = 96 }}", facts)

    assert (finding.code == Code.COMMAND_LINE_REFUSED) is broken, finding.reason


def test_every_command_line_is_judged() -> None:
    facts = replace(FACTS, command_lines=(fact("ro", 8), fact("ro init=/bin/sh", 9)))

    finding = judge('command_line = { forbidden = ["init=*"], otherwise = 96 }', facts)

    assert (finding.code, finding.pcr) == (Code.COMMAND_LINE_REFUSED, 9)


def test_facts_of_a_log_are_judged_once_by_the_same_rules() -> None:
    log = judge_log(firmware_log(), (HashAlgorithm.SHA256,))
    asked, others = rules("secure_boot = 96"), rules("secure_boot = 32")

    found = log.boot_findings(FACTS, asked)
    assert found == judge_boot(FACTS, asked)
    assert log.boot_findings(FACTS, others) is not found
    assert log.boot_findings(replace(FACTS), asked) == found
    assert log.boot_findings(FACTS, asked) is found


def test_a_log_remembers_few_judgements_of_its_boot() -> None:
    log = judge_log(firmware_log(), (HashAlgorithm.SHA256,))
    for _ in range(100):
        log.boot_findings(replace(FACTS), rules("secure_boot = 96"))

    assert len(log.boots) <= 8


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("secure_bot = 96", "boot.secure_bot: unknown key; did you mean secure_boot"),
        ("secure_boot = 2", "boot.secure_boot.otherwise: 2 is affirming"),
        ("secure_boot = 0", "boot.secure_boot.otherwise: 0 is none"),
        ("secure_boot = true", "boot.secure_boot: wanted 96, or"),
        ("secure_boot = {}", "boot.secure_boot: is empty"),
        ('secure_boot = { state = "on" }', "boot.secure_boot.otherwise: wanted an AR4SI"),
        ('secure_boot = { state = "off", otherwise = 96 }', "boot.secure_boot.state: wanted on"),
        ("secure_boot = { otherwise = 96, missing = 2 }", "boot.secure_boot.missing: 2"),
        ("secure_boot = { otherwise = 96, met = 96 }", "boot.secure_boot.met: 96"),
        ('secure_boot = { otherwise = 96, claim = "hw" }', "boot.secure_boot.claim: wanted"),
        ("secure_boot = { otherwise = 96, sate = 1 }", "did you mean state"),
        ("setup_mode = { otherwise = 96 }", "boot.setup_mode.state: wanted on or off"),
        ("dbx = { otherwise = 32 }", "boot.dbx: asks nothing"),
        ("dbx = 32", "boot.dbx: wanted { at_least"),
        ("dbx = { entries = 0, otherwise = 32 }", "boot.dbx.entries: wanted an integer"),
        ("dbx = { entries = true, otherwise = 32 }", "boot.dbx.entries: wanted an integer"),
        ("dbx = { at_least = [], otherwise = 32 }", "boot.dbx.at_least: wanted a list"),
        ('dbx = { at_least = ["zz"], otherwise = 32 }', r"boot.dbx.at_least\[1\]: 'zz' is neither"),
        ('dbx = { at_least = ["aa"], otherwise = 32 }', r"boot.dbx.at_least\[1\]: 1 bytes"),
        ("dbx = { at_least = [7], otherwise = 32 }", r"boot.dbx.at_least\[1\]: wanted a text"),
        ("db = { otherwise = 32 }", "boot.db: asks nothing"),
        ("authorities = { otherwise = 32 }", "boot.authorities: asks nothing"),
        ("boot_applications = { otherwise = 96 }", "boot.boot_applications: asks nothing"),
        ("firmware = { otherwise = 96 }", "boot.firmware: asks nothing"),
        ("command_line = { otherwise = 96 }", "boot.command_line: asks nothing"),
        ('command_line = { required = ["a b"], otherwise = 96 }', r"required\[1\].*one word"),
        ('command_line = { required = ["a*b"], otherwise = 96 }', r"required\[1\].*one word"),
        ('command_line = { forbidden = ["*"], otherwise = 96 }', r"forbidden\[1\].*one word"),
        ("boot_order = { otherwise = 96 }", "boot.boot_order.allowed: wanted"),
        ("boot_order = { allowed = [[-1]], otherwise = 96 }", r"boot_order.allowed\[1\]"),
        ("boot_order = { allowed = [[65536]], otherwise = 96 }", r"boot_order.allowed\[1\]"),
        ("boot_order = { allowed = [3], otherwise = 96 }", r"boot_order.allowed\[1\]"),
        ("unknown_events = 2", "boot.unknown_events: 2 is affirming"),
        ("", "boot: is empty"),
    ],
)
def test_wrong_rule_is_refused_by_its_key_and_line(text: str, named: str) -> None:
    line = len(f"{GOOD}[boot]\n".splitlines()) + (1 if text else 0)

    with pytest.raises(Exception, match=named) as caught:
        rules(text)

    assert f"mine.toml, line {line}: " in str(caught.value)


def test_digests_may_be_called_by_name() -> None:
    text = f'{GOOD}[boot]\ndbx = {{ at_least = ["boothole"], otherwise = 32 }}\n'

    policy = load_policy(text, "mine.toml", {"boothole": frozenset({A, C})})

    assert policy.boot is not None
    (finding,) = judge_boot(FACTS, policy.boot)
    assert "1 of the 2" in finding.reason


def test_unknown_name_of_digests_suggests_the_nearest() -> None:
    text = f'{GOOD}[boot]\ndbx = {{ at_least = ["boothol"], otherwise = 32 }}\n'

    with pytest.raises(Exception, match="did you mean boothole"):
        load_policy(text, "mine.toml", {"boothole": frozenset({A})})
