"""Commands about mailboxes as wholes: SELECT, CLOSE, LIST, STATUS, CREATE and its kin.

Source:  spec mail 4.4; RFC 3501 §6.3, RFC 5258, RFC 5819, RFC 6154.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from chatmail.adapters.imap.replies import NO_SUCH_MAILBOX, PROBLEMS
from chatmail.adapters.imap.resync import missed_by, tell_missed
from chatmail.adapters.imap.selection import Selection
from chatmail.adapters.imap.session import Session
from chatmail.domain.model.mailbox import DELIMITER, INBOX, MailboxInfo
from chatmail.domain.ports.mailstore import MailboxProblem
from chatmail.domain.usecases.change_mailbox import has_room_for_keywords
from chatmail.domain.wire.imap.commands import (
    Close,
    Create,
    Delete,
    List,
    Noop,
    Rename,
    Select,
    Status,
    Subscribe,
)
from chatmail.domain.wire.imap.listing import Named, hierarchy, true_attributes
from chatmail.domain.wire.imap.mailbox_name import matches
from chatmail.domain.wire.imap.responses import bad, listed, ok, selected, status, untagged_ok
from chatmail.domain.wire.imap.view import SelectedView


async def noop(session: Session, tag: bytes, command: Noop) -> bytes:
    """NOOP, CHECK: the server loop tells the news before every tagged reply."""
    await session.touch_daily()  # all that some clients send for weeks
    return ok(tag, f"{command.name} completed")


async def select(session: Session, tag: bytes, command: Select) -> bytes:
    """SELECT, EXAMINE. Constant cost: core selects after every message (spec mail 4.4)."""
    if command.qresync is not None and not session.has_qresync:
        return bad(tag, "QRESYNC is not enabled")
    is_rev2 = session.machine.is_rev2
    if session.selection is not None and (session.has_qresync or is_rev2):
        # RFC 7162 §3.2.11, RFC 9051 §6.3.2: what follows is about the next mailbox.
        session.send(untagged_ok("Previous mailbox is closed", "CLOSED"))
    if session.selection is not None and session.notifier is not None:
        session.notifier.leave_selected(session.selection.view.modseq)
    session.deselect()
    await session.touch_daily()
    mailbox = await session.services.store.open(session.account.id, command.mailbox)
    if mailbox is None:
        return NO_SUCH_MAILBOX.to(tag)
    session.has_condstore = session.has_condstore or command.condstore
    missed = None if command.qresync is None else await missed_by(mailbox, command.qresync)
    # Nothing awaits from here to the reply: the counters and the view are of one instant, and
    # what is committed afterwards sets the flag.
    info = mailbox.info()
    uids, count = mailbox.uids()
    unseen = mailbox.first_unseen()
    view = SelectedView(uids, count, info.highest_modseq, info.uid_next)
    session.select(Selection(mailbox, view, is_read_only=command.read_only))
    session.send(
        selected(
            info,
            first_unseen=0 if unseen is None else view.sequence_of(unseen),
            keywords=mailbox.keywords(),
            read_only=command.read_only,
            is_rev2=is_rev2,
        )
    )
    session.send(untagged_ok("Mailbox id", mailbox_id_code(session, info)))
    if is_rev2:
        await _tell_listed(session, info)
    if missed is not None and command.qresync is not None:
        await tell_missed(session, missed, command.qresync)
    if command.read_only:
        return ok(tag, "Examine completed", "READ-ONLY")
    return ok(tag, "Select completed", "READ-WRITE")


async def close(session: Session, tag: bytes, command: Close) -> bytes:
    """CLOSE expunges without a word, UNSELECT does not; both leave the mailbox."""
    selection = session.selected
    told = selection.view.modseq
    if command.expunge and not selection.is_read_only and selection.mailbox.info().deleted:
        changes = await session.services.store.expunge(selection.mailbox.id, None)
        if changes.highest_modseq == told + 1:  # nobody else has changed anything
            told = changes.highest_modseq
    if session.notifier is not None:
        session.notifier.leave_selected(told)
    session.deselect()
    return ok(tag, "Close completed" if command.expunge else "Unselect completed")


async def create(session: Session, tag: bytes, command: Create) -> bytes:
    """CREATE."""
    problem = await session.services.change_mailbox.create(
        session.account.id, command.mailbox, command.special_use
    )
    if problem is not None:
        return PROBLEMS[problem].to(tag)
    session.announce(command.mailbox)
    info = await session.services.store.info(session.account.id, command.mailbox)
    code = "" if info is None else mailbox_id_code(session, info)  # None: it went at once
    return ok(tag, "Create completed", code)


def mailbox_id_code(session: Session, info: MailboxInfo) -> str:
    """Return the response code that names a mailbox for good (RFC 8474 §4)."""
    return f"MAILBOXID ({session.services.object_ids.mailbox(info)})"


async def delete(session: Session, tag: bytes, command: Delete) -> bytes:
    """DELETE; a session that has the mailbox selected itself is in no mailbox afterwards."""
    selection = session.selection
    is_own = selection is not None and selection.mailbox.name == command.mailbox
    problem = await session.services.change_mailbox.delete(session.account.id, command.mailbox)
    if is_own and problem is None:
        session.deselect()
    return _answer(session, tag, problem, "Delete completed", command.mailbox)


async def rename(session: Session, tag: bytes, command: Rename) -> bytes:
    """RENAME."""
    problem = await session.services.change_mailbox.rename(
        session.account.id, command.old, command.new
    )
    return _answer(session, tag, problem, "Rename completed", command.old, command.new)


async def subscribe(session: Session, tag: bytes, command: Subscribe) -> bytes:
    """SUBSCRIBE, UNSUBSCRIBE. Forgetting a mailbox that is gone is no error (RFC 3501 §6.3.7)."""
    exists = await session.services.change_mailbox.subscribe(
        session.account.id, command.mailbox, command.subscribed
    )
    if command.subscribed and not exists:
        return NO_SUCH_MAILBOX.to(tag)
    session.announce(command.mailbox)
    return ok(tag, "Subscribe completed" if command.subscribed else "Unsubscribe completed")


async def takes_keywords(session: Session, name: str, flags: Iterable[str]) -> bool:
    """Say whether a mailbox may take messages with these flags; a missing one is not our matter."""
    keywords = [flag for flag in flags if not flag.startswith("\\")]
    if not keywords:
        return True
    mailbox = await session.services.store.open(session.account.id, name)
    if mailbox is None:
        return True
    try:
        return has_room_for_keywords(mailbox.keywords(), keywords)
    finally:
        mailbox.close()


def _answer(
    session: Session, tag: bytes, problem: MailboxProblem | None, done: str, *names: str
) -> bytes:
    """Answer a command that has changed `names`, if it has."""
    if problem is not None:
        return PROBLEMS[problem].to(tag)
    session.announce(*names)
    return ok(tag, done)


async def tell_status(session: Session, tag: bytes, command: Status) -> bytes:
    """STATUS, from counters alone."""
    info = await session.services.store.info(session.account.id, command.mailbox)
    if info is None:
        return NO_SUCH_MAILBOX.to(tag)
    if "HIGHESTMODSEQ" in command.items:  # RFC 7162 §3.1: this switches CONDSTORE on
        session.has_condstore = True
    return _status(session, info, command.items) + ok(tag, "Status completed")


def _status(session: Session, info: MailboxInfo, items: Sequence[str]) -> bytes:
    services = session.services
    limit = services.settings().limits.max_message_bytes
    mailbox_id = services.object_ids.mailbox(info) if "MAILBOXID" in items else ""
    return status(info, items, limit, mailbox_id, is_utf8=session.machine.is_utf8)


# --- LIST, LSUB ------------------------------------------------------------------------------


async def list_mailboxes(session: Session, tag: bytes, command: List) -> bytes:
    """LIST with its extensions, and LSUB."""
    kind = b"LSUB" if command.is_lsub else b"LIST"
    done = ok(tag, f"{kind.decode('ascii').capitalize()} completed")
    if command.patterns == ("",) and not command.is_extended:
        # RFC 3501 §6.3.8: the empty name asks for the delimiter.
        return listed(kind, ("\\Noselect",), "") + done
    command = attrs.evolve(command, is_extended=True) if session.machine.is_rev2 else command
    is_utf8 = session.machine.is_utf8
    infos = await session.services.store.list(session.account.id)
    known = hierarchy(infos)
    for named in _ordered(known):
        if not _is_wanted(named, command):
            continue
        has_hit_below = command.recursive_match and _has_subscribed_child(named, known)
        is_parent = _tells_lsub_parents(command) and _has_subscribed_child(named, known)
        if not (_is_selected(named, command) or has_hit_below or is_parent):
            continue
        attributes = _attributes(named, command)
        session.send(listed(kind, attributes, named.name, has_hit_below, is_utf8=is_utf8))
        if command.return_status and named.info is not None:
            session.send(_status(session, named.info, command.return_status))
    return done


async def _tell_listed(session: Session, info: MailboxInfo) -> None:
    """Tell the LIST line of one mailbox, as SELECT does for IMAP4rev2 (RFC 9051 §6.3.2)."""
    known = hierarchy(await session.services.store.list(session.account.id))
    attributes = true_attributes(known.get(info.name) or Named(info.name, info, False))
    session.send(listed(b"LIST", attributes, info.name, is_utf8=session.machine.is_utf8))


def _ordered(known: Mapping[str, Named]) -> list[Named]:
    return sorted(known.values(), key=lambda named: (named.name != INBOX, named.name))


def _is_wanted(named: Named, command: List) -> bool:
    return any(matches(command.reference + pattern, named.name) for pattern in command.patterns)


def _is_selected(named: Named, command: List) -> bool:
    if (command.select_subscribed or command.is_lsub) and not named.is_subscribed:
        return False
    return not command.select_special_use or named.special_use is not None


def _has_subscribed_child(named: Named, known: Mapping[str, Named]) -> bool:
    below = named.name + DELIMITER
    return any(other.is_subscribed and other.name.startswith(below) for other in known.values())


def _tells_lsub_parents(command: List) -> bool:
    # RFC 3501 §6.3.9: `LSUB "" %` shows foo when only foo/bar is subscribed.
    return command.is_lsub and any(pattern.endswith("%") for pattern in command.patterns)


def _attributes(named: Named, command: List) -> list[str]:
    attributes = []
    if named.info is None or (command.is_lsub and not named.is_subscribed):
        attributes.append("\\Noselect")
        if command.is_extended:
            attributes.append("\\NonExistent")
    attributes.append("\\HasChildren" if named.has_children else "\\HasNoChildren")
    if named.is_subscribed and (command.return_subscribed or command.select_subscribed):
        attributes.append("\\Subscribed")
    if named.special_use is not None and not command.is_lsub:
        attributes.append(named.special_use)
    return attributes
