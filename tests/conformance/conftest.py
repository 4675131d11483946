"""The verifier that the ``http`` cases speak to is stopped when they are done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.run import site


@pytest.fixture(scope="session", autouse=True)
def verifier_stops_in_the_end() -> Iterator[None]:
    yield
    site.close()
