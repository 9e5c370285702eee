"""One IMAP connection: stream to machine to handlers and back, in one task.

Replies gather until the input is used up or a handler waits, and leave in one write. Trouble in a
command whose NO a client would take for success ends the connection (traps T1, T11).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import trio

from chatmail.adapters.imap.append import append
from chatmail.adapters.imap.fetch import fetch
from chatmail.adapters.imap.idle import idle
from chatmail.adapters.imap.login import (
    authenticate,
    capability_code,
    compress,
    enable,
    login,
    start_tls,
    tell_capability,
    tell_id,
    tell_namespace,
)
from chatmail.adapters.imap.mailbox import (
    close,
    create,
    delete,
    list_mailboxes,
    noop,
    rename,
    select,
    subscribe,
    tell_status,
)
from chatmail.adapters.imap.metadata import (
    get_metadata,
    get_quota,
    get_quota_root,
    set_metadata,
    set_quota,
)
from chatmail.adapters.imap.notify import notify
from chatmail.adapters.imap.own_time import own_time
from chatmail.adapters.imap.replies import BYE_MAILBOX_DELETED, BYE_UNAVAILABLE, UNAVAILABLE
from chatmail.adapters.imap.search import run_search
from chatmail.adapters.imap.services import ByteStream, ImapServices
from chatmail.adapters.imap.session import Session
from chatmail.adapters.imap.store import copy, expunge, store
from chatmail.adapters.imap.waits import Farewell
from chatmail.adapters.net.errors import PeerGone
from chatmail.adapters.system.redaction import Public
from chatmail.domain.model.errors import MailboxGone, RemoteProtocolError, TransientFailure
from chatmail.domain.wire.imap import commands
from chatmail.domain.wire.imap.events import CommandReceived, ContinuationWanted, Rejected
from chatmail.domain.wire.imap.responses import bye, ok, untagged_ok
from chatmail.domain.wire.imap.resync import names_numbers
from chatmail.domain.wire.imap.view import Permit

FAREWELL_S: Final = 5.0

Handler: TypeAlias = Callable[[Session, bytes, Any], Awaitable[bytes]]


async def _log_out(session: Session, tag: bytes, command: commands.Logout) -> bytes:
    raise Farewell(bye("Logging out") + ok(tag, "Logout completed"))


HANDLERS: Final[Mapping[type, Handler]] = {
    commands.Capability: tell_capability,
    commands.Noop: noop,
    commands.Logout: _log_out,
    commands.Id: tell_id,
    commands.StartTls: start_tls,
    commands.Login: login,
    commands.Authenticate: authenticate,
    commands.Enable: enable,
    commands.Namespace: tell_namespace,
    commands.Select: select,
    commands.Create: create,
    commands.Delete: delete,
    commands.Rename: rename,
    commands.Subscribe: subscribe,
    commands.List: list_mailboxes,
    commands.Status: tell_status,
    commands.GetQuotaRoot: get_quota_root,
    commands.GetQuota: get_quota,
    commands.SetQuota: set_quota,
    commands.GetMetadata: get_metadata,
    commands.SetMetadata: set_metadata,
    commands.Compress: compress,
    commands.Idle: idle,
    commands.Notify: notify,
    commands.AppendBegin: append,
    commands.Close: close,
    commands.Expunge: expunge,
    commands.Fetch: fetch,
    commands.Store: store,
    commands.Copy: copy,
    commands.Search: run_search,
}

# What a client makes of NO here: "no messages", "deleted", "folder is gone" (spec mail 3.5).
_NEVER_NO: Final = frozenset(
    (
        commands.Fetch,
        commands.Store,
        commands.Select,
        commands.Close,
        commands.Expunge,
        commands.Copy,
        commands.Noop,
        commands.Idle,
    )
)


async def serve_connection(stream: ByteStream, services: ImapServices) -> None:
    """Speak IMAP on one stream until the peer leaves, errs, or the server drains.

    Cancellation:  safe at every await; an unfinished APPEND is dropped with its spool.
    """
    scope = trio.CancelScope()
    session = Session(stream, services, scope)
    last = b""
    try:
        with services.drain.subscribe(session.drain), scope:
            await own_time(session, _converse(session))
        if not session.is_waiting:
            return  # ended inside a command: what was written last may be torn
        last = session.farewell()
    except Farewell as farewell:
        last = farewell.octets
    except (PeerGone, RemoteProtocolError):
        return
    finally:
        session.leave()
    await _say(session, last)


async def _say(session: Session, last: bytes) -> None:
    """Send the last words behind whole replies only, and not for long."""
    if session.is_in_literal:
        return
    octets = session.take_output() + last
    if not octets or session.stream.send_now(octets):
        return  # nearly always: a scope would cost more than the write
    with trio.move_on_after(FAREWELL_S):
        try:
            await session.stream.send_all(b"")
        except PeerGone:
            return


async def _converse(session: Session) -> None:
    session.send(untagged_ok("IMAP ready", capability_code(session)))
    await session.flush()
    while True:
        match await session.next_event():
            case CommandReceived(tag, command):
                reply = await _execute(session, tag, command)
                session.send(reply)
                if reply.startswith(b" BAD ", len(tag)):
                    session.count_bad()
            case ContinuationWanted(octets):
                session.send(octets)
                await session.flush()
            case Rejected(octets, is_last):
                session.send(octets)
                if is_last:
                    raise Farewell
            case _:
                raise AssertionError("this event belongs to a handler")


async def _execute(session: Session, tag: bytes, command: commands.Command) -> bytes:
    kind = type(command)
    reply = b""
    try:
        reply = await HANDLERS[kind](session, tag, command)
        selection = session.selection
        if kind is commands.Fetch and session.is_pushed_to:
            # They follow at once; interimap forgets an EXISTS that it reads inside a FETCH.
            session.wake_notifier()
        elif selection is not None and (selection.is_dirty or kind is commands.Noop):
            permit = _permit(command, has_qresync=session.has_qresync)
            await session.tell_news(
                permit, with_uid=kind is commands.Noop, is_own=_expunges(command)
            )
        if session.has_qresync:
            session.cover_held_news()
        return reply
    except MailboxGone:
        # A command that was not about the mailbox keeps its reply: what was done was done.
        done = b"" if kind in _NEVER_NO else reply
        raise Farewell(done + BYE_MAILBOX_DELETED) from None
    except TransientFailure:
        session.services.log.warning("imap_command_failed", command=Public(kind.__name__))
        if kind in _NEVER_NO:
            raise Farewell(BYE_UNAVAILABLE) from None
        return UNAVAILABLE.to(tag)


def _expunges(command: commands.Command) -> bool:
    """Say whether the client waits for EXPUNGE or VANISHED, whatever it told NOTIFY."""
    return isinstance(command, commands.Expunge) or (
        isinstance(command, commands.Copy) and command.move
    )


def _permit(command: commands.Command, *, has_qresync: bool) -> Permit:
    """Say which news may go into the reply to a command (RFC 3501 §7.4.1; spec mail 4.6).

    A client that uses QRESYNC counts by UID: only commands with message numbers hold news back
    (RFC 7162 §3.2.10.2).
    """
    if isinstance(command, commands.Fetch):
        return Permit.ALL if has_qresync and command.by_uid else Permit.ARRIVALS
    if isinstance(command, commands.Search):
        if has_qresync and names_numbers(command.key):
            return Permit.ARRIVALS
        return Permit.ALL if command.by_uid else Permit.ARRIVALS
    if isinstance(command, commands.Store):
        return Permit.ALL if has_qresync and command.by_uid else Permit.FLAGS
    return Permit.ALL
