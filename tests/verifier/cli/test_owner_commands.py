"""``verifier owners`` and ``verifier agents``, run as an operator and an owner run them."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from attestation.wire.owner_binding import (
    BindingRequest,
    binding_request_text,
    verify_binding,
)
from tests.simulators.command_line import Run, runner
from tests.simulators.soft_ai_agent import SoftAgentKey, SoftOwner
from verifier.ports import DocumentKind
from verifier.services.reference_documents import ReferenceDocuments
from verifier.store.migrate import migrate
from verifier.store.sql_store import open_store

NAME = "mailto:owner@fleet.example"


@pytest.fixture
def url(tmp_path: Path) -> str:
    made = f"sqlite:///{tmp_path / 'verifier.sqlite'}"
    migrate(made)
    return made


@pytest.fixture
def run(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    config = tmp_path / "verifier.toml"
    config.write_text(f'[store]\nurl = "{url}"\n')
    return runner(monkeypatch, capfd, "-c", config)


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    path = tmp_path / "owner.pub.pem"
    path.write_text(SoftOwner().pem)
    return path


def private(
    folder: Path,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    how: KeySerializationEncryption | None = None,
) -> Path:
    path = folder / "owner.key.pem"
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how or NoEncryption()))
    return path


def request_file(folder: Path, agent: SoftAgentKey, *scope: str) -> Path:
    path = folder / "planner.json"
    path.write_text(
        binding_request_text(
            BindingRequest(
                holder="spiffe://fleet.example/device/box/agent/planner",
                thumbprint=agent.thumbprint,
                scope=scope or ("calendar.read", "mail.send"),
                nonce=b"challenge",
            )
        )
    )
    return path


def test_owner_is_added_listed_and_removed(run: Run, pem: Path) -> None:
    assert run("owners", "add", NAME, pem, "--scope", "mail.send,calendar.read")[0] == 0

    code, out, _ = run("owners", "list", "--json")

    (told,) = json.loads(out)
    assert (code, told["name"], told["scope"]) == (0, NAME, ["calendar.read", "mail.send"])
    assert told["usable"]
    assert len(told["key"]) == 43
    assert NAME in run("owners", "list")[1]
    assert run("owners", "remove", NAME)[0] == 0
    assert json.loads(run("owners", "list", "--json")[1]) == []
    code, _, err = run("owners", "remove", NAME)
    assert (code, err.split(":")[1].strip()) == (1, "owner-unknown")


def test_owner_without_bound_and_with_an_empty_one_are_two_things(run: Run, pem: Path) -> None:
    assert "whatever policies allow" in run("owners", "add", NAME, pem)[1]
    assert "nothing" in run("owners", "add", NAME, pem, "--scope", "")[1]
    (told,) = json.loads(run("owners", "list", "--json")[1])
    assert told["scope"] == []


def test_owner_whose_document_is_damaged_is_told_and_counts_for_nothing(run: Run, url: str) -> None:
    documents = ReferenceDocuments(open_store(url, with_outbox=False))
    documents.put(DocumentKind.OWNER, NAME, "{}", datetime.now(UTC))

    (told,) = json.loads(run("owners", "list", "--json")[1])

    assert told["usable"] is False
    assert "add it again" in run("owners", "list")[1]


@pytest.mark.parametrize(
    ("name", "content", "more", "code"),
    [
        ("two words", None, (), "owner-binding-malformed"),
        ("", None, (), "owner-binding-malformed"),
        (NAME, "nonsense", (), "key-malformed"),
        ("x" * 129, None, (), "request-invalid"),
        (NAME, None, ("--scope", "a b"), "capability-invalid"),
    ],
)
def test_what_is_no_owner_is_refused(
    run: Run, pem: Path, name: str, content: str | None, more: tuple[str, ...], code: str
) -> None:
    if content is not None:
        pem.write_text(content)
    result, _, err = run("owners", "add", name, pem, *more)
    assert (result, err.split(":")[1].strip()) == (2, code)
    assert json.loads(run("owners", "list", "--json")[1]) == []


def test_owner_signs_what_the_verifier_takes(run: Run, tmp_path: Path) -> None:
    agent, owner = SoftAgentKey(), SoftOwner()
    key, request = private(tmp_path, owner.key), request_file(tmp_path, agent)

    code, out, err = run(
        "owners", "bind", request, "--key", key, "--owner", NAME, "--expires", "30d", "--json"
    )

    assert code == 0, err
    told = json.loads(out)
    binding = verify_binding(
        Path(told["file"]).read_text().strip(),
        owner.key.public_key(),
        agent_thumbprint=agent.thumbprint,
        at=datetime.now(UTC),
    )
    assert (binding.owner, binding.scope) == (NAME, ("calendar.read", "mail.send"))
    assert binding.nonce == b"challenge"
    assert abs(binding.expires_at - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)


def test_owner_may_give_less_and_is_told_so(run: Run, tmp_path: Path) -> None:
    key, request = private(tmp_path, SoftOwner().key), request_file(tmp_path, SoftAgentKey())

    code, out, _ = run(
        *("owners", "bind", request, "--key", key, "--owner", NAME, "--expires", "1h"),
        *("--scope", "mail.send", "--out", tmp_path / "less.jws"),
    )

    assert code == 0
    assert "not with calendar.read" in out
    assert (tmp_path / "less.jws").exists()


def test_encrypted_key_is_read_with_its_passphrase(run: Run, tmp_path: Path) -> None:
    secret = b"correct horse battery staple"
    key = private(tmp_path, SoftOwner().key, BestAvailableEncryption(secret))
    words = (
        *("owners", "bind", request_file(tmp_path, SoftAgentKey()), "--key", key),
        *("--owner", NAME, "--expires", "1h"),
    )
    passphrase = tmp_path / "passphrase"
    passphrase.touch(mode=0o600)
    passphrase.write_bytes(secret + b"\n")

    assert run(*words)[0] == 2
    assert run(*words, "--passphrase-file", passphrase)[0] == 0
    passphrase.write_bytes(b"another passphrase here\n")
    code, out, err = run(*words, "--passphrase-file", passphrase)
    assert (code, "another" in out + err) == (2, False)


def test_key_that_others_may_read_is_not_used(run: Run, tmp_path: Path) -> None:
    key = private(tmp_path, SoftOwner().key)
    key.chmod(0o640)

    code, _, err = run(
        *("owners", "bind", request_file(tmp_path, SoftAgentKey()), "--key", key),
        *("--owner", NAME, "--expires", "1h"),
    )

    assert (code, "ca-key-exposed" in err, "chmod 600" in err) == (2, True, True)
    assert not (tmp_path / "planner.jws").exists()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("--expires", "yesterday"), "request-invalid"),
        (("--expires", "2020-01-01"), "request-invalid"),
        (("--owner", "two words"), "owner-binding-malformed"),
        (("--scope", "b\\"), "capability-invalid"),
        (("--key", "/nowhere"), "request-invalid"),
    ],
)
def test_nothing_is_signed_that_does_not_hold(
    run: Run, tmp_path: Path, change: tuple[str, str], code: str
) -> None:
    words = {
        "--key": str(private(tmp_path, SoftOwner().key)),
        "--owner": NAME,
        "--expires": "1h",
        change[0]: change[1],
    }
    request = request_file(tmp_path, SoftAgentKey())

    result, _, err = run(
        "owners", "bind", request, *(word for pair in words.items() for word in pair)
    )

    assert (result, err.split(":")[1].strip()) == (2, code)
    assert not (tmp_path / "planner.jws").exists()


def test_other_keys_and_other_files_are_not_signed_with(run: Run, tmp_path: Path) -> None:
    weak = private(tmp_path, rsa.generate_private_key(65537, 2048))
    request = request_file(tmp_path, SoftAgentKey())
    tail = ("--owner", NAME, "--expires", "1h")
    assert "key-too-weak" in run("owners", "bind", request, "--key", weak, *tail)[2]
    weak.write_text("nonsense")
    assert "key-malformed" in run("owners", "bind", request, "--key", weak, *tail)[2]
    request.write_text("{}")
    assert "owner-binding-malformed" in run("owners", "bind", request, "--key", weak, *tail)[2]


def test_key_made_by_openssl_is_taken(run: Run, tmp_path: Path) -> None:
    """As docs/agents.md tells owners to make one."""
    key = tmp_path / "owner.key.pem"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-out", str(key)],
        check=True, capture_output=True,
    )  # fmt: skip
    public = tmp_path / "owner.pub.pem"
    subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout", "-out", str(public)], check=True)
    key.chmod(0o600)

    assert run("owners", "add", NAME, public)[0] == 0
    assert (
        run(
            *("owners", "bind", request_file(tmp_path, SoftAgentKey()), "--key", key),
            *("--owner", NAME, "--expires", "7d"),
        )[0]
        == 0
    )


def test_agents_of_a_device_that_is_not_there(run: Run) -> None:
    for words in (("list", "box"), ("show", "box", "planner"), ("revoke", "box", "planner")):
        code, _, err = run("agents", *words)
        assert code == 1
        assert "device-unknown" in err or "agent-unknown" in err
