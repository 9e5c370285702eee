"""APPEND: one message streams from the connection into a collector.

The size is judged before the client is told to go on, the content by the same gate as any other
door (spec mail 4.4, contract 3). Nothing is stored before the literal is complete.
"""

from __future__ import annotations

import re
from typing import Final

from chatmail.adapters.imap.mailbox import takes_keywords
from chatmail.adapters.imap.replies import PROBLEMS, REFUSALS, UNAVAILABLE, Reply
from chatmail.adapters.imap.services import MessageCollector
from chatmail.adapters.imap.session import TRANSFER_S, Farewell, Session
from chatmail.domain.model.errors import MailboxGone, TransientFailure
from chatmail.domain.model.mailbox import MailboxInfo
from chatmail.domain.model.message import Door
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.ports.mailstore import MailboxProblem
from chatmail.domain.wire.imap.commands import AppendBegin
from chatmail.domain.wire.imap.events import AppendChunk, AppendEnd, Rejected
from chatmail.domain.wire.imap.responses import bye, ok

CHUNK_OCTETS: Final = 64 * 1024
_LONE_LF: Final = re.compile(rb"(?<!\r)\n")
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


async def append(session: Session, tag: bytes, command: AppendBegin) -> bytes:
    """APPEND from its literal on."""
    try:
        target = await session.services.store.info(session.account.id, command.mailbox)
        refusal = await _refuse_early(session, command, target)
    except TransientFailure:
        target, refusal = None, UNAVAILABLE
    if target is None or refusal is not None:
        session.send((refusal or PROBLEMS[MailboxProblem.TRY_CREATE]).to(tag))
        if not session.machine.refuse_append():
            raise Farewell(_BYE_TOO_BIG)
        return b""
    session.send(session.machine.accept_append())
    limit = session.services.settings().limits.max_message_bytes
    async with session.services.collect(Door.APPEND, limit) as message:
        is_kept = await _receive(session, message)
        if is_kept is None:
            return b""
        if not is_kept:
            return UNAVAILABLE.to(tag)
        return await _store(session, tag, command, target, message)


async def _refuse_early(
    session: Session, command: AppendBegin, target: MailboxInfo | None
) -> Reply | None:
    if target is None:
        return PROBLEMS[MailboxProblem.TRY_CREATE]
    limits = session.services.settings().limits
    if command.size > limits.max_message_bytes:
        return REFUSALS[RefusalReason.TOO_BIG]
    used = await session.services.store.usage(session.account.id)
    if used + command.size > limits.max_mailbox_bytes:  # spec mail 4.4: APPEND never trims
        return PROBLEMS[MailboxProblem.OVER_QUOTA]
    if not await takes_keywords(session, command.mailbox, command.flags):
        return PROBLEMS[MailboxProblem.LIMIT]
    return None


async def _receive(session: Session, message: MessageCollector) -> bool | None:
    """Feed the literal; False: it could not be kept. None: the command was refused at its end."""
    lines = LineEnds()
    is_kept = True
    while True:
        event = await session.next_event(TRANSFER_S)
        match event:
            case AppendChunk():
                is_kept = is_kept and await _feed(message, lines.convert(event.octets))
            case AppendEnd():
                return is_kept
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


async def _store(
    session: Session,
    tag: bytes,
    command: AppendBegin,
    target: MailboxInfo,
    message: MessageCollector,
) -> bytes:
    services = session.services
    date_s = command.internal_date_s
    try:
        outcome = await services.append(
            session.account,
            target,
            frozenset(command.flags),
            int(services.clock.now_s()) if date_s is None else date_s,
            message,
        )
    except MailboxGone:
        return PROBLEMS[MailboxProblem.TRY_CREATE].to(tag)
    if isinstance(outcome, Refuse):
        return REFUSALS[outcome.reason].to(tag)
    if session.selection is not None:
        session.selection.is_dirty = True
    return ok(tag, "Append completed", f"APPENDUID {outcome.uid_validity} {outcome.uid}")
