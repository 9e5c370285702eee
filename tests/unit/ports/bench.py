"""A store and its model side by side: its life, and what is checked after every step."""

from __future__ import annotations

import inspect
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis.stateful import RuleBasedStateMachine, invariant

from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.store import StoreOptions
from chatmail.domain.model.account import Account
from chatmail.domain.model.mailbox import MailboxInfo
from chatmail.domain.model.outbound import QueueFilter
from chatmail.domain.wire.imap.view import Permit
from tests.unit.ports import world
from tests.unit.ports.choices import PEOPLE
from tests.unit.ports.durable import ForgetfulFiles, HastyDatabase
from tests.unit.ports.loop import Loop
from tests.unit.ports.model import INBOX, Box, Person, Viewer
from tests.unit.ports.world import HEADER, IMPLEMENTATIONS, small_pages

LEVELS = (
    (Permit.ALL,),
    (Permit.ARRIVALS, Permit.ALL),
    (Permit.FLAGS, Permit.ALL),
    (Permit.ARRIVALS, Permit.FLAGS, Permit.ALL),
)
FORGETFUL = frozenset({"memory"})
"""Implementations that cannot be opened again."""


class StoreBench(RuleBasedStateMachine):
    """One store, two accounts, some sessions; and the model that they are held against.

    It knows how a store is opened and closed and what has to be true of it. What can happen to it
    are the rules of the classes below this one.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._folder = Path(tempfile.mkdtemp(prefix="model"))
        self._keeps = name not in FORGETFUL
        self._closing = ExitStack()
        self._closing.callback(shutil.rmtree, self._folder)
        small_pages(self._closing.enter_context(pytest.MonkeyPatch.context()))
        self._url = None
        if is_server(name):
            self._url = self._closing.enter_context(world.empty_database())
        self._generation = 0
        self._loop = Loop()
        self._people = {name: Person() for name in PEOPLE}
        self._viewers: list[Viewer] = []
        self._steps = 0
        self._reopen_at = 0
        self._told = 0
        self._touched: set[Box] = set()
        self._ids: dict[Box, int] = {}
        self._queue: dict[tuple[int, str], tuple[bytes, int]] = {}  # content, attempts
        self._sent = 0
        self._run(self._open)
        self._run(self._meet_everybody)

    def teardown(self) -> None:
        try:
            self._run(self._check_contents)
            self._run(self._close)
        finally:
            self._loop.end()
            self._closing.close()

    def _run(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: object) -> Any:
        return self._loop.run(function, *args)

    # --- life of the store ---------------------------------------------------------------------

    @property
    def _state_dir(self) -> Path:
        return self._folder / str(self._generation)

    async def _open(self) -> None:
        self._files = ForgetfulFiles()
        # Small bounds: mailboxes are forgotten and read again, segments fill up.
        bounds = StoreOptions(
            segment_limit_bytes=600,
            files=self._files,
            new_index=lambda: StoreIndex(max_entries=8, max_mailboxes=3),
            new_database=HastyDatabase,
        )
        self._state_dir.mkdir(exist_ok=True)
        wanted = inspect.signature(IMPLEMENTATIONS[self._name]).parameters
        given = {"options": bounds, "url": self._url}
        arguments = {name: given[name] for name in given if name in wanted}
        self._context = IMPLEMENTATIONS[self._name](self._state_dir, **arguments)
        self._over = trio.Event()
        self._ended = trio.Event()
        opened = trio.Event()
        trio.lowlevel.spawn_system_task(self._hold_open, opened)
        await opened.wait()
        self._told = 0

    async def _hold_open(self, opened: trio.Event) -> None:
        # The context holds a nursery, so one and the same task has to enter and leave it.
        async with self._context as self._stores:
            opened.set()
            await self._over.wait()
        self._ended.set()

    async def _close(self) -> None:
        self._over.set()
        await self._ended.wait()

    async def _meet_everybody(self) -> None:
        self._accounts: dict[str, Account] = {}
        for name, person in self._people.items():
            self._accounts[name] = account = await self._stores.account(name)
            if INBOX not in person.boxes:
                info = await self._mail.info(account.id, INBOX)
                assert info is not None
                self._ids[person.add_box(info)] = info.id

    async def _come_back(self) -> None:
        """Every session selects again with what it knew: nothing may have happened to it."""
        await self._meet_everybody()
        await self._check_contents()
        for viewer in self._viewers:
            mailbox = await self._open_box(viewer.model)
            assert mailbox.uid_validity == viewer.model.uid_validity
            viewer.mailbox = mailbox
            await viewer.look(Permit.ALL)  # what the lazy ones missed happened before

    @property
    def _mail(self) -> Any:
        return self._stores.mail

    def _box(self, where: tuple[str, int]) -> Box:
        found = self._people[where[0]].boxes
        # INBOX half of the time: what never meets in one mailbox finds no bug.
        return found[sorted(found)[where[1] // 2 % len(found)] if where[1] % 2 else INBOX]

    def _boxes(self, to: Iterable[tuple[str, int]]) -> list[Box]:
        return [self._box(where) for where in to]

    @staticmethod
    def _picked(box: Box, picks: Iterable[int]) -> list[int]:
        known = [*box.messages, box.uid_next]
        return [known[pick % len(known)] for pick in picks]

    def _account(self, where: tuple[str, object]) -> Any:
        return self._accounts[where[0]].id

    async def _open_box(self, box: Box) -> Any:
        for name, person in self._people.items():
            if person.boxes.get(box.name) is box:
                mailbox = await self._mail.open(self._accounts[name].id, box.name)
                assert mailbox is not None
                assert mailbox.id == self._ids[box]
                return mailbox
        raise AssertionError("no such mailbox in the model")

    # --- checks ----------------------------------------------------------------------------------

    @invariant()
    def everybody_sees_the_model(self) -> None:
        self._run(self._check)

    async def _check(self) -> None:
        self._steps += 1
        for name, person in self._people.items():
            account = self._accounts[name].id
            infos: list[MailboxInfo] = await self._mail.list(account)
            assert [info.name for info in infos] == sorted(person.boxes)
            for info in infos:
                box = person.boxes[info.name]
                assert info.id == self._ids[box]
                box.check(info)
            assert await self._mail.usage(account) == person.octets
        self._check_hints()
        for place, viewer in enumerate(self._viewers):
            if not viewer.is_lazy:
                for permit in LEVELS[(self._steps + place) % len(LEVELS)]:
                    await viewer.look(permit)

    def _check_hints(self) -> None:
        """Whoever idles in a mailbox that changed was woken, and not before it had changed."""
        hints = {(one.mailbox, one.modseq) for one in self._stores.hints.published[self._told :]}
        self._told = len(self._stores.hints.published)
        for box in self._touched:
            assert box.is_gone or (self._ids[box], box.modseq) in hints
            assert self._ids[box] in {mailbox for mailbox, _ in hints}
        self._touched.clear()

    async def _check_contents(self) -> None:
        """Open every mailbox anew and read every message; and all that is on its way."""
        await self._check_queue()
        for person in self._people.values():
            for box in person.boxes.values():
                await self._check_box(box)

    async def _check_box(self, box: Box) -> None:
        mailbox = await self._open_box(box)
        found, count = mailbox.uids()
        assert list(found[:count]) == list(box.messages)
        await mailbox.load(found[:count])
        entries = [mailbox.entry(uid) for uid in found[:count]]
        octets = await self._mail.read_many([(entry, 0, entry.size) for entry in entries])
        for entry, content, message in zip(entries, octets, box.messages.values(), strict=True):
            assert content == HEADER + message.content
            assert (entry.size, entry.header_size) == (message.size, len(HEADER))
            assert (entry.flags, entry.modseq) == (message.flags, message.modseq)
            assert entry.internal_date_s == message.date_s
        unseen = [uid for uid, message in box.messages.items() if "\\Seen" not in message.flags]
        assert mailbox.first_unseen() == min(unseen, default=None)
        assert set(box.keywords.values()) <= set(mailbox.keywords())
        assert mailbox.entry(box.uid_next) is None
        mailbox.close()

    async def _check_queue(self) -> None:
        """Read everything that is on its way."""
        found = {}
        for entry in await self._stores.outbound.page(QueueFilter(), None, 1000):
            octets = await self._stores.outbound.read(entry.message.id, 0, 10_000)
            found[int(entry.message.id), str(entry.recipient)] = octets, entry.attempts
        assert found == self._queue


def is_server(name: str) -> bool:
    """Whether a database server keeps the state: it outlives the store by itself."""
    return "url" in inspect.signature(IMPLEMENTATIONS[name]).parameters
