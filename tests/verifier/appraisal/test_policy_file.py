"""Appraisal policies: what ships, and what is refused by the name of its key."""

from __future__ import annotations

import pytest

from attestation.errors import InputError
from attestation.refusals import RefusalCode as Code
from tests.verifier.appraisal.courtroom import shipped_policy
from verifier.appraisal.boot_key_checks import AuthoritiesRule
from verifier.appraisal.policy import load_policy
from verifier.appraisal.policy_file import load_names
from verifier.sources import known_digests, packaged_policies

GOOD = """
id = "mine/1"
description = "mine"
[quote]
selection = "sha256:0,4"
[log]
separators = true
[lifetimes]
result_s = 300
[[pcrs]]
indices = [0, 4]
claim = "hardware"
known = 2
unknown = 96
missing = 33
"""


@pytest.mark.parametrize("name", packaged_policies())
def test_shipped_policy_loads_under_its_own_name(name: str) -> None:
    policy = shipped_policy(name)

    assert policy.id == f"{name}/1"
    assert set(policy.selections[0].indices) >= {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14}
    assert policy.boot is not None


def test_three_policies_are_shipped_and_no_other_file_passes_for_one() -> None:
    assert packaged_policies() == ("development", "linux-edge-ima", "linux-server")


def test_known_digests_are_certificates_and_revocation_lists() -> None:
    known = known_digests()
    assert "microsoft-uefi-ca-2011" in known
    assert {name for name, digests in known.items() if len(digests) != 1} == {"uefi-dbx-20230501"}


def test_policy_may_name_digests_of_its_own() -> None:
    text = (
        GOOD
        + """
[names]
mine = ["%s"]
[boot]
authorities = { allowed = ["mine", "shared"], otherwise = 96 }
"""
        % ("ab" * 32)
    )

    policy = load_policy(text, "mine.toml", {"shared": frozenset({b"c" * 32})})

    assert policy.boot is not None
    (rule,) = policy.boot.rules
    assert isinstance(rule, AuthoritiesRule)
    assert rule.allowed == {b"\xab" * 32, b"c" * 32}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = ", "x.toml: not TOML"),
        ('a = "ab"', "x.toml, line 1: a: wanted a list"),
        ('b = ["ab"]', r"x.toml, line 1: b\[1\]: 1 bytes"),
    ],
)
def test_wrong_file_of_names_is_refused_by_its_line(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_names(text, "x.toml")


def test_policy_loads_with_defaults() -> None:
    policy = load_policy(GOOD, "mine.toml")

    assert (policy.result_lifetime.total_seconds(), policy.nonce_ttl.total_seconds()) == (300, 120)
    assert policy.by_pcr[4].contradicted == 96


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("[quote]", "colour = 1\n[quote]", "colour"),
        ("[log]", "[log]\nverify = false", "log.verify"),
        ("[lifetimes]", "[lifetimes]\nforever = true", "lifetimes.forever"),
        ("known = 2", "known = 2\nhint = 1", r"pcrs\[1\].hint"),
        ('id = "mine/1"', "", "id"),
        ('id = "mine/1"', 'id = " "', "id"),
        ('selection = "sha256:0,4"', "", "line 4: quote: is empty"),
        ('"sha256:0,4"', '"sha256:0,4,5"', "PCR 5"),
        ('"sha256:0,4"', '"sha256:0"', "PCR 4"),
        ('"sha256:0,4"', '"sha1:0,4"', "SHA-1"),
        ('"sha256:0,4"', '"sha256:0,4+sha256:0,4"', "twice"),
        ('"sha256:0,4"', '"sha256:"', "sha256:"),
        ('"sha256:0,4"', '"md5:0,4"', "md5"),
        ("indices = [0, 4]", "indices = [0, 4, 4]", "two rules"),
        ("indices = [0, 4]", "indices = []", "PCR 0"),
        ("indices = [0, 4]", 'indices = ["0"]', "indices"),
        ("indices = [0, 4]", "indices = [true]", "indices"),
        ('"hardware"', '"hardwear"', "claim"),
        ("known = 2", "known = 33", r"pcrs\[1\].known"),
        ("known = 2", "known = 0", r"pcrs\[1\].known"),
        ("unknown = 96", "unknown = 2", r"pcrs\[1\].unknown"),
        ("unknown = 96", "unknown = 0", r"pcrs\[1\].unknown"),
        ("unknown = 96", "unknown = 128", r"pcrs\[1\].unknown"),
        ("unknown = 96", "unknown = true", r"pcrs\[1\].unknown"),
        ("missing = 33", "", r"pcrs\[1\].missing"),
        ("missing = 33", "missing = 3", r"pcrs\[1\].missing"),
        ("missing = 33", "missing = 33\ncontradicted = 2", r"pcrs\[1\].contradicted"),
        ("missing = 33", 'missing = 33\nmatch = "path"', "match"),
        ("missing = 33", 'missing = 33\ncoverage = "none"', "coverage"),
        ("separators = true", 'separators = "yes"', "separators"),
        ("result_s = 300", "result_s = 0", "result_s"),
        ("result_s = 300", "result_s = -1", "result_s"),
        ("result_s = 300", "result_s = inf", "result_s"),
        ("result_s = 300", "result_s = nan", "result_s"),
        ("result_s = 300", "result_s = true", "result_s"),
        ("[[pcrs]]", "[pcrs]", "pcrs"),
        ("[log]", "[reference]\nunreviewed = 2\n[log]", "line 7: reference.unreviewed: 2 is aff"),
        ("[log]", "[reference]\nunreviewed = 'no'\n[log]", "reference.unreviewed: wanted"),
        ("[log]", "[reference]\nreviewed = 32\n[log]", "did you mean unreviewed"),
        (
            "[log]",
            "[ima]\npolicy = 'x'\n[log]",
            "line 6: ima.pcr: quote.selection does not select PCR 10",
        ),
        (
            "[log]",
            "[agent]\npcr = 13\n[log]",
            "line 7: agent.pcr: quote.selection does not select PCR 13",
        ),
        ("[log]", "[loog]", "loog: unknown key; did you mean log"),
        ("[log]", "[ima]\n[log]", "line 6: ima: is empty"),
        ("[log]", "[agent]\n[log]", "line 6: agent: is empty"),
        ("[log]", "[boot]\n[log]", "line 6: boot: is empty"),
        ("known = 2", "known = 33", r"line 13: pcrs\[1\].known: 33 is warning"),
        ("[quote]", "[quote", "not TOML"),
    ],
)
def test_wrong_policy_is_refused_by_the_name_of_its_key(old: str, new: str, named: str) -> None:
    assert old in GOOD

    with pytest.raises(InputError, match=named) as caught:
        load_policy(GOOD.replace(old, new), "mine.toml")

    assert caught.value.code is Code.POLICY_INVALID
    assert "mine.toml" in caught.value.reason


@pytest.mark.parametrize("text", ["", "# nothing\n", 'id = "x"\ndescription = "x"\n'])
def test_empty_policy_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        load_policy(text, "empty.toml")

    assert caught.value.code is Code.POLICY_INVALID


LISTED = """
id = "edge/1"
description = "the kernel measures"
[quote]
selection = "sha256:0,10,11,13"
[ima]
policy = "edge"
[[pcrs]]
indices = [0, 13]
claim = "hardware"
known = 2
unknown = 96
missing = 33
[[pcrs]]
indices = [10, 11]
claim = "executables"
known = 2
unknown = 96
missing = 33
match = "log"
"""
RULE = 'policy = "edge"\n'


def test_policy_names_every_pcr_that_the_list_extends() -> None:
    named = load_policy(LISTED.replace(RULE, f"{RULE}other_pcrs = [13, 11]\n"), "edge.toml").runtime
    other = load_policy(LISTED.replace(RULE, f"{RULE}pcr = 11\nother_pcrs = [10]\n"), "edge.toml")

    assert named is not None
    assert named.pcrs == (10, 11, 13)
    assert other.runtime is not None
    assert other.runtime.pcrs == (11, 10)


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        ("pcr = 11", r"line 21: pcrs\[2\].match: Linux extends PCR 10 with IMA entries"),
        ("other_pcrs = [12]", "line 8: ima.other_pcrs: quote.selection does not select PCR 12"),
        ("other_pcrs = [10]", "line 8: ima.other_pcrs: PCR 10 is named twice"),
        ("other_pcrs = [11, 11]", "line 8: ima.other_pcrs: PCR 11 is named twice"),
        ("other_pcrs = [9]", "line 8: ima.other_pcrs: wanted PCRs from 10 to 15"),
        ("other_pcrs = [16]", "line 8: ima.other_pcrs: wanted PCRs from 10 to 15"),
        ("other_pcrs = [true]", "line 8: ima.other_pcrs: wanted PCRs"),
        ("other_pcrs = ['11']", "line 8: ima.other_pcrs: wanted PCRs"),
        ("other_pcrs = []", "line 8: ima.other_pcrs: wanted a list of PCR numbers that is not"),
        ("other_pcrs = 11", "line 8: ima.other_pcrs: wanted a list of PCR numbers"),
        ("other_pcrs = [13]\n[agent]\npcr = 13", "line 10: agent.pcr: PCR 13 is the IMA list's"),
        ("pcr = 13\nother_pcrs = [10]\n[agent]\npcr = 13", "line 11: agent.pcr: PCR 13 is the"),
    ],
)
def test_policy_in_which_another_log_could_tell_the_entries_of_the_list_is_refused(
    rule: str, named: str
) -> None:
    with pytest.raises(InputError, match=named) as caught:
        load_policy(LISTED.replace(RULE, f"{RULE}{rule}\n"), "edge.toml")

    assert caught.value.code is Code.POLICY_INVALID
