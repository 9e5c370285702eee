"""Exchangers the operator named, and what was taken from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chatmail.domain.model.exchanger import Exchanger


class ExchangerStore(Protocol):
    """Small and durable. Every method raises TransientFailure: nothing was changed."""

    async def all(self) -> Sequence[Exchanger]:
        """Return all exchangers, by name."""

    async def put(self, exchanger: Exchanger) -> None:
        """Add an exchanger, or replace the one of this name; when it was asked last is kept."""

    async def remove(self, name: str) -> bool:
        """Remove an exchanger; False: there was none."""

    async def enable(self, name: str, is_enabled: bool) -> bool:
        """Have it asked, or not; False: there is none."""

    async def claim(self, name: str, now_s: int) -> bool:
        """Note that it is being asked now; False: it is off, gone, or not due (any more)."""

    async def is_taken(self, key: bytes, now_s: int) -> bool:
        """Say whether a message was noted by `note_taken` and that still holds."""

    async def note_taken(self, key: bytes, until_s: int) -> None:
        """Remember a message until then: a second arrival is none."""

    async def wait_for_more(self) -> None:
        """Return when an exchanger was added or changed here since the last call."""
