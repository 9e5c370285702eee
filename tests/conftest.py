"""What every test shares: how property tests look for examples, a PostgreSQL server."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests import postgres

# The same examples at every run: a check that holds today holds tomorrow, on a slow machine too.
settings.register_profile("steady", deadline=None, derandomize=True)
# New examples at every run, and many of them: for looking for bugs by hand (`just explore`).
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture
def postgres_server() -> postgres.PostgresServer:
    """The run's own PostgreSQL server, running; made when the first test asks for it."""
    if reason := postgres.missing():
        pytest.skip(reason)
    return postgres.shared()


def pytest_sessionfinish() -> None:
    postgres.close_shared()
