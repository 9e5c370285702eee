"""One suite per port, run on every implementation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.ports.world import IMPLEMENTATIONS, Stores

# A failed claim of the model shows both its sides, as in a test.
for name in ("bench", "mailbox_rules", "message_rules"):
    pytest.register_assert_rewrite(f"tests.unit.ports.{name}")


@pytest.fixture(params=IMPLEMENTATIONS)
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    async with IMPLEMENTATIONS[request.param](tmp_path) as stores:
        yield stores
