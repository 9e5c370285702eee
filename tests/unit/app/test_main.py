"""What a start brings into memory, and what it does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIBRARIES = {"trio", "sqlalchemy", "quart", "hypercorn", "dns", "cryptography"}


def imported_by(module: str) -> set[str]:
    listing = f"import sys, {module}; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", listing], check=True, capture_output=True, text=True, timeout=60
    )
    return set(found.stdout.split())


@pytest.mark.parametrize("module", ["chatmail.app.main", "chatmail.app.cli.run"])
def test_help_and_commands_do_without_the_relays_libraries(module: str) -> None:
    assert not imported_by(module) & LIBRARIES


def test_a_start_does_without_what_few_relays_need() -> None:
    found = imported_by("chatmail.app.serve")
    assert found >= LIBRARIES
    assert not found & {"pgpy", "psycopg", "sqlalchemy.dialects.postgresql"}
