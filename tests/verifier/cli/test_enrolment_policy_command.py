"""``verifier enrolment-policy``, and what a policy names: read, or refused with file and line."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.simulators.command_line import Run, runner
from tests.simulators.soft_cloud import SoftAws
from tests.simulators.trust_yard import TrustYard, policy_text
from verifier.errors import SettingsInvalid
from verifier.settings import load_settings
from verifier.sources import enrolment_rules_named, load_anchors

PROOFS = 'proofs = ["pop", "residency", "evidence"]'


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> TrustYard:
    return TrustYard(tmp_path_factory.mktemp("yard"))


@pytest.fixture
def run(yard: TrustYard, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    def run_command(*arguments: str) -> tuple[int, str, str]:
        return runner(monkeypatch, capfd, "-c", yard.site.config)(*arguments)

    return run_command


@pytest.fixture
def policy(yard: TrustYard, tmp_path: Path) -> Path:
    """A copy of the policy and of everything that it names, to be spoilt."""
    shutil.copytree(yard.policy.parent, tmp_path / "copy")
    return tmp_path / "copy" / yard.policy.name


def test_policy_in_use_is_shown_with_what_it_rests_on(run: Run) -> None:
    code, shown, _ = run("enrolment-policy", "show")

    assert code == 0
    assert "tpm-ek: 1 TPM makers' roots, 0 intermediates" in shown
    assert "ek-allow-list: 2 endorsement keys" in shown
    assert "aws-iid: regions eu-central-1, us-east-1; accounts 123456789012" in shown
    assert "azure-msi: 1 keys" in shown
    assert "devices without a TLS client certificate may ask to enrol" in shown
    assert "shut\tserial SHUT-*\tnobody\t" in shown


def test_policy_is_shown_as_json(run: Run) -> None:
    code, shown, _ = run("enrolment-policy", "show", "--json")

    document = json.loads(shown)
    assert (code, document["id"], document["without_certificate"]) == (0, "yard", True)
    (both,) = [one for one in document["devices"] if one["class"] == "both"]
    assert both["initial_trust"] == "idevid AND tpm-ek"
    assert both["proofs"] == ["evidence", "pop", "residency"]


def test_packaged_policy_is_listed_and_shown_by_its_name(run: Run) -> None:
    code, listed, _ = run("enrolment-policy", "list")

    assert (code, listed.splitlines()[1]) == (0, "enrolment-default\t\tdefault")
    assert run("enrolment-policy", "show", "enrolment-default")[0] == 0


def test_policy_in_use_is_checked(run: Run) -> None:
    assert run("enrolment-policy", "check")[0] == 0
    _, checked, _ = run("check", "--json")
    (line,) = [one for one in json.loads(checked) if one["name"] == "enrolment policy"]
    assert (line["verdict"], line["reason"][:4]) == ("ok", "yard")


def test_class_that_a_cloud_alone_would_satisfy_is_refused_with_its_line(
    run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "cloudy.toml"
    file.write_text(
        'id = "x"\n[[device]]\nclass = "a"\ninitial_trust = "aws-iid OR idevid"\n' + PROOFS
    )

    code, _, error = run("enrolment-policy", "check", str(file))

    assert code != 0
    assert f"{file}, line 4" in error
    assert "never enough" in error


FAULTS = {
    "ek.allow_list": ("eks.txt", b"abc\n", "eks.txt, line 1"),
    "ek.allow_list ": ("eks.txt", b"# nobody\n", "the list is empty"),
    "ek.roots[1]": ("maker-of-tpms.pem", b"no certificate", "maker-of-tpms.pem"),
    "aws.certificates.eu-central-1": ("aws.pem", b"no certificate", "no PEM text"),
    "azure.jwks": ("azure.json", b"[]", "no JSON object"),
    "azure.jwks ": ("azure.json", b'{"keys": []}', "no RSA signature key"),
}


@pytest.mark.parametrize("key", FAULTS)
def test_file_that_cannot_be_used_is_named_with_key_and_line(policy: Path, key: str) -> None:
    name, content, told = FAULTS[key]
    (policy.parent / name).write_bytes(content)

    with pytest.raises(SettingsInvalid) as caught:
        enrolment_rules_named(str(policy), "policy.enrolment ")

    text = policy.read_text().splitlines()
    line = int(caught.value.reason.partition("line ")[2].partition(":")[0])
    last = key.strip().rpartition(".")[2].partition("[")[0]
    assert last in text[line - 1]
    assert key.strip() in caught.value.reason
    assert told in caught.value.reason


@pytest.mark.parametrize("name", ["eks.txt", "maker-of-tpms.pem", "aws.pem", "azure.json"])
def test_file_that_is_not_there_is_named(policy: Path, name: str) -> None:
    (policy.parent / name).unlink()

    with pytest.raises(SettingsInvalid, match=f"{name}: No such file"):
        enrolment_rules_named(str(policy), "policy.enrolment ")


def test_weak_key_of_a_cloud_is_refused(policy: Path) -> None:
    weak = SoftAws(5, bits=1024).certificate.public_bytes(Encoding.PEM)
    (policy.parent / "aws.pem").write_bytes(weak)

    with pytest.raises(SettingsInvalid, match="2048 bits"):
        enrolment_rules_named(str(policy), "policy.enrolment ")


def test_policy_that_is_not_there_names_the_packaged_ones(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"enrolment-default\) nor a readable file"):
        enrolment_rules_named(str(tmp_path / "none.toml"), "policy.enrolment ")


def test_what_no_class_names_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(policy_text({"a": ("*", "idevid", PROOFS)}))

    sources = enrolment_rules_named(str(tmp_path / "policy.toml")).sources

    assert (sources.ek_roots, sources.aws, sources.azure) == (None, None, None)
    assert sources.listed_eks == frozenset()


def test_no_manufacturer_is_needed_where_no_class_rests_on_one(policy: Path) -> None:
    policy.write_text(policy_text({"a": ("*", "tpm-ek", PROOFS)}))
    settings = load_settings(f'[policy]\nenrolment = "{policy}"\n', "verifier.toml", {})

    anchors = load_anchors(settings)

    assert anchors.certificates == ()
    assert anchors.endorsers
    both = {"a": ("*", "tpm-ek", PROOFS), "b": ("B-*", "idevid AND tpm-ek", PROOFS)}
    policy.write_text(policy_text(both))
    with pytest.raises(SettingsInvalid, match="no trust anchor is configured"):
        load_anchors(settings)


def test_packaged_makers_are_believed_beside_the_owners_own(yard: TrustYard, policy: Path) -> None:
    text = policy.read_text()
    policy.write_text(text.replace("packaged_roots = false", "packaged_roots = true"))

    roots = enrolment_rules_named(str(policy), "policy.enrolment ").sources.ek_roots

    assert roots is not None
    assert len(roots.roots) > 10
    assert hashlib.sha256(yard.tpm_maker.der).digest() in {one.sha256 for one in roots.roots}
