"""What a manufacturing line remembers of the certificates that it took back."""

from __future__ import annotations

from datetime import timedelta

from tests.simulators.soft_factory import SoftUnit
from tests.verifier.issuance.factory_floor import owner_ca
from tests.verifier.services.test_manufacture import MAKER, Floor
from verifier.issuance import line
from verifier.issuance.line import LineRecord
from verifier.issuance.reasons import Reason
from verifier.services.line_revocation import LineRevocation


def revocation(floor: Floor) -> LineRevocation:
    return LineRevocation(issuer=owner_ca(), journal=floor.journal, clock=floor.clock)


def test_certificate_is_revoked_since_the_first_time_and_told_again_after_a_restart() -> None:
    floor = Floor()
    floor.make(SoftUnit("EB-77", MAKER))
    first = floor.clock.at
    revocation(floor).revoke("EB-77", Reason.SUPERSEDED)
    floor.clock.at += timedelta(days=1)
    revocation(floor).revoke("EB-77", Reason.KEY_COMPROMISE)

    told = revocation(floor).record.revoked.values()
    assert [(one.at, one.reason) for one in told] == [(first, Reason.KEY_COMPROMISE)] * 2


def test_what_is_revoked_already_is_not_written_again() -> None:
    floor = Floor()
    floor.make(SoftUnit("EB-77", MAKER))
    for _ in range(2):
        done = revocation(floor).revoke("EB-77", Reason.SUPERSEDED)

    assert (len(done.certificates), len(done.before)) == (0, 2)
    assert floor.journal.kinds().count(line.REVOKED) == 1


def test_entries_of_kinds_that_are_not_known_are_passed_over() -> None:
    floor = Floor()
    floor.journal.append("of-tomorrow", {"anything": 1}, floor.clock.at)

    assert floor.line().record.made == {}


def test_versions_without_revocation_can_read_its_entries() -> None:
    """They read ``request`` of every entry before they look at its kind."""
    floor = Floor()
    made = floor.make(SoftUnit("EB-77", MAKER)).made
    revocation(floor).revoke("EB-77", Reason.SUPERSEDED)
    revocation(floor).sign_list(timedelta(days=1))

    *_, revoked, listed = floor.journal.rows
    assert [row[2] for row in (revoked, listed)] == [line.REVOKED, line.LISTED]
    assert [bytes.fromhex(row[3]["request"]) for row in (revoked, listed)] == [b"", b""]
    record = LineRecord()
    record.apply(*floor.journal.rows[-3])
    assert not record.is_revoked(made)
    record.apply(*revoked)
    assert record.is_revoked(made)
