"""Commands that change messages: STORE, EXPUNGE, COPY, MOVE.

Trouble is never answered with NO here: core reads that as done (traps T1, T11), so the server loop
ends the connection instead.
Source:  RFC 3501 §6.4, RFC 4315, RFC 6851, RFC 7162 §3.1.3; spec mail 4.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chatmail.adapters.imap.mailbox import takes_keywords
from chatmail.adapters.imap.replies import BAD_NUMBER, PROBLEMS, READ_ONLY
from chatmail.adapters.imap.session import Session
from chatmail.domain.model.mailbox import CopyReceipt, MailboxEntry, Modseq, Uid
from chatmail.domain.ports.mailstore import FlagOperation, MailboxProblem
from chatmail.domain.wire.imap.commands import Copy, Expunge, Store
from chatmail.domain.wire.imap.fetch import flags_line
from chatmail.domain.wire.imap.responses import ok, untagged_ok
from chatmail.domain.wire.imap.sequence import format_set
from chatmail.domain.wire.imap.view import Permit

_OPERATIONS: Final = {
    "=": FlagOperation.REPLACE,
    "+": FlagOperation.ADD,
    "-": FlagOperation.REMOVE,
}


async def store(session: Session, tag: bytes, command: Store) -> bytes:
    """STORE, UID STORE."""
    selection = session.selected
    if selection.is_read_only:
        return READ_ONLY.to(tag)
    uids = session.selected.resolve(command.messages, command.by_uid)
    if uids is None:
        return BAD_NUMBER.to(tag)
    is_conditional = command.unchanged_since is not None
    session.has_condstore = session.has_condstore or is_conditional
    done = "Store completed"
    if not uids:
        return ok(tag, done)
    outcome = await session.services.change_mailbox.set_flags(
        selection.mailbox.id,
        uids,
        _OPERATIONS[command.mode],
        frozenset(command.flags),
        known_keywords=selection.mailbox.keywords(),
        unchanged_since=None
        if command.unchanged_since is None
        else Modseq(command.unchanged_since),
    )
    if isinstance(outcome, MailboxProblem):
        return PROBLEMS[outcome].to(tag)
    selection.view.tell(outcome.entries)
    if not command.silent or is_conditional:
        await _tell_flags(session, outcome.entries, command)
    code = ""
    if outcome.modified:
        code = f"MODIFIED {_numbers(session, outcome.modified, command.by_uid)}"
    return ok(tag, done, code)


async def _tell_flags(session: Session, entries: Sequence[MailboxEntry], command: Store) -> None:
    view = session.selected.view
    for entry in entries:
        sequence = view.sequence_of(entry.uid)
        if command.silent:
            # RFC 7162 §3.1.3: the new MODSEQ is told even then.
            uid = b"UID %d " % entry.uid if command.by_uid else b""
            session.send(b"* %d FETCH (%bMODSEQ (%d))\r\n" % (sequence, uid, entry.modseq))
        else:
            session.send(
                flags_line(
                    sequence,
                    entry,
                    with_uid=command.by_uid,
                    with_modseq=session.has_condstore,
                )
            )
        await session.flush_if_large()


def _numbers(session: Session, uids: Sequence[Uid], by_uid: bool) -> str:
    view = session.selected.view
    numbers = uids if by_uid else [view.sequence_of(uid) for uid in uids]
    return format_set(numbers).decode("ascii")


async def expunge(session: Session, tag: bytes, command: Expunge) -> bytes:
    """EXPUNGE, UID EXPUNGE; the server loop tells the EXPUNGE lines as news."""
    selection = session.selected
    if selection.is_read_only:
        return READ_ONLY.to(tag)
    uids = None
    if command.uids is not None:
        uids = session.selected.resolve(command.uids, by_uid=True)
    changes = await session.services.store.expunge(selection.mailbox.id, uids)
    selection.is_dirty = True
    modseq = changes.highest_modseq
    return ok(tag, "Expunge completed", f"HIGHESTMODSEQ {modseq}" if session.has_condstore else "")


async def copy(session: Session, tag: bytes, command: Copy) -> bytes:
    """COPY, MOVE and their UID forms."""
    selection = session.selected
    if command.move and selection.is_read_only:
        return READ_ONLY.to(tag)
    uids = session.selected.resolve(command.messages, command.by_uid)
    if uids is None:
        return BAD_NUMBER.to(tag)
    done = "Move completed" if command.move else "Copy completed"
    if not uids:
        return ok(tag, done)
    if not await takes_keywords(session, command.mailbox, await _keywords_of(session, uids)):
        return PROBLEMS[MailboxProblem.LIMIT].to(tag)
    change = session.services.change_mailbox
    run = change.move if command.move else change.copy
    receipt = await run(selection.mailbox.id, uids, session.account.id, command.mailbox)
    if isinstance(receipt, MailboxProblem):
        return PROBLEMS[receipt].to(tag)
    if not receipt.source:
        return ok(tag, done)
    selection.is_dirty = True
    if session.notifier is not None:
        await session.notifier.own_arrivals(command.mailbox, receipt.destination, 1)
    if command.move:
        # RFC 6851 §4.3: COPYUID first, so that the client knows what the EXPUNGEs are.
        session.send(untagged_ok("Moved", _copyuid(receipt)))
        if not session.has_qresync:
            return ok(tag, done)
        await session.tell_news(Permit.ALL, is_own=True)
        return ok(tag, done, f"HIGHESTMODSEQ {selection.view.modseq}")
    return ok(tag, done, _copyuid(receipt))


async def _keywords_of(session: Session, uids: Sequence[Uid]) -> set[str]:
    mailbox = session.selected.mailbox
    if not mailbox.keywords():
        return set()
    await mailbox.load(uids)
    entries = (mailbox.entry(uid) for uid in uids)
    return {flag for entry in entries if entry is not None for flag in entry.flags}


def _copyuid(receipt: CopyReceipt) -> str:
    source, destination = format_set(receipt.source), format_set(receipt.destination)
    return f"COPYUID {receipt.uid_validity} {source.decode()} {destination.decode()}"
