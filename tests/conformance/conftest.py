"""The verifier that the ``http`` cases speak to is stopped when they are done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.run import site


@pytest.fixture(scope="package", autouse=True)
def verifier_stops_in_the_end() -> Iterator[None]:
    """No thread of it is left to write between the lines of the tests that come after."""
    yield
    site.close()
