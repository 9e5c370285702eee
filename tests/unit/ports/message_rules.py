"""What can happen to messages: they arrive, change, move, leave, here and in the queue."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import trio
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from chatmail.domain.model.mailbox import CopyReceipt, Flags, Modseq
from chatmail.domain.model.outbound import (
    NewOutbound,
    OutboundMessageId,
    QueueFilter,
    SettlementKind,
)
from chatmail.domain.ports.intake import Delivery, IntakeBatch
from chatmail.domain.ports.mailstore import FlagOperation, MailboxProblem
from tests.unit.ports import world
from tests.unit.ports.bench import StoreBench
from tests.unit.ports.choices import boxes, contents, dates, flags, names, number, people, picks
from tests.unit.ports.model import Box, check_trim, expunge, store_flags, transfer
from tests.unit.ports.world import HEADER, NOW_S


class MessageRules(StoreBench):
    """Rules about messages."""

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
