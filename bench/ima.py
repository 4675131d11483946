"""IMA lists: parse, template check, policy and replay in one pass, and how the cost grows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache, partial
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.logs.ima import parse_ima_list, replay_ima
from attestation.logs.ima.follow import Place, follow
from attestation.logs.ima.progress import RuntimeProgress
from attestation.logs.ima.template import NG, ng_data, sized
from attestation.pcr import PcrBanks
from attestation.reader import pack
from bench.measure import MICROSECONDS, Bench, Line, compare, held_to, seconds_per_call
from verifier.appraisal.runtime_ledger import Ledger
from verifier.reference_values.runtime_policy import RuntimePolicy
from verifier.reference_values.runtime_policy_file import load_runtime_policy

BUDGET_100K_S: Final = 0.15
_SIZES: Final = {"ima_1k_s": 1_000, "ima_10k_s": 10_000, "ima_100k_s": 100_000}
_DEVICES: Final = (1, 100, 10_000)
_POLICIES: Final = (1_000, 100_000, 400_000)
_NEW: Final = 10
_BANK: Final = HashAlgorithm.SHA256
_PCR: Final = 10


def _file(number: int) -> tuple[bytes, bytes]:
    """Return digest and path of one made-up file; paths are as long as those of a real list."""
    path = f"/usr/lib/python3/dist-packages/package{number % 500}/module{number}.py"
    return hashlib.sha256(path.encode()).digest(), path.encode()


@cache
def measured(count: int) -> bytes:
    """Return a binary ``ima-ng`` list of so many entries."""
    parts = []
    for number in range(count):
        digest, path = _file(number)
        data = ng_data(b"sha256:\0" + digest, path)
        head = pack("<I", _PCR) + HashAlgorithm.SHA1.digest(data) + sized(NG)
        parts.append(head + sized(data))
    return b"".join(parts)


@cache
def policy_text(count: int, *, paths: bool = True) -> str:
    """Return a runtime policy that allows so many files, by digest and path or by digest."""
    rows = []
    for number in range(count):
        digest, path = _file(number)
        rows.append(f"sha256:{digest.hex()}  {path.decode()}")
    return f"name = 'bench'\n{'files' if paths else 'digests'} = '''\n" + "\n".join(rows) + "\n'''"


@cache
def policy(count: int, *, paths: bool = True) -> RuntimePolicy:
    """Return that policy, compiled."""
    return load_runtime_policy(policy_text(count, paths=paths), "bench")


@cache
def _values(count: int) -> PcrBanks:
    return replay_ima(parse_ima_list(measured(count)), (_BANK,), start={}, padded=False)


def _prove(content: bytes, place: Place, chosen: RuntimePolicy) -> None:
    ledger = Ledger(chosen, place.quoted, None)
    followed = follow(content, place, _PCR, chosen.known, ledger)
    ledger.settle(followed.unquoted)
    if not followed.matched or ledger.counts:
        raise RuntimeError(f"the bench's own list is refused: {ledger.samples}")


def growth() -> Iterator[Line]:
    """Time whole lists; the policy lists every file in them."""
    chosen = policy(max(_SIZES.values()))
    for name, count in _SIZES.items():
        content = measured(count)
        place = Place(entries=0, start={}, quoted=_values(count), padded=False)
        seconds = seconds_per_call(lambda: _prove(content, place, chosen), total_s=3)  # noqa: B023
        if count == max(_SIZES.values()):
            yield held_to(name, seconds, "s", BUDGET_100K_S, "≤")
        else:
            yield Line(name=name, value=seconds, unit="s")
    _, _, ratio = compare(
        lambda: _prove(content, place, chosen), partial(_bare_hashes, count), total_s=5
    )
    yield Line(
        name="ima_100k_vs_hashing",
        value=ratio,
        unit="ratio",
        vs="two SHA-256 for each entry, in a bare loop",
        ratio=ratio,
    )


def _bare_hashes(count: int) -> bytes:
    """Hash every entry's data and extend: what any verifier without memory must do."""
    value = bytes(_BANK.size)
    for data in _datas(count):
        value = hashlib.sha256(value + hashlib.sha256(data).digest()).digest()
    return value


@cache
def _datas(count: int) -> list[bytes]:
    return [ng_data(b"sha256:\0" + digest, path) for digest, path in map(_file, range(count))]


def by_digest() -> Iterator[Line]:
    """Time the longest list against a policy of digests without paths."""
    count = max(_SIZES.values())
    content, chosen = measured(count), policy(count, paths=False)
    place = Place(entries=0, start={}, quoted=_values(count), padded=False)
    seconds = seconds_per_call(lambda: _prove(content, place, chosen), total_s=3)
    yield held_to("ima_100k_by_digest_s", seconds, "s", BUDGET_100K_S, "≤")


def fleet() -> Iterator[Line]:
    """Time one device's few new entries while so many devices share one policy."""
    before, after = measured(1_000), measured(1_000 + _NEW)
    content = after[len(before) :]
    chosen = policy(_POLICIES[1])
    for devices in _DEVICES:
        known = [
            RuntimeProgress(reset_count=number, entries=1_000, pcrs=_values(1_000), padded=False)
            for number in range(devices)
        ]

        def round_of(known: list[RuntimeProgress] = known) -> None:
            for one in known:
                place = Place(
                    entries=one.entries,
                    start=one.pcrs,
                    quoted=_values(1_000 + _NEW),
                    padded=bool(one.padded),
                )
                _prove(content, place, chosen)

        value = seconds_per_call(round_of) / devices * MICROSECONDS
        yield Line(name=f"ima_{_NEW}_new_{devices}_devices_us", value=value, unit="us")


def policy_size() -> Iterator[Line]:
    """Time one list against small and large policies."""
    content = measured(1_000)
    place = Place(entries=0, start={}, quoted=_values(1_000), padded=False)
    for count in _POLICIES:
        chosen = policy(count)
        seconds = seconds_per_call(lambda: _prove(content, place, chosen))  # noqa: B023
        yield Line(
            name=f"ima_1k_policy_{count // 1000}k_us", value=seconds * MICROSECONDS, unit="us"
        )


def policy_load() -> Iterator[Line]:
    """Time the compilation of a policy of a hundred thousand files."""
    text = policy_text(_POLICIES[1])
    seconds = seconds_per_call(lambda: load_runtime_policy(text, "bench"), total_s=3)
    yield Line(name="ima_policy_load_100k_s", value=seconds, unit="s")


BENCHES = (
    Bench(names=(*_SIZES, "ima_100k_vs_hashing"), run=growth),
    Bench(names=("ima_100k_by_digest_s",), run=by_digest),
    Bench(names=tuple(f"ima_{_NEW}_new_{count}_devices_us" for count in _DEVICES), run=fleet),
    Bench(
        names=tuple(f"ima_1k_policy_{count // 1000}k_us" for count in _POLICIES), run=policy_size
    ),
    Bench(names=("ima_policy_load_100k_s",), run=policy_load),
)
