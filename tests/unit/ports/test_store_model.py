"""Any history of a store, as sessions see it, is that of a dictionary.

A hypothesis state machine drives the ports of every implementation. After every step each session
asks for its news the way the IMAP face does, and its client, which knows nothing but the lines it
was told, has to see what the model says: UIDs, flags, numbers, counters, sizes, contents.
"""

from __future__ import annotations

import inspect
import shutil
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.store import StoreOptions
from chatmail.domain.model.account import Account
from chatmail.domain.model.errors import MailboxGone
from chatmail.domain.model.mailbox import CopyReceipt, Flags, MailboxInfo, Modseq
from chatmail.domain.model.outbound import (
    NewOutbound,
    OutboundMessageId,
    QueueFilter,
    SettlementKind,
)
from chatmail.domain.ports.intake import Delivery, IntakeBatch
from chatmail.domain.ports.mailstore import FlagOperation, MailboxProblem
from chatmail.domain.wire.imap.view import Permit
from tests.unit.ports import world
from tests.unit.ports.durable import ForgetfulFiles, HastyDatabase
from tests.unit.ports.model import (
    INBOX,
    Box,
    Person,
    Viewer,
    check_trim,
    expunge,
    store_flags,
    transfer,
)
from tests.unit.ports.world import HEADER, IMPLEMENTATIONS, NOW_S, small_pages

PEOPLE = ("ann", "bob")
NAMES = (INBOX, "a", "a/b", "c", "c/b")
MAX_VIEWERS = 5
STEPS_BETWEEN_RESTARTS = 6  # they take as long as twenty other steps
LEVELS = (
    (Permit.ALL,),
    (Permit.ARRIVALS, Permit.ALL),
    (Permit.FLAGS, Permit.ALL),
    (Permit.ARRIVALS, Permit.FLAGS, Permit.ALL),
)
FORGETFUL = frozenset({"memory"})
"""Implementations that cannot be opened again."""

people = st.sampled_from(PEOPLE)
names = st.sampled_from(NAMES)
places = st.tuples(people, names)  # where a mailbox may be
number = st.integers(0, 100)
boxes = st.tuples(people, number)  # one that exists, by a number modulo how many there are
picks = st.lists(number, min_size=1, max_size=5)  # messages, likewise, and one that is not there
keyword = st.sampled_from(("$Work", "$work", "$Forwarded"))
flags = st.builds(
    lambda system, extra: frozenset({*system, *extra}),
    st.sets(st.sampled_from(("\\Seen", "\\Deleted", "\\Flagged")), max_size=3),
    st.just(()) | keyword.map(lambda one: (one,)),
)
contents = st.binary(max_size=60)
dates = st.integers(NOW_S - 9, NOW_S)


class Loop:
    """A Trio loop in a thread: the machine's steps are plain functions, the ports are not."""

    def __init__(self) -> None:
        self._token: trio.lowlevel.TrioToken
        self._over: trio.Event
        started = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._live, started))
        self._thread.start()
        started.wait()

    async def _live(self, started: threading.Event) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._over = trio.Event()
        started.set()
        await self._over.wait()

    def run(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: object) -> Any:
        return trio.from_thread.run(function, *args, trio_token=self._token)

    def end(self) -> None:
        trio.from_thread.run_sync(self._over.set, trio_token=self._token)
        self._thread.join()


class StoreMachine(RuleBasedStateMachine):
    """One store, two accounts, some sessions."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._folder = Path(tempfile.mkdtemp(prefix="model"))
        self._keeps = name not in FORGETFUL
        self._closing = ExitStack()
        self._closing.callback(shutil.rmtree, self._folder)
        small_pages(self._closing.enter_context(pytest.MonkeyPatch.context()))
        self._url = None
        if _is_server(name):
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

    @initialize(several=st.lists(flags, min_size=3, max_size=8))
    def begin(self, several: list[Flags]) -> None:
        """Some messages and mailboxes to work with."""
        self.create(("ann", "a"))
        self.create(("ann", "c"))
        for place, marks in enumerate(several):
            content, date_s = b"first %d" % place, NOW_S - place
            self.deliver([("ann", 0), (PEOPLE[place % 2], 0)], marks, content, date_s, False)
        self.select(("ann", 0), is_lazy=False)
        self.select(("ann", 0), is_lazy=True)

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

    # --- messages arrive -------------------------------------------------------------------------

    @rule(
        to=st.lists(boxes, min_size=1, max_size=4),
        marks=flags,
        content=contents,
        date_s=dates,
        spooled=st.booleans(),
        away=st.integers(0, 2),
    )
    def deliver(
        self,
        to: list[tuple[str, int]],
        marks: Flags,
        content: bytes,
        date_s: int,
        spooled: bool,
        away: int = 0,
    ) -> None:
        """`away`: how many recipients it has elsewhere."""
        found = self._boxes(to)
        receipts = self._run(self._commit, found, marks, content, date_s, spooled, away)
        self._arrive(found, marks, content, date_s, receipts)

    @rule(content=contents, spooled=st.booleans(), away=st.integers(1, 2))
    def send(self, content: bytes, spooled: bool, away: int) -> None:
        """A message that nobody here gets."""
        self._run(self._commit, (), frozenset(), content, NOW_S, spooled, away)

    def _queued(self, content: bytes, away: int) -> NewOutbound | None:
        if not away:
            return None
        self._sent += 1
        recipients = [f"user{place}@peer.test" for place in range(away)]
        self._queue |= {(self._sent, one): (HEADER + content, 0) for one in recipients}
        return world.make_outbound(self._sent, *recipients)

    async def _commit(
        self,
        found: Sequence[Box],
        marks: Flags,
        content: bytes,
        date_s: int,
        spooled: bool = False,
        away: int = 0,
    ) -> tuple:
        ids = [self._ids[box] for box in found]
        outbound = self._queued(content, away)
        if not spooled:
            return await self._stores.deliver(
                *ids, content=content, flags=marks, date_s=date_s, outbound=outbound
            )
        async with self._stores.blobs.spool() as spool:
            await spool.write(content)
            batch = IntakeBatch(
                body=await spool.seal(HEADER),
                internal_date_s=date_s,
                deliveries=tuple(Delivery(one, marks) for one in ids),
                outbound=outbound,
            )
            return await self._stores.intake.commit(batch)

    def _arrive(
        self, found: Sequence[Box], marks: Flags, content: bytes, date_s: int, receipts: tuple
    ) -> None:
        for box in set(found):
            box.modseq += 1
        for box, receipt in zip(found, receipts, strict=True):
            uid = box.add(content, marks, date_s)
            assert (receipt.mailbox, receipt.uid) == (self._ids[box], uid)
            assert receipt.uid_validity == box.uid_validity
        self._touched |= set(found)

    @rule(to=st.sets(boxes, min_size=1, max_size=3), several=st.lists(contents, max_size=6))
    def deliver_at_once(self, to: set[tuple[str, int]], several: list[bytes]) -> None:
        """Commits of several callers share a batch; every order is right that all agree on."""
        found = self._boxes(sorted(to))
        landed: list[tuple[tuple, bytes]] = []

        async def one(content: bytes) -> None:
            receipts = await self._commit(found, frozenset(), content, NOW_S)
            landed.append((receipts, content))

        async def all_of_them() -> None:
            async with trio.open_nursery() as nursery:
                for content in several:
                    nursery.start_soon(one, content)

        self._run(all_of_them)
        for receipts, content in sorted(landed, key=lambda pair: pair[0][0].uid):
            self._arrive(found, frozenset(), content, NOW_S, receipts)

    # --- messages leave --------------------------------------------------------------------------

    @rule(kinds=st.lists(st.sampled_from(SettlementKind), min_size=1, max_size=4))
    def attempt(self, kinds: list[SettlementKind]) -> None:
        """Claim some entries and settle them; what was claimed is not claimed again meanwhile."""
        queue = self._stores.outbound

        async def run() -> list[tuple[int, str]]:
            entries = await queue.claim("peer.test", NOW_S, 60, len(kinds))
            others = await queue.claim("peer.test", NOW_S, 60, 1000)
            keys = [(int(one.message.id), str(one.recipient)) for one in (*entries, *others)]
            assert sorted(keys) == sorted(self._queue)
            await queue.settle(world.settled_as(*zip(entries, kinds, strict=False), due_s=NOW_S))
            await queue.settle(world.settled_as(*((one, None) for one in others), due_s=NOW_S))
            return keys

        for key, kind in zip(self._run(run), kinds, strict=False):
            content, attempts = self._queue.pop(key)
            if kind is SettlementKind.RETRY:
                self._queue[key] = content, attempts + 1

    @rule(which=number)
    def remove_from_queue(self, which: int) -> None:
        """An operator's word on one message."""
        wanted = QueueFilter(message=OutboundMessageId(which % (self._sent + 1)))
        gone = [key for key in self._queue if key[0] == wanted.message]
        assert self._run(self._stores.outbound.remove, wanted) == len(gone)
        for key in gone:
            del self._queue[key]

    async def _check_queue(self) -> None:
        """Read everything that is on its way."""
        found = {}
        for entry in await self._stores.outbound.page(QueueFilter(), None, 1000):
            octets = await self._stores.outbound.read(entry.message.id, 0, 10_000)
            found[int(entry.message.id), str(entry.recipient)] = octets, entry.attempts
        assert found == self._queue

    # --- messages change -------------------------------------------------------------------------

    @rule(
        where=boxes,
        chosen=picks,
        operation=st.sampled_from(FlagOperation),
        marks=flags,
        before=st.none() | st.integers(0, 8),
    )
    def set_flags(
        self,
        where: tuple[str, int],
        chosen: list[int],
        operation: FlagOperation,
        marks: Flags,
        before: int | None,
    ) -> None:
        """`before`: UNCHANGEDSINCE, as so many changes ago."""
        box = self._box(where)
        since = None if before is None else max(1, box.modseq - before)
        self._set_flags(box, self._picked(box, chosen), operation, marks, since)

    @precondition(lambda self: self._viewers)
    @rule(
        which=number,
        chosen=st.sets(number, max_size=3),
        operation=st.sampled_from(FlagOperation),
        marks=flags,
        others=st.none() | flags,
    )
    def store_silently(
        self,
        which: int,
        chosen: set[int],
        operation: FlagOperation,
        marks: Flags,
        others: Flags | None,
    ) -> None:
        """A session's own change is no news to itself; what somebody else does next is."""
        viewer = self._viewers[which % len(self._viewers)]
        known = viewer.uids
        if known:
            mine = sorted({known[place % len(known)] for place in chosen})
            viewer.stored(self._set_flags(viewer.model, mine, operation, marks, None))
            if others is not None:
                self._set_flags(viewer.model, mine, FlagOperation.REPLACE, others, None)

    def _set_flags(
        self,
        box: Box,
        chosen: list[int],
        operation: FlagOperation,
        marks: Flags,
        since: int | None,
    ) -> Sequence[Any]:
        before = box.modseq
        limit = None if since is None else Modseq(since)
        outcome = self._run(self._mail.set_flags, self._ids[box], chosen, operation, marks, limit)
        granted, refused = store_flags(box, chosen, operation, marks, since)
        assert list(outcome.modified) == refused
        assert [(one.uid, one.flags, one.modseq) for one in outcome.entries] == [
            (uid, box.messages[uid].flags, box.messages[uid].modseq) for uid in granted
        ]
        if box.modseq != before:
            self._touched.add(box)
        return outcome.entries

    @rule(where=boxes, chosen=picks, is_marked=st.booleans(), is_all=st.booleans())
    def expunge(
        self, where: tuple[str, int], chosen: list[int], is_marked: bool, is_all: bool
    ) -> None:
        box = self._box(where)
        among = self._picked(box, chosen)
        if is_marked:
            self._set_flags(box, among, FlagOperation.ADD, frozenset({"\\Deleted"}), None)
        among = None if is_all else among
        changes = self._run(self._mail.expunge, self._ids[box], among)
        gone = expunge(box, among)
        assert list(changes.expunged) == gone
        assert changes.highest_modseq == box.modseq
        self._touched |= {box} if gone else set()

    @rule(where=boxes, chosen=picks, name=names, limit=st.none() | st.integers(0, 3000))
    def copy(self, where: tuple[str, int], chosen: list[int], name: str, limit: int | None) -> None:
        self._transfer(where, chosen, name, partial(self._mail.copy, limit_bytes=limit), limit)

    @rule(where=boxes, chosen=picks, name=names)
    def move(self, where: tuple[str, int], chosen: list[int], name: str) -> None:
        self._transfer(where, chosen, name, self._mail.move, None, moves=True)

    def _transfer(
        self,
        where: tuple[str, int],
        chosen: list[int],
        name: str,
        run: Callable[..., Coroutine[Any, Any, Any]],
        limit: int | None,
        *,
        moves: bool = False,
    ) -> None:
        box, target = self._box(where), self._people[where[0]].boxes.get(name)
        chosen = self._picked(box, chosen)
        outcome = self._run(run, self._ids[box], chosen, self._account(where), name)
        if target is None:
            assert outcome is MailboxProblem.TRY_CREATE
            return
        size = sum(box.messages[uid].size for uid in set(chosen) & box.messages.keys())
        if limit is not None and self._people[where[0]].octets + size > limit:
            assert outcome is MailboxProblem.OVER_QUOTA
            return
        source, landed = transfer(box, chosen, target, moves=moves)
        assert outcome == CopyReceipt(target.uid_validity, source, landed)
        if source:
            self._touched |= {target, box} if moves else {target}

    @rule(who=people, room=st.integers(0, 2500), older_than_s=st.just(NOW_S + 1) | dates)
    def trim(self, who: str, room: int, older_than_s: int) -> None:
        person, account = self._people[who], self._accounts[who].id
        before = {box: box.modseq for box in person.boxes.values()}

        async def what_is_left() -> dict[str, set[int]]:
            left = {}
            for box in person.boxes.values():
                mailbox = await self._open_box(box)
                found, count = mailbox.uids()
                left[box.name] = set(found[:count])
                mailbox.close()
            return left

        used = self._run(self._mail.trim, account, room, older_than_s)
        check_trim(person, self._run(what_is_left), room, older_than_s, used)
        self._touched |= {box for box, modseq in before.items() if box.modseq != modseq}

    # --- names -----------------------------------------------------------------------------------

    @rule(where=places)
    def create(self, where: tuple[str, str]) -> None:
        person = self._people[where[0]]
        outcome = self._run(self._mail.create, self._account(where), where[1], None, NOW_S)
        if where[1] in person.boxes:
            assert outcome is MailboxProblem.ALREADY_EXISTS
        else:
            assert (outcome.messages, outcome.uid_next) == (0, 1)
            self._ids[person.add_box(outcome)] = outcome.id

    @rule(where=places)
    def delete(self, where: tuple[str, str]) -> None:
        person = self._people[where[0]]
        outcome = self._run(self._mail.delete, self._account(where), where[1])
        if where[1] == INBOX:
            assert outcome is MailboxProblem.CANNOT
        elif where[1] not in person.boxes:
            assert outcome is MailboxProblem.NONEXISTENT
        else:
            assert outcome is None
            box = person.boxes.pop(where[1])
            box.is_gone = True
            self._touched.add(box)
            self._run(self._dismiss, box)

    async def _dismiss(self, box: Box) -> None:
        """Sessions in a mailbox that is gone are told so at whatever they do next."""
        for viewer in [one for one in self._viewers if one.model is box]:
            with pytest.raises(MailboxGone):
                await viewer.mailbox.changes_since(viewer.view.modseq, viewer.view.uid_next)
            with pytest.raises(MailboxGone):
                viewer.mailbox.info()
            viewer.mailbox.close()
            self._viewers.remove(viewer)

    @rule(where=places, new=st.sampled_from((*NAMES, "d")))
    def rename(self, where: tuple[str, str], new: str) -> None:
        person, old = self._people[where[0]], where[1]
        expected = person.may_rename(old, new)
        outcome = self._run(self._mail.rename, self._account(where), old, new, NOW_S)
        assert outcome == expected
        if expected is None and old != INBOX:
            person.rename(old, new)
        elif expected is None:
            # RFC 3501 §6.3.5: INBOX stays, its messages go.
            info = self._run(self._mail.info, self._account(where), new)
            source, box = person.boxes[INBOX], person.add_box(info)
            self._ids[box] = info.id
            moved = transfer(source, list(source.messages), box, moves=True)[0]
            box.modseq = info.highest_modseq
            for uid, entry in self._run(self._entries, box).items():
                box.messages[uid] = _with_modseq(box.messages[uid], entry.modseq)
            self._touched |= {source} if moved else set()

    async def _entries(self, box: Box) -> dict[int, Any]:
        mailbox = await self._open_box(box)
        found, count = mailbox.uids()
        await mailbox.load(found[:count])
        entries = {uid: mailbox.entry(uid) for uid in found[:count]}
        mailbox.close()
        return entries

    @rule(where=places, is_on=st.booleans())
    def subscribe(self, where: tuple[str, str], is_on: bool) -> None:
        box = self._people[where[0]].boxes.get(where[1])
        assert self._run(self._mail.subscribe, self._account(where), where[1], is_on) == (
            box is not None
        )
        if box is not None:
            box.is_subscribed = is_on

    # --- sessions --------------------------------------------------------------------------------

    @precondition(lambda self: len(self._viewers) < MAX_VIEWERS)
    @rule(where=boxes, is_lazy=st.booleans())
    def select(self, where: tuple[str, int], is_lazy: bool) -> None:
        async def run() -> None:
            assert await self._mail.open(self._account(where), "never made") is None
            box = self._box(where)
            mailbox = await self._open_box(box)
            uids, count = mailbox.uids()
            await mailbox.load(uids[:count])
            viewer = Viewer.select(box, mailbox, is_lazy=is_lazy)
            self._viewers.append(viewer)

        self._run(run)

    @precondition(lambda self: self._viewers)
    @rule(which=number, permit=st.sampled_from(Permit))
    def look(self, which: int, permit: Permit) -> None:
        self._run(self._viewers[which % len(self._viewers)].look, permit)

    @precondition(lambda self: self._viewers)
    @rule(which=number)
    def leave(self, which: int) -> None:
        viewer = self._viewers.pop(which % len(self._viewers))
        viewer.mailbox.close()
        viewer.mailbox.close()

    @rule(where=boxes, which=number, offset=st.integers(0, 120), length=st.integers(0, 120))
    def read_a_part(self, where: tuple[str, int], which: int, offset: int, length: int) -> None:
        box = self._box(where)
        if not box.messages:
            return
        uid = list(box.messages)[which % len(box.messages)]

        async def run() -> bytes:
            mailbox = await self._open_box(box)
            await mailbox.load([uid])
            octets = await self._mail.read(mailbox.entry(uid), offset, length)
            mailbox.close()
            return bytes(octets)

        whole = HEADER + box.messages[uid].content
        assert self._run(run) == whole[offset : offset + length]

    # --- upkeep and trouble ----------------------------------------------------------------------

    @precondition(lambda self: self._stores.store is not None)
    @rule()
    def sweep(self) -> None:
        self._run(self._stores.store.sweep)
        self._run(self._check_queue)
        assert self._run(self._stores.store.recount) == 0

    @precondition(lambda self: self._keeps and self._steps >= self._reopen_at)
    @rule(loses_power=st.booleans())
    def restart(self, loses_power: bool) -> None:
        """The next store sees what was durable; after a power cut there is junk behind it."""
        before = self._state_dir
        loses_power = loses_power and not _is_server(self._name)
        if loses_power:
            self._generation += 1
            self._files.left_by_a_power_cut(before, self._state_dir)
        self._run(self._close)
        if loses_power:
            shutil.rmtree(before)
        self._run(self._open)
        assert "content_missing" not in self._stores.log.events
        self._run(self._come_back)
        self._reopen_at = self._steps + STEPS_BETWEEN_RESTARTS


def _is_server(name: str) -> bool:
    """Whether a database server keeps the state: it outlives the store by itself."""
    return "url" in inspect.signature(IMPLEMENTATIONS[name]).parameters


def _with_modseq(message: Any, modseq: int) -> Any:
    return type(message)(message.content, message.flags, message.date_s, modseq)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_any_history_is_that_of_a_dictionary(name: str) -> None:
    is_steady = settings.default.derandomize
    if _is_server(name) and (reason := world.postgres.missing()):
        pytest.skip(reason)
    steady_examples = 3 if _is_server(name) else 10  # a server takes ten times as long
    run_state_machine_as_test(
        partial(StoreMachine, name),
        settings=settings(
            max_examples=steady_examples if is_steady else 300,
            stateful_step_count=40,
            suppress_health_check=list(HealthCheck),
            # Making a history short takes minutes: `explore` does it.
            phases=(Phase.generate,) if is_steady else tuple(Phase),
        ),
    )
