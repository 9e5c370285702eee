"""What can happen to mailboxes: names are made and go, sessions select and read them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from chatmail.domain.model.errors import MailboxGone
from chatmail.domain.ports.mailstore import MailboxProblem
from chatmail.domain.wire.imap.view import Permit
from tests.unit.ports.bench import StoreBench
from tests.unit.ports.choices import NAMES, boxes, number, places
from tests.unit.ports.model import INBOX, Box, Viewer, transfer
from tests.unit.ports.world import HEADER, NOW_S

MAX_VIEWERS = 5


class MailboxRules(StoreBench):
    """Rules about names and sessions."""

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


def _with_modseq(message: Any, modseq: int) -> Any:
    return type(message)(message.content, message.flags, message.date_s, modseq)
