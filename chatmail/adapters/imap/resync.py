"""QRESYNC: what changed while a client was away, in SELECT and in UID FETCH.

Cost: what the store's journal holds since the client's modseq; a client away for longer than the
store remembers is told of every UID that has no message, as one compact set.
Source:  RFC 7162 §3.2.5, §3.2.6.
"""

from __future__ import annotations

from typing import Final

import trio

from chatmail.adapters.imap.session import Session
from chatmail.domain.model.mailbox import MailboxChanges, Modseq, Uid
from chatmail.domain.ports.mailstore import OpenMailbox
from chatmail.domain.wire.imap.commands import QresyncParameter
from chatmail.domain.wire.imap.fetch import flags_line
from chatmail.domain.wire.imap.responses import vanished
from chatmail.domain.wire.imap.resync import among, changed_for, expunged_for, without_star
from chatmail.domain.wire.imap.sequence import MAX_NUMBER, SequenceSet

# No message has it, so no change counts as an arrival: RFC 7162 §3.2.5.1 has all of them told.
_BEYOND: Final = Uid(MAX_NUMBER)


async def missed_by(mailbox: OpenMailbox, known: QresyncParameter) -> MailboxChanges | None:
    """Return what came after the client's modseq, None for another life of the mailbox.

    The changes are those up to the mailbox's present modseq until the caller awaits. The mailbox
    is closed when this fails.
    """
    try:
        if known.uid_validity != mailbox.uid_validity:
            return None
        while True:
            changes = await mailbox.changes_since(Modseq(known.modseq), _BEYOND)
            if changes.highest_modseq == mailbox.info().highest_modseq:
                return changes
            await trio.lowlevel.checkpoint()
    except BaseException:
        mailbox.close()
        raise


async def tell_missed(session: Session, missed: MailboxChanges, known: QresyncParameter) -> None:
    """Tell what is gone, then what has changed: numbers in FETCH are those after the expunges."""
    view = session.selected.view
    gone = expunged_for(known, missed.expunged, view.uids, view.count)
    session.send(vanished(gone, earlier=True))
    for entry in changed_for(known, missed.changed):
        number = view.sequence_of(entry.uid)
        session.send(flags_line(number, entry, with_uid=True, with_modseq=True))
        await session.flush_if_large()


async def tell_vanished(session: Session, messages: SequenceSet, since: int) -> None:
    """Tell which messages of a set were expunged since a modseq.

    What the client still has in view is not told here: that is news, and changes its numbers.
    """
    selection = session.selected
    view = selection.view
    changes = await selection.mailbox.changes_since(Modseq(since), view.uid_next)
    asked = without_star(messages, max(view.uid_next - 1, 1))
    gone = [uid for uid in among(asked, changes.expunged) if not view.sequence_of(uid)]
    session.send(vanished((uid for uid in gone if uid < view.uid_next), earlier=True))
