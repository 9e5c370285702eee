"""SelectedView against a dictionary of what the client knows."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.model.mailbox import Flags, MailboxChanges, MailboxEntry, Modseq, Uid
from chatmail.domain.wire.imap.view import Permit, SelectedView


def entry(uid: int, modseq: int, flags: Flags = frozenset()) -> MailboxEntry:
    return MailboxEntry(Uid(uid), Modseq(modseq), flags, 10, 5, 0, None)


class Box:
    """A mailbox as the store keeps it: one shared sequence, replaced by each expunge."""

    def __init__(self) -> None:
        self.uids: list[Uid] = []
        self.entries: dict[Uid, MailboxEntry] = {}
        self.gone: list[tuple[int, Uid]] = []
        self.modseq = 1
        self.uid_next = 1

    def arrive(self) -> None:
        self.modseq += 1
        self.entries[Uid(self.uid_next)] = entry(self.uid_next, self.modseq)
        self.uids.append(Uid(self.uid_next))
        self.uid_next += 1

    def flag(self, uid: Uid, flags: Flags) -> MailboxEntry:
        self.modseq += 1
        self.entries[uid] = entry(uid, self.modseq, flags)
        return self.entries[uid]

    def expunge(self, uid: Uid) -> None:
        self.modseq += 1
        del self.entries[uid]
        self.gone.append((self.modseq, uid))
        self.uids = sorted(self.entries)

    def view(self) -> SelectedView:
        return SelectedView(self.uids, len(self.uids), Modseq(self.modseq), Uid(self.uid_next))

    def since(self, view: SelectedView) -> MailboxChanges:
        return MailboxChanges(
            highest_modseq=Modseq(self.modseq),
            uid_next=Uid(self.uid_next),
            arrived=[self.entries[uid] for uid in self.uids if uid >= view.uid_next],
            changed=[
                self.entries[uid]
                for uid in self.uids
                if uid < view.uid_next and self.entries[uid].modseq > view.modseq
            ],
            expunged=sorted(uid for modseq, uid in self.gone if modseq > view.modseq),
        )

    def tell(self, view: SelectedView, permit: Permit = Permit.ALL) -> bytes:
        told = view.update(self.since(view), self.uids, len(self.uids), permit, with_uid=True)
        assert told is not None
        return told


def test_new_mail_is_one_exists_line() -> None:
    box = Box()
    box.arrive()
    view = box.view()
    box.arrive()
    box.arrive()
    assert box.tell(view) == b"* 3 EXISTS\r\n"
    assert box.tell(view) == b""


def test_the_view_does_not_see_what_was_not_told() -> None:
    box = Box()
    box.arrive()
    view = box.view()
    box.arrive()
    assert view.count == 1
    assert view.sequence_of(Uid(2)) == 0


def test_expunges_are_told_from_the_last_to_the_first() -> None:
    box = Box()
    for _ in range(4):
        box.arrive()
    view = box.view()
    box.expunge(Uid(2))
    box.expunge(Uid(4))
    assert box.tell(view) == b"* 4 EXPUNGE\r\n* 2 EXPUNGE\r\n"
    assert [view.sequence_of(uid) for uid in (Uid(1), Uid(2), Uid(3), Uid(4))] == [1, 0, 2, 0]


def test_a_message_that_came_and_went_is_never_mentioned() -> None:
    box = Box()
    view = box.view()
    box.arrive()
    box.expunge(Uid(1))
    assert box.tell(view) == b""
    assert view.uid_next == 2


def test_an_expunge_waits_while_numbers_must_not_change_and_so_does_all_behind_it() -> None:
    box = Box()
    box.arrive()
    view = box.view()
    box.expunge(Uid(1))
    box.arrive()
    for permit in (Permit.ARRIVALS, Permit.FLAGS):
        assert box.tell(view, permit) == b""
        assert view.sequence_of(Uid(1)) == 1
    assert box.tell(view) == b"* 1 EXPUNGE\r\n* 1 EXISTS\r\n"


def test_foreign_flags_wait_during_fetch_but_not_during_store() -> None:
    box = Box()
    box.arrive()
    view = box.view()
    box.flag(Uid(1), frozenset(("\\Seen",)))
    assert box.tell(view, Permit.ARRIVALS) == b""
    assert box.tell(view, Permit.FLAGS) == b"* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n"
    assert box.tell(view) == b""


def test_own_changes_are_not_told_again_but_later_foreign_ones_are() -> None:
    box = Box()
    box.arrive()
    view = box.view()
    view.tell([box.flag(Uid(1), frozenset(("\\Seen",)))])
    assert box.tell(view) == b""
    view.tell([box.flag(Uid(1), frozenset())])
    box.flag(Uid(1), frozenset(("\\Flagged",)))
    assert box.tell(view) == b"* 1 FETCH (UID 1 FLAGS (\\Flagged))\r\n"


def test_an_own_change_stays_told_while_other_news_waits() -> None:
    box = Box()
    box.arrive()
    box.arrive()
    view = box.view()
    view.tell([box.flag(Uid(1), frozenset(("\\Seen",)))])
    box.expunge(Uid(2))
    assert box.tell(view, Permit.FLAGS) == b""
    assert box.tell(view) == b"* 2 EXPUNGE\r\n"


def test_flag_lines_without_uid_and_with_modseq() -> None:
    box = Box()
    box.arrive()
    view = box.view()
    box.flag(Uid(1), frozenset())
    told = view.update(box.since(view), box.uids, 1, Permit.ALL, with_modseq=True)
    assert told == b"* 1 FETCH (FLAGS () MODSEQ (3))\r\n"


def test_a_sequence_newer_than_the_changes_is_refused() -> None:
    box = Box()
    box.arrive()
    box.arrive()
    view = box.view()
    old = box.since(view)
    box.arrive()
    assert view.update(old, box.uids, len(box.uids), Permit.ALL) is None
    box.expunge(Uid(1))  # the count is that of the old changes again
    assert view.update(old, box.uids, len(box.uids), Permit.ALL) is None
    assert view.count == 2


def test_only_flags_is_said_of_news_alone() -> None:
    box = Box()
    box.arrive()
    view = box.view()
    assert not view.is_only_flags(box.since(view))
    own = box.flag(Uid(1), frozenset(("\\Seen",)))
    assert view.is_only_flags(box.since(view))
    view.tell([own])
    assert not view.is_only_flags(box.since(view))
    box.flag(Uid(1), frozenset())
    box.arrive()
    assert not view.is_only_flags(box.since(view))


_LINE = re.compile(rb"\* (\d+) (EXISTS|EXPUNGE|FETCH)(?: \(UID (\d+) FLAGS \(([^)]*)\)\))?\r\n")
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(("arrive", "expunge", "flag", "own", "tell", "tell", "fetch", "store")),
        st.integers(0, 30),
    ),
    max_size=60,
)


@given(_STEPS)
def test_numbers_and_flags_stay_those_the_client_counts(steps: list[tuple[str, int]]) -> None:
    box = Box()
    box.arrive()
    view = box.view()
    known: list[tuple[int, Flags]] = [(1, frozenset())]  # what the client believes, by number
    length = 1

    def hear(lines: bytes) -> None:
        nonlocal length
        consumed = b"".join(match[0] for match in _LINE.finditer(lines))
        assert consumed == lines
        for number, kind, uid, flags in _LINE.findall(lines):
            index = int(number) - 1
            if kind == b"EXPUNGE":
                del known[index]
                length -= 1
            elif kind == b"EXISTS":
                assert int(number) > length
                length = int(number)
                for position in range(len(known), length):
                    at = view.uids[position]
                    known.append((at, box.entries[at].flags))
            else:
                assert known[index][0] == int(uid)
                known[index] = (int(uid), frozenset(flags.decode().split()))

    for step, number in steps:
        there = [uid for uid in box.uids if view.sequence_of(uid)]
        uid = box.uids[number % len(box.uids)] if box.uids else None
        flags = frozenset(("\\Seen",)) if number % 2 else frozenset()
        if step == "arrive":
            box.arrive()
        elif step == "expunge" and uid is not None:
            box.expunge(uid)
        elif step == "flag" and uid is not None:
            box.flag(uid, flags)
        elif step == "own" and there:
            own = there[number % len(there)]
            view.tell([box.flag(own, flags)])
            known[view.sequence_of(own) - 1] = (own, flags)
        elif step in ("tell", "fetch", "store"):
            permits = {"tell": Permit.ALL, "fetch": Permit.ARRIVALS, "store": Permit.FLAGS}
            hear(box.tell(view, permits[step]))
        assert [view.sequence_of(Uid(at)) for at, _ in known] == list(range(1, view.count + 1))
    hear(box.tell(view))
    assert known == [(at, box.entries[at].flags) for at in box.uids]


def test_expunges_are_told_by_uid_where_the_client_wants_that() -> None:
    box = Box()
    for _ in range(5):
        box.arrive()
    view = box.view()
    for uid in (2, 3, 5):
        box.expunge(Uid(uid))
    box.arrive()
    told = view.update(box.since(view), box.uids, len(box.uids), Permit.ALL, by_vanished=True)
    assert told == b"* VANISHED 2:3,5\r\n* 3 EXISTS\r\n"
    box.arrive()
    box.expunge(Uid(7))  # never announced
    assert box.tell(view) == b""
