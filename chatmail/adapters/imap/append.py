"""APPEND: messages stream from the connection into collectors and are stored together.

The size is judged before the client is told to go on, the content by the same gate as any other
door (spec mail 4.4, contract 3). Nothing is stored before the last literal is complete, and then
all of it in one commit (RFC 3502).
Memory: one message up to 256 KiB, the first of several up to 2 MiB together; others are spooled.
"""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final

import attrs

from chatmail.adapters.imap.mailbox import takes_keywords
from chatmail.adapters.imap.replies import PROBLEMS, REFUSALS, UNAVAILABLE, Reply
from chatmail.adapters.imap.services import MessageCollector
from chatmail.adapters.imap.session import Session
from chatmail.adapters.imap.waits import TRANSFER_S, Farewell
from chatmail.domain.model.errors import MailboxGone, TransientFailure
from chatmail.domain.model.mailbox import Flags, MailboxInfo
from chatmail.domain.model.message import Door
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.ports.mailstore import MailboxProblem
from chatmail.domain.wire.imap.commands import AppendBegin
from chatmail.domain.wire.imap.events import AppendChunk, AppendEnd, AppendNext, Rejected
from chatmail.domain.wire.imap.responses import bye, ok
from chatmail.domain.wire.imap.sequence import format_set

CHUNK_OCTETS: Final = 64 * 1024
HELD_OCTETS: Final = 2 * 1024 * 1024
"""What the messages of one command may hold in memory together."""
HELD_OF_ONE: Final = 256 * 1024
MAX_MESSAGES: Final = 1000
MAX_SPOOLED: Final = 64
"""Each is an open file until the commit."""
_LONE_LF: Final = re.compile(rb"(?<!\r)\n")
_TOO_MANY: Final = Reply("LIMIT", "Too many messages in one command")
_BYE_TOO_BIG: Final = bye("Literal is too large", "TOOBIG")


class LineEnds:
    """Turns bare LF into CRLF, across chunks (contract 3: APPEND edits nothing else)."""

    __slots__ = ("_ends_with_cr",)

    def __init__(self) -> None:
        self._ends_with_cr = False

    def convert(self, chunk: bytes) -> bytes:
        """Return the chunk with CRLF line ends; a lone CR stays, for the gate to refuse."""
        completes = self._ends_with_cr and chunk.startswith(b"\n")
        self._ends_with_cr = chunk.endswith(b"\r")
        if chunk.count(b"\n") == chunk.count(b"\r\n") + completes:
            return chunk
        if completes:
            return b"\n" + _LONE_LF.sub(b"\r\n", chunk[1:])
        return _LONE_LF.sub(b"\r\n", chunk)


@attrs.define
class _Upload:
    """The messages of one command so far."""

    mailbox: str
    target: MailboxInfo | None = None
    messages: list[tuple[Flags, int, MessageCollector]] = attrs.field(factory=list)
    announced_octets: int = 0
    keywords: set[str] = attrs.field(factory=set)
    is_kept: bool = True

    @property
    def held_octets(self) -> int:
        """What the messages hold in memory."""
        return sum(message.size for _, _, message in self.messages if not message.is_spooled)

    @property
    def spooled(self) -> int:
        """How many of the messages are on disk."""
        return sum(message.is_spooled for _, _, message in self.messages)


async def append(session: Session, tag: bytes, command: AppendBegin) -> bytes:
    """APPEND from its first literal on; the machine yields one literal after the other."""
    upload = _Upload(command.mailbox)
    offered = AppendNext(command.flags, command.internal_date_s, command.size)
    async with AsyncExitStack() as collectors:
        while True:
            refusal = await _refuse_early(session, upload, offered)
            if refusal is not None:
                return _refuse(session, refusal.to(tag))
            session.send(session.machine.accept_append())
            message = await collectors.enter_async_context(_collect(session, upload))
            end = await _receive(session, upload, message)
            if end is None:
                return b""
            date_s = offered.internal_date_s
            if date_s is None:
                date_s = int(session.services.clock.now_s())
            upload.messages.append((frozenset(offered.flags), date_s, message))
            if isinstance(end, AppendEnd):
                break
            offered = end
        if not upload.is_kept:
            return UNAVAILABLE.to(tag)
        return await _store(session, tag, upload)


def _refuse(session: Session, reply: bytes) -> bytes:
    """Answer before the octets come; the machine throws away those that come all the same."""
    session.send(reply)
    if not session.machine.refuse_append():
        raise Farewell(_BYE_TOO_BIG)
    return b""


async def _refuse_early(session: Session, upload: _Upload, offered: AppendNext) -> Reply | None:
    """Judge what can be judged before a message is sent: its size, room, flags."""
    if not upload.is_kept:
        return UNAVAILABLE
    if len(upload.messages) >= MAX_MESSAGES or upload.spooled >= MAX_SPOOLED:
        return _TOO_MANY
    upload.announced_octets += offered.size
    upload.keywords.update(offered.flags)
    store, account = session.services.store, session.account.id
    limits = session.services.settings().limits
    try:
        if upload.target is None:
            upload.target = await store.info(account, upload.mailbox)
        if upload.target is None:
            return PROBLEMS[MailboxProblem.TRY_CREATE]
        if offered.size > limits.max_message_bytes:
            return REFUSALS[RefusalReason.TOO_BIG]
        # Spec mail 4.4: APPEND never trims.
        if await store.usage(account) + upload.announced_octets > limits.max_mailbox_bytes:
            return PROBLEMS[MailboxProblem.OVER_QUOTA]
        if not await takes_keywords(session, upload.mailbox, upload.keywords):
            return PROBLEMS[MailboxProblem.LIMIT]
    except TransientFailure:
        return UNAVAILABLE
    return None


def _collect(session: Session, upload: _Upload) -> AbstractAsyncContextManager[MessageCollector]:
    limit = session.services.settings().limits.max_message_bytes
    held = min(HELD_OF_ONE, max(0, HELD_OCTETS - upload.held_octets))
    return session.services.collect(Door.APPEND, limit, held)


async def _receive(
    session: Session, upload: _Upload, message: MessageCollector
) -> AppendNext | AppendEnd | None:
    """Feed one literal; returns what follows it. None: the command was refused there."""
    lines = LineEnds()
    while True:
        event = await session.next_event(TRANSFER_S)
        match event:
            case AppendChunk():
                if upload.is_kept:
                    upload.is_kept = await _feed(message, lines.convert(event.octets))
            case AppendNext() | AppendEnd():
                return event
            case Rejected():
                session.send(event.octets)
                if event.close:
                    raise Farewell
                return None
            case _:
                raise AssertionError("the machine is inside APPEND")


async def _feed(message: MessageCollector, octets: bytes) -> bool:
    try:
        for start in range(0, len(octets), CHUNK_OCTETS):  # added CRs may have made it longer
            await message.feed(octets[start : start + CHUNK_OCTETS])
    except TransientFailure:
        return False
    return True


async def _store(session: Session, tag: bytes, upload: _Upload) -> bytes:
    assert upload.target is not None  # noqa: S101  looked up before the first literal
    try:
        outcome = await session.services.append(session.account, upload.target, upload.messages)
    except MailboxGone:
        return PROBLEMS[MailboxProblem.TRY_CREATE].to(tag)
    if isinstance(outcome, Refuse):
        return REFUSALS[outcome.reason].to(tag)
    if session.selection is not None:
        session.selection.is_dirty = True
    if session.notifier is not None:
        landed = [receipt.uid for receipt in outcome]
        await session.notifier.own_arrivals(upload.mailbox, landed, len(landed))
    uids = format_set([receipt.uid for receipt in outcome]).decode("ascii")
    return ok(tag, "Append completed", f"APPENDUID {outcome[0].uid_validity} {uids}")
