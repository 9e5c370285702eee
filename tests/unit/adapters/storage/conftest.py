"""A store that can be opened again and again over one state directory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from chatmail.adapters.storage.store import StoreOptions
from tests.unit.ports.world import ListLog, Stores, sqlite_stores

Opener = Callable[..., AbstractAsyncContextManager[Stores]]


@pytest.fixture
def opener(tmp_path: Path) -> Opener:
    """`async with opener(**options) as stores`."""

    def open_again(
        log: ListLog | None = None, **options: object
    ) -> AbstractAsyncContextManager[Stores]:
        return sqlite_stores(tmp_path, StoreOptions(**options), log)

    return open_again
