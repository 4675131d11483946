from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import LimitExceeded, MalformedInput
from attestation.logs.ima.template import ImaFile
from attestation.refusals import RefusalCode
from tests.simulators.soft_ima import PrivateKey, entry, field, ng, tagged
from verifier.reference_values.runtime_globs import MAX_PATTERNS, PathPatterns
from verifier.reference_values.runtime_learn import (
    compare_runtime_policies,
    learn_runtime_policy,
)
from verifier.reference_values.runtime_policy_file import (
    MAX_RUNTIME_POLICY_CHARS,
    load_runtime_policy,
)
from verifier.reference_values.runtime_rows import path_of, path_text

DATA = Path(__file__).parents[2] / "data"
REAL = DATA / "immune-gmbh_guard-oss" / "bundle" / "h12ssl" / "binary_runtime_measurements"
HEX = hashlib.sha256(b"x").hexdigest()
FILE = f"name = 'box'\nfiles = '''\nsha256:{HEX}  /bin/x\n'''\n"


def against(text: str, path: bytes, content: bytes, algorithm: str = "sha256") -> str | None:
    found = load_runtime_policy(text, "test").against(ImaFile(tagged(content, algorithm), path))
    return None if found is None else str(found.code)


def pem(key: PrivateKey | ed25519.Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_file_is_known_by_digest_and_path_together() -> None:
    assert against(FILE, b"/bin/x", b"x") is None
    assert against(FILE, b"/bin/y", b"x") == RefusalCode.IMA_FILE_UNKNOWN
    assert against(FILE, b"/bin/x", b"y") == RefusalCode.IMA_FILE_UNKNOWN
    assert against(FILE, b"/bin/x", b"x", "sha512") == RefusalCode.IMA_FILE_UNKNOWN


def test_digest_alone_is_known_under_any_path_and_a_denied_one_under_none() -> None:
    other = hashlib.sha256(b"y").hexdigest()
    text = f"name = 'box'\ndigests = '''\n# remark\nsha256:{HEX} tool\nsha256:{other}\n'''\n"

    assert against(text, b"/any/where", b"x") is None
    denied = f"{text}exclude = ['/any/**']\ndenied = '''\nsha256:{HEX} old\n'''"
    assert against(denied, b"/any/where", b"x") == RefusalCode.IMA_FILE_DENIED


def test_n37_listed_path_that_a_pattern_also_matches_must_have_its_listed_digest() -> None:
    text = f"{FILE}exclude = ['/bin/*']"

    assert against(text, b"/bin/other", b"anything") is None
    assert against(text, b"/bin/x", b"changed") == RefusalCode.IMA_FILE_UNKNOWN


MATCHES = {
    "/var/**": ([b"/var/x", b"/var/a/b", b"/var/\n"], [b"/var", b"/var/", b"/varx/y", b"/x/var/y"]),
    "/var/*": ([b"/var/x"], [b"/var/x/y", b"/var"]),
    "/var/*.log": ([b"/var/.log", b"/var/a.log.log"], [b"/var/a.log.1", b"/var/a/b.log"]),
    "/var/a*b*c": ([b"/var/abc", b"/var/axbybzc"], [b"/var/acb", b"/var/ab/c"]),
    "/var/?": ([b"/var/x"], [b"/var/xy", b"/var//", b"/var/"]),
    "/var/*/x": ([b"/var/a/x"], [b"/var/a/b/x", b"/var/x"]),
    "/var/a.c": ([b"/var/a.c"], [b"/var/abc"]),
    "/var/**x": ([], []),
}


@pytest.mark.parametrize("pattern", [one for one in MATCHES if MATCHES[one][0]])
def test_n37_patterns_match_whole_paths_only(pattern: str) -> None:
    patterns = PathPatterns([pattern])
    yes, no = MATCHES[pattern]

    assert [path for path in yes if not patterns.matches(path)] == []
    assert [path for path in no if patterns.matches(path)] == []


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/var/**", b"/var/../usr/bin/evil"),
        ("/var/**", b"/var/a/../../usr/bin/evil"),
        ("/var/**", b"/var/a/b/.."),
        ("/var/**", b"/var/.."),
        ("/var/*", b"/var/.."),
        ("/var/??", b"/var/.."),
        ("/var/a/*", b"/var/a/.."),
        ("/var/*/x", b"/var/../x"),
        ("/var/??/x", b"/var/../x"),
    ],
)
def test_n37_pattern_never_matches_a_path_that_steps_back(pattern: str, path: bytes) -> None:
    patterns = PathPatterns([pattern])

    assert not patterns.matches(path)
    assert patterns.matches(path.replace(b"..", b"xy"))


@pytest.mark.parametrize("path", [b"/var/..x", b"/var/x..", b"/var/...", b"/var/a..b/c"])
def test_n37_dots_within_a_name_step_nowhere(path: bytes) -> None:
    assert PathPatterns(["/var/**"]).matches(path)


@pytest.mark.parametrize(
    "pattern",
    ["/**", "**", "*", "/*/**", "/?/x", "/*", "", "var/x", "/var", "/var/", "/var//x", "/var/../x",
     "/var/**x", "/var/**/x", "/var/\n", "/var/" + "a" * 300, "/var/" + "*a" * 9],
)  # fmt: skip
def test_n37_pattern_that_would_match_too_much_is_refused(pattern: str) -> None:
    text = FILE + f"exclude = [{pattern!r}]" if "\n" not in pattern else FILE + 'exclude = ["\\n"]'

    with pytest.raises(MalformedInput, match="exclude") as refused:
        load_runtime_policy(text, "test")
    assert refused.value.code is RefusalCode.RUNTIME_POLICY_INVALID


def test_patterns_are_counted() -> None:
    with pytest.raises(ValueError, match="at most"):
        PathPatterns([f"/var/{number}" for number in range(MAX_PATTERNS + 1)])


@given(st.text("ab", max_size=40), st.text("ab*?", min_size=1, max_size=12))
def test_patterns_agree_with_a_plain_matcher(name: str, part: str) -> None:
    if part.count("*") > 8 or "**" in part:
        return

    def plain(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return any(plain(pattern[1:], text[at:]) for at in range(len(text) + 1))
        return bool(text) and pattern[0] in ("?", text[0]) and plain(pattern[1:], text[1:])

    short = name[:10]
    assert PathPatterns([f"/var/{part}"]).matches(f"/var/{short}".encode()) == plain(part, short)


BAD = {
    "": "line 1: name",
    "name = 'x'": "allows nothing",
    "name = 'x'\nexclude = ['/var/**']": "allows nothing",
    f"name = ''\ndigests = 'sha256:{HEX}'": "line 1: name",
    f"name = 'x'\ndigests = 'sha256:{HEX}'\nfile = ''": "line 3: file: unknown key",
    "name = 'x'\nfiles = '''\n\nsha256:00  /x\n'''": "line 4: files: a sha256 digest has 64",
    f"name = 'x'\nfiles = '''\nsha256:{HEX}\n'''": "line 3: files: a row has no path",
    f"name = 'x'\nfiles = '''\nsha256:{HEX}  /a\\b\n'''": "line 3: files: a backslash",
    f"name = 'x'\nfiles = '''\nsha256:{HEX}  /a\\x00\n'''": "line 3: files: a path holds NUL",
    f"name = 'x'\nfiles = '''\nsha256:{HEX}  boot_aggregate\n'''": "recomputed",
    f"name = 'x'\nfiles = '''\nmd6:{HEX}  /a\n'''": "is no digest",
    f"name = 'x'\nversion = 0\ndigests = 'sha256:{HEX}'": "line 2: version",
    "name = 'x'\ndigests = 7": "line 2: digests",
    "name = 'x'\n[[signers]]\nname = 'y'\npem = 'none'": "line 4: signers.pem",
    "name = 'x'\n[[signers]]\nkey = 'none'": "line 3: signers.key",
    "name = ": "not TOML",
}


@pytest.mark.parametrize("text", BAD)
def test_wrong_policy_is_refused_with_key_and_line(text: str) -> None:
    with pytest.raises(MalformedInput) as refused:
        load_runtime_policy(text, "box.toml")

    assert refused.value.code is RefusalCode.RUNTIME_POLICY_INVALID
    assert BAD[text] in refused.value.reason
    assert refused.value.reason.startswith("box.toml")


def test_weak_and_strange_signers_are_refused() -> None:
    for key in (
        rsa.generate_private_key(65537, 1024),  # noqa: S505 - the weak key under test
        ec.generate_private_key(ec.SECP192R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ):
        with pytest.raises(MalformedInput, match=r"signers\.pem"):
            load_runtime_policy(f"{FILE}[[signers]]\npem = '''{pem(key)}'''", "test")


def test_policy_above_the_size_limit_is_refused_unread() -> None:
    with pytest.raises(LimitExceeded):
        load_runtime_policy("#" * (MAX_RUNTIME_POLICY_CHARS + 1), "test")


def test_id_changes_with_the_text_even_if_the_version_does_not() -> None:
    first, second = (load_runtime_policy(text, "test") for text in (FILE, FILE + "# more\n"))

    assert first.id.startswith("box/1-")
    assert first.id != second.id


@given(st.binary(min_size=1, max_size=40))
def test_any_path_survives_the_text_form(path: bytes) -> None:
    text = path_text(path)

    assert text.isprintable()
    assert "'" not in text
    assert path_of(text, 0) == path


# --- learning -------------------------------------------------------------------------------------
def test_policy_learnt_from_a_real_list_knows_all_of_it_and_is_grouped_for_review() -> None:
    text = learn_runtime_policy("server", [("h12ssl", REAL.read_bytes())])

    policy = load_runtime_policy(text, "learnt")

    assert len(policy.known.entries) > 4500
    assert "# learnt from h12ssl: 5071 entries" in text
    assert "# 6 files changed while they were measured" in text
    assert "# 2 digests, it changed while this was learnt:" in text
    assert text == learn_runtime_policy("server", [("h12ssl", REAL.read_bytes())])


def test_nothing_is_learnt_from_a_list_of_the_boot_aggregate_alone() -> None:
    with pytest.raises(MalformedInput, match="no list measures a file") as refused:
        learn_runtime_policy("box", [("dull", entry(ng(b"boot_aggregate", b"x")))])

    assert refused.value.code is RefusalCode.IMA_LIST_MISSING


def test_hostile_names_in_a_list_cannot_break_out_of_the_learnt_text() -> None:
    evil = b"/x\n'''\nexclude = ['/usr/**']\n#"
    content = entry(ng(evil, b"x")) + entry(
        field(bytes(20)) + field(b"/y\n'''\0"), digest=bytes(20)
    )

    policy = load_runtime_policy(learn_runtime_policy('a"b', [("o\n", content)]), "learnt")

    assert (policy.name, policy.exclude.texts) == ('a"b', ())
    assert policy.against(ImaFile(tagged(b"x"), evil)) is None


def test_difference_of_two_policies_is_told_in_words_and_as_a_document() -> None:
    other = hashlib.sha256(b"y").hexdigest()
    second = (
        f"name = 'box'\nexclude = ['/var/**']\nfiles = '''\nsha256:{other}  /bin/x\n"
        f"sha256:{HEX}  /bin/new\n'''\ndenied = 'sha256:{other[::-1]}'\n"
    )
    first, after = (load_runtime_policy(text, "test") for text in (FILE, second))

    found = compare_runtime_policies(first, after)

    assert list(found.sentences()) == [
        f"newly allowed: /bin/new (sha256:{HEX})",
        f"changed: /bin/x, was sha256:{HEX}, now sha256:{other}",
        f"denied, new: sha256:{other[::-1]}",
        "left out, new: /var/**",
    ]
    assert found.document()["added"] == {"/bin/new": (f"sha256:{HEX}",)}
    assert not compare_runtime_policies(first, first)
