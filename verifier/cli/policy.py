"""``verifier policy show`` and ``verifier policy check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verifier.appraisal.policy_file import load_policy
from verifier.appraisal.policy_model import AppraisalPolicy
from verifier.cli import context, output
from verifier.cli.context import Json
from verifier.cli.reference_values import read_text
from verifier.sources import load_appraisal_policy

# The wiring behind a command (store, HTTP, policy engine) is imported inside it: the other commands
# must not pay for it.
# ruff: noqa: PLC0415

policy = typer.Typer(no_args_is_help=True, help="How evidence is judged.")


def _document(chosen: AppraisalPolicy) -> dict[str, object]:
    return {
        "id": chosen.id,
        "description": chosen.description,
        "pcr_selection": chosen.selection_text,
        "result_lifetime_s": chosen.result_lifetime.total_seconds(),
        "attest_interval_s": chosen.attest_interval.total_seconds(),
        "nonce_ttl_s": chosen.nonce_ttl.total_seconds(),
        "check_event_contents": chosen.check_event_contents,
        "rules": [
            {
                "pcrs": list(rule.indices),
                "claim": rule.claim.value,
                "known": rule.known,
                "unknown": rule.unknown,
                "missing": rule.missing,
                "match": rule.match.value,
                "coverage": rule.coverage.value,
            }
            for rule in chosen.rules
        ],
    }


def _tell(chosen: AppraisalPolicy, *, as_json: bool) -> None:
    document = _document(chosen)
    if as_json:
        output.say_json(document)
        return
    for name, value in document.items():
        if name != "rules":
            output.say(f"{name}: {value}")
    rows = [
        (
            ",".join(str(pcr) for pcr in rule.indices),
            rule.claim.value,
            rule.known,
            rule.unknown,
            rule.missing,
            rule.coverage.value,
        )
        for rule in chosen.rules
    ]
    output.say_table(("pcrs", "claim", "known", "unknown", "missing", "coverage"), rows)


@policy.command()
def show(*, as_json: Json = False) -> None:
    """Show the appraisal policy in use."""
    _tell(load_appraisal_policy(context.settings()), as_json=as_json)


@policy.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="TOML; default: the policies in use.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Check an appraisal policy file, or both policies in use."""
    if file is not None:
        chosen = load_policy(read_text(file), str(file))
    else:
        settings = context.settings()
        chosen = load_appraisal_policy(settings)
        from verifier.main import load_engine

        load_engine(settings)
    _tell(chosen, as_json=as_json)
