"""``verifier devices decommission`` and ``verifier agents decommission``."""

from __future__ import annotations

import json

import pytest

from tests.simulators.command_line import Run
from tests.verifier.cli.test_certificate_commands import database, run, store

__all__ = ["database", "run", "store"]

DATE = "2999-06-01T00:00:00.000Z"


def device(run: Run) -> object:
    return json.loads(run("devices", "show", "sn-0001", "--json")[1])["decommission_at"]


def agent(run: Run) -> object:
    return json.loads(run("agents", "show", "sn-0001", "planner", "--json")[1])["decommission_at"]


def test_date_of_a_device_is_set_shown_and_taken_back(run: Run) -> None:
    assert device(run) is None
    code, out, _ = run("devices", "decommission", "sn-0001", "--at", "2999-06-01")

    assert (code, out) == (0, f"sn-0001 ends at {DATE}\n")
    assert (device(run), agent(run)) == (DATE, None)
    assert f"decommission_at: {DATE}\n" in run("devices", "show", "sn-0001")[1]
    heading, row = (line.split("\t") for line in run("devices", "list")[1].splitlines())
    assert dict(zip(heading, row, strict=True))["ends"] == DATE
    (listed,) = json.loads(run("devices", "list", "--json")[1])
    assert listed["decommission_at"] == DATE

    code, out, _ = run("devices", "decommission", "sn-0001", "--never", "--json")
    assert (code, json.loads(out)) == (0, {"device_id": "sn-0001", "decommission_at": None})
    assert device(run) is None
    assert run("devices", "list")[1].splitlines()[1].endswith("\t-")


@pytest.mark.parametrize("words", [("sn-0001/planner",), ("sn-0001", "planner")])
def test_date_of_an_agent_is_set_shown_and_taken_back(run: Run, words: tuple[str, ...]) -> None:
    code, out, _ = run("agents", "decommission", *words, "--at", DATE, "--json")

    told = {"device_id": "sn-0001", "agent": "planner", "decommission_at": DATE}
    assert (code, json.loads(out)) == (0, told)
    assert (device(run), agent(run)) == (None, DATE)
    heading, row = (line.split("\t") for line in run("agents", "list", "sn-0001")[1].splitlines())
    assert dict(zip(heading, row, strict=True))["ends"] == DATE

    code, out, _ = run("agents", "decommission", *words, "--never")
    assert (code, out, agent(run)) == (0, "sn-0001/planner has no planned end\n", None)


def test_audit_holds_over_an_operators_word(run: Run) -> None:
    run("devices", "decommission", "sn-0001", "--at", "90d")

    code, out, _ = run("certificates", "audit", "--json")

    assert (code, json.loads(out)["entries"]) == (0, 3)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("devices", "decommission", "sn-0001"), "request-invalid"),
        (("devices", "decommission", "sn-0001", "--never", "--at", "7d"), "request-invalid"),
        (("devices", "decommission", "sn-0001", "--at", "2020-01-01"), "request-invalid"),
        (("devices", "decommission", "sn-0001", "--at", "2999-06-01T00:00"), "request-invalid"),
        (("devices", "decommission", "nobody", "--never"), "device-unknown"),
        (("agents", "decommission", "sn-0001", "--never"), "request-invalid"),
        (("agents", "decommission", "sn-0001/", "--never"), "request-invalid"),
        (("agents", "decommission", "sn-0001/planner", "x", "--never"), "request-invalid"),
        (("agents", "decommission", "sn-0001/nobody", "--never"), "agent-unknown"),
    ],
)
def test_word_that_cannot_be_followed_changes_nothing(
    run: Run, words: tuple[str, ...], code: str
) -> None:
    result, out, err = run(*words)

    assert (result != 0, out, err.split(":")[1].strip()) == (True, "", code)
    assert (device(run), agent(run)) == (None, None)


def test_revoked_device_gets_no_date(run: Run) -> None:
    run("devices", "revoke", "sn-0001")

    for words, code in (
        (("devices", "decommission", "sn-0001"), "device-revoked"),
        (("agents", "decommission", "sn-0001/planner"), "agent-revoked"),
    ):
        result, _, err = run(*words, "--at", "7d")
        assert (result != 0, code in err) == (True, True)
