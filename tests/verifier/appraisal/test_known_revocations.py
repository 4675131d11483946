"""The packaged revocation list is what real machines measured, and serves as a minimum of dbx."""

from __future__ import annotations

from pathlib import Path

import pytest

from attestation.algorithms import HashAlgorithm
from verifier.appraisal.boot_rules import judge_boot
from verifier.appraisal.policy_file import load_policy
from verifier.appraisal.replay_cache import judge_log
from verifier.sources import known_digests

DATA = Path(__file__).parents[2] / "data"
NAME = "uefi-dbx-20230501"
EXACT = (
    "keylime_keylime/create-mb-policy/binary_bios_measurements-secureboot",
    "google_go-tpm-tools/ubuntu-2404-amd-sevsnp.bin",
)
NEWER = (
    "google_go-tpm-tools/gdc-host.bin",
    "keylime_keylime/create-mb-policy/binary_bios_measurements",
    "keylime_rust-keylime/uefi_log.bin",
)
OLDER = (
    "google_go-eventlog/tpm/rhel8-uefi.bin",
    "immune-gmbh_guard-oss/bundle/latitude-7520/eventlog",
)
POLICY = f"""
id = "minimum/1"
description = "dbx alone"
[quote]
selection = "sha256:7"
[[pcrs]]
indices = [7]
claim = "configuration"
known = 2
unknown = 96
missing = 36
[boot.dbx]
at_least = ["{NAME}"]
otherwise = 32
"""


def measured(file: str) -> frozenset[bytes]:
    judged = judge_log((DATA / file).read_bytes(), (HashAlgorithm.SHA256,))
    facts = judged.boot_facts(HashAlgorithm.SHA256, frozenset(range(8)))
    return facts.databases["dbx"].value.hashes


@pytest.mark.parametrize("file", EXACT)
def test_the_list_is_what_machines_of_its_time_measured(file: str) -> None:
    assert measured(file) == known_digests()[NAME]


@pytest.mark.parametrize("file", NEWER)
def test_newer_lists_hold_all_of_it(file: str) -> None:
    assert measured(file) > known_digests()[NAME]


@pytest.mark.parametrize(
    ("file", "code", "value"),
    [(file, "boot-as-required", 0) for file in (*EXACT, *NEWER)]
    + [(file, "dbx-outdated", 32) for file in OLDER],
)
def test_a_policy_may_ask_for_it_by_name(file: str, code: str, value: int) -> None:
    policy = load_policy(POLICY, "minimum.toml", known_digests())
    judged = judge_log((DATA / file).read_bytes(), (HashAlgorithm.SHA256,))
    facts = judged.boot_facts(HashAlgorithm.SHA256, frozenset(range(8)))
    assert policy.boot is not None

    [found] = [one for one in judge_boot(facts, policy.boot) if one.rule == "boot.dbx"]

    assert (found.code, found.value) == (code, value)
