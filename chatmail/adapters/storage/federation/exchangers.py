"""Exchangers in a table; what was taken from them, beside what came from other relays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chatmail.adapters.storage.boards import Board
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job, Writer
from chatmail.domain.model.exchanger import Exchanger


class _Ask(Job):
    """One question."""

    __slots__ = ("_ask", "found")

    is_read = True

    def __init__(self, ask: Callable[[Transaction], Any]) -> None:
        self._ask = ask
        self.found: Any = None

    def plan(self, tx: Transaction) -> None:
        self.found = self._ask(tx)


class _Change(Job):
    """One statement; `board`: rung if it changed something."""

    __slots__ = ("_board", "_execute", "changed")

    def __init__(self, execute: Callable[[Transaction], int], board: Board | None = None) -> None:
        self._execute = execute
        self._board = board
        self.changed = 0

    def plan(self, tx: Transaction) -> None:
        self.changed = self._execute(tx)

    def publish(self, index: StoreIndex) -> None:
        if self.changed and self._board is not None:
            self._board.ring()


class SqlExchangerStore:
    """`ExchangerStore` in the tables `exchangers` and `delivered_once`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._board = Board()

    async def all(self) -> Sequence[Exchanger]:
        """Return all exchangers, by name."""
        rows = await self._asked(lambda tx: tx.sql.peers.exchangers.all())
        return [
            Exchanger(
                name=name,
                url=url,
                is_enabled=bool(is_enabled),
                interval_s=interval_s,
                last_poll_s=last_poll_s,
            )
            for name, url, is_enabled, interval_s, last_poll_s in rows
        ]

    async def put(self, exchanger: Exchanger) -> None:
        """Add an exchanger, or replace the one of this name; when it was asked last is kept."""
        row = (exchanger.name, exchanger.url, int(exchanger.is_enabled), exchanger.interval_s)
        await self._change(lambda tx: tx.sql.peers.put_exchanger.run(*row).rowcount)

    async def remove(self, name: str) -> bool:
        """Remove an exchanger; False: there was none."""
        return await self._change(lambda tx: tx.sql.peers.remove_exchanger.run(name).rowcount)

    async def enable(self, name: str, is_enabled: bool) -> bool:
        """Have it asked, or not; False: there is none."""
        wanted = int(is_enabled)
        return await self._change(
            lambda tx: tx.sql.peers.enable_exchanger.run(wanted, name).rowcount
        )

    async def claim(self, name: str, now_s: int) -> bool:
        """Note that it is being asked now; False: it is off, gone, or not due (any more)."""
        job = _Change(
            lambda tx: tx.sql.peers.claim_exchanger.run(now_s, name, now_s, now_s).rowcount
        )
        return bool((await self._writer.do(job)).changed)

    async def is_taken(self, key: bytes, now_s: int) -> bool:
        """Say whether a message was noted by `note_taken` and that still holds."""
        return bool(await self._asked(lambda tx: tx.sql.peers.is_taken.all(key, now_s)))

    async def note_taken(self, key: bytes, until_s: int) -> None:
        """Remember a message until then."""
        job = _Change(lambda tx: tx.sql.outbound.once.run(key, until_s, tx.now_s).rowcount)
        await self._writer.do(job)

    async def wait_for_more(self) -> None:
        """Return when an exchanger was added or changed here since the last call."""
        await self._board.wait()

    async def _asked(self, ask: Callable[[Transaction], Any]) -> Any:
        return (await self._writer.do(_Ask(ask))).found

    async def _change(self, execute: Callable[[Transaction], int]) -> bool:
        return bool((await self._writer.do(_Change(execute, self._board))).changed)
