"""What a store has to do, in dictionaries; and a client that believes every line it is told.

Nothing here knows how a store works: the numbers follow from the ports' promises alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import attrs

from chatmail.domain.model.mailbox import DELETED, SEEN, Flags, MailboxEntry, MailboxInfo
from chatmail.domain.ports.mailstore import FlagOperation, MailboxProblem, OpenMailbox
from chatmail.domain.wire.imap.view import Permit, SelectedView
from tests.unit.ports.world import HEADER

INBOX = "INBOX"


@attrs.frozen
class Message:
    """One copy of a message."""

    content: bytes
    flags: Flags
    date_s: int
    modseq: int

    @property
    def size(self) -> int:
        return len(HEADER) + len(self.content)


@attrs.define(eq=False)
class Box:
    """A mailbox."""

    name: str
    uid_validity: int
    modseq: int
    is_subscribed: bool
    uid_next: int = 1
    messages: dict[int, Message] = attrs.field(factory=dict)
    keywords: dict[str, str] = attrs.field(factory=dict)
    is_gone: bool = False

    def spell(self, flags: Iterable[str], *, learn: bool = True) -> Flags:
        """Give keywords the spelling that came first."""
        spelt = set()
        for flag in sorted(flags):
            if not flag.startswith("\\"):
                known = self.keywords.get(flag.lower())
                if learn:
                    self.keywords.setdefault(flag.lower(), flag)
                flag = known or flag
            spelt.add(flag)
        return frozenset(spelt)

    def add(self, content: bytes, flags: Flags, date_s: int) -> int:
        """Put one message in under the modseq of the present change; returns its UID."""
        uid, self.uid_next = self.uid_next, self.uid_next + 1
        self.messages[uid] = Message(content, self.spell(flags), date_s, self.modseq)
        return uid

    @property
    def octets(self) -> int:
        return sum(message.size for message in self.messages.values())

    def check(self, info: MailboxInfo) -> None:
        """Compare all counters."""
        messages = self.messages.values()
        assert (info.name, info.uid_validity) == (self.name, self.uid_validity)
        assert (info.uid_next, info.highest_modseq) == (self.uid_next, self.modseq)
        assert info.messages == len(self.messages)
        assert info.unseen == sum(SEEN not in message.flags for message in messages)
        assert info.deleted == sum(DELETED in message.flags for message in messages)
        assert info.octets == self.octets
        assert info.is_subscribed == self.is_subscribed


@attrs.define(eq=False)
class Person:
    """An account: mailboxes by name."""

    boxes: dict[str, Box] = attrs.field(factory=dict)
    highest_validity: int = 0

    def add_box(self, info: MailboxInfo) -> Box:
        """Take in a mailbox that was just made."""
        assert info.uid_validity > self.highest_validity, "UIDVALIDITY grows within an account"
        assert info.name not in self.boxes
        self.highest_validity = info.uid_validity
        box = Box(info.name, info.uid_validity, info.highest_modseq, info.is_subscribed)
        self.boxes[info.name] = box
        return box

    @property
    def octets(self) -> int:
        return sum(box.octets for box in self.boxes.values())

    def may_rename(self, old: str, new: str) -> MailboxProblem | None:
        """Say what a rename has to answer."""
        if old not in self.boxes:
            return MailboxProblem.NONEXISTENT
        moved = {} if old == INBOX else self._renamed(old, new)
        taken = self.boxes.keys() - moved.keys()
        if new in self.boxes or taken & set(moved.values()):
            return MailboxProblem.ALREADY_EXISTS
        return None

    def rename(self, old: str, new: str) -> None:
        """Rename a mailbox and its children."""
        moved = self._renamed(old, new)
        self.boxes = {moved.get(name, name): box for name, box in self.boxes.items()}
        for name, box in self.boxes.items():
            box.name = name

    def _renamed(self, old: str, new: str) -> dict[str, str]:
        return {
            name: new + name[len(old) :]
            for name in self.boxes
            if name == old or name.startswith(old + "/")
        }


def store_flags(
    box: Box,
    uids: Sequence[int],
    operation: FlagOperation,
    flags: Flags,
    unchanged_since: int | None,
) -> tuple[list[int], list[int]]:
    """Do a STORE; returns the UIDs it was granted for and those it was refused for."""
    found = sorted(set(uids) & box.messages.keys())
    limit = box.modseq if unchanged_since is None else unchanged_since
    granted = [uid for uid in found if box.messages[uid].modseq <= limit]
    wanted = box.spell(flags, learn=False)
    changed = {}
    for uid in granted:
        old = box.messages[uid].flags
        new = {
            FlagOperation.REPLACE: wanted,
            FlagOperation.ADD: old | wanted,
            FlagOperation.REMOVE: old - wanted,
        }[operation]
        if new != old:
            changed[uid] = new
    box.modseq += bool(changed)
    if changed and operation is not FlagOperation.REMOVE:
        box.spell(flags)
    for uid, new in changed.items():
        box.messages[uid] = attrs.evolve(box.messages[uid], flags=new, modseq=box.modseq)
    return granted, [uid for uid in found if uid not in granted]


def expunge(box: Box, uids: Sequence[int] | None) -> list[int]:
    """Do an EXPUNGE; returns the UIDs that went."""
    among = box.messages.keys() if uids is None else set(uids)
    doomed = [
        uid for uid, message in box.messages.items() if uid in among and DELETED in message.flags
    ]
    remove(box, doomed)
    return doomed


def remove(box: Box, doomed: Sequence[int]) -> None:
    """Take messages away under one new modseq."""
    box.modseq += bool(doomed)
    for uid in doomed:
        del box.messages[uid]


def transfer(source: Box, uids: Sequence[int], target: Box, *, moves: bool) -> tuple:
    """Do a COPY or MOVE; returns source and destination UIDs."""
    found = sorted(set(uids) & source.messages.keys())
    target.modseq += bool(found)
    originals = [source.messages[uid] for uid in found]
    landed = [target.add(one.content, one.flags, one.date_s) for one in originals]
    if moves:
        source.modseq += bool(found) and source is not target
        for uid in found:
            del source.messages[uid]
    return tuple(found), tuple(landed)


def check_trim(
    person: Person, left: dict[str, set[int]], target_bytes: int, older_than_s: int, used: int
) -> None:
    """Judge a trim by what it left, and do the same; which of equally old ones goes is free."""
    before = person.octets
    old = [
        (message.date_s, box.name, uid, message.size)
        for box in person.boxes.values()
        for uid, message in box.messages.items()
        if message.date_s < older_than_s
    ]
    gone = [one for one in old if one[2] not in left[one[1]]]
    kept = [one for one in old if one[2] in left[one[1]]]
    assert used == before - sum(size for *_, size in gone)
    assert used <= target_bytes or not kept, "it stopped too early"
    if gone:
        newest = max(date_s for date_s, *_ in gone)
        last = max(size for date_s, *_, size in gone if date_s == newest)
        assert used + last > target_bytes, "it took more than it had to"
        assert all(date_s >= newest for date_s, *_ in kept), "older ones go first"
    for box in person.boxes.values():
        remove(box, [uid for _, name, uid, _ in gone if name == box.name])
        assert set(box.messages) == left[box.name]


# --- a client -------------------------------------------------------------------------------------

_LINE = re.compile(rb"\* (\d+) (EXISTS|EXPUNGE|FETCH)(?: \((.*)\))?\Z")
_FLAGS = re.compile(rb"FLAGS \(([^)]*)\)")
_UID = re.compile(rb"UID (\d+)")


@attrs.define(eq=False)
class Viewer:
    """A session: its view as the IMAP face keeps it, and what its client makes of the lines.

    `believed`: (UID, flags) by message number, from nothing but what the client was told or
    fetched. `is_lazy`: asks for news only when it feels like it.
    """

    model: Box
    mailbox: OpenMailbox
    view: SelectedView
    is_lazy: bool
    believed: list[tuple[int, Flags]]

    @staticmethod
    def select(model: Box, mailbox: OpenMailbox, *, is_lazy: bool) -> Viewer:
        """Do what SELECT and a first FETCH do."""
        info = mailbox.info()
        uids, count = mailbox.uids()
        view = SelectedView(uids, count, info.highest_modseq, info.uid_next)
        viewer = Viewer(model, mailbox, view, is_lazy, [])
        viewer._fetch_up_to(count)
        return viewer

    async def look(self, permit: Permit) -> None:
        """Take the news of the mailbox, as far as it may be told now."""
        view = self.view
        has_news = self.mailbox.has_news(view.modseq, view.uid_next)
        changes = await self.mailbox.changes_since(view.modseq, view.uid_next)
        assert has_news or not (changes.arrived or changes.changed or changes.expunged)
        octets = view.update(changes, *self.mailbox.uids(), permit, with_uid=True)
        assert octets is not None, "nothing was committed meanwhile"
        for line in octets.splitlines():
            self._hear(line, permit)
        if permit is Permit.ALL:
            self._check()

    def stored(self, entries: Iterable[MailboxEntry]) -> None:
        """Note the answer to the session's own STORE.SILENT."""
        entries = list(entries)
        self.view.tell(entries)
        for entry in entries:
            number = self.view.sequence_of(entry.uid)
            assert number, "a session changes only what it was told of"
            self.believed[number - 1] = (entry.uid, entry.flags)

    @property
    def uids(self) -> list[int]:
        """What the client may name."""
        return [uid for uid, _ in self.believed]

    def _hear(self, line: bytes, permit: Permit) -> None:
        found = _LINE.match(line)
        assert found is not None, line
        number, kind = int(found[1]), found[2]
        if kind == b"EXISTS":
            assert number >= len(self.believed)
            self._fetch_up_to(number)
            return
        assert 1 <= number <= len(self.believed)
        if kind == b"EXPUNGE":
            assert permit is Permit.ALL
            del self.believed[number - 1]
            return
        assert permit is not Permit.ARRIVALS
        flags, uid = _FLAGS.search(found[3]), _UID.search(found[3])
        assert flags is not None
        assert uid is not None
        assert int(uid[1]) == self.believed[number - 1][0], "the line is about another message"
        self.believed[number - 1] = (int(uid[1]), frozenset(flags[1].decode().split()))

    def _fetch_up_to(self, number: int) -> None:
        for uid in self.view.uids[len(self.believed) : number]:
            entry = self.mailbox.entry(uid)
            assert entry is not None, "what was announced can be read"
            self.believed.append((uid, entry.flags))

    def _check(self) -> None:
        expected = [(uid, message.flags) for uid, message in self.model.messages.items()]
        assert self.believed == sorted(expected)
        assert (self.view.modseq, self.view.uid_next) == (self.model.modseq, self.model.uid_next)
        assert list(self.view.uids[: self.view.count]) == self.uids
