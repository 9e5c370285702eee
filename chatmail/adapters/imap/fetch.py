"""FETCH: one line per message, ascending; bodies stream, small ones are read in batches.

A body that cannot be read ends the connection: any other answer makes core skip the message for
ever (trap T1). A message that another session expunged meanwhile is left out.
Memory: a batch holds at most about 96 KiB of content, a streamed body one piece of 128 KiB.
Source:  RFC 3501 §6.4.5; spec mail 4.4 (FETCH), 4.6 rule 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chatmail.adapters.imap.binary import (
    UNKNOWN_CTE,
    Measured,
    UnknownEncoding,
    measure,
    tell_binary,
)
from chatmail.adapters.imap.pace import Pace
from chatmail.adapters.imap.replies import BAD_NUMBER
from chatmail.adapters.imap.resync import tell_vanished
from chatmail.adapters.imap.session import Session
from chatmail.adapters.imap.waits import Farewell
from chatmail.domain.formats.mime_structure import Part, StructureScanner
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.mailbox import SEEN, MailboxEntry, Uid
from chatmail.domain.ports.mailstore import FlagOperation
from chatmail.domain.wire.imap.commands import BodySection, Fetch
from chatmail.domain.wire.imap.fetch import (
    CLOSE_LINE,
    STRUCTURES,
    FetchPlan,
    cut_range,
    is_selection,
    open_line,
    plan_fetch,
    section_head,
    section_range,
    select_header,
)
from chatmail.domain.wire.imap.responses import bad, ok
from chatmail.domain.wire.imap.structure import header_envelope, structure_pieces

BATCH_OCTETS: Final = 96 * 1024
BATCH_MESSAGES: Final = 64
PIECE_OCTETS: Final = 128 * 1024
SCAN_OCTETS: Final = 64 * 1024
STEP_OCTETS: Final = 8 * 1024
"""Octets whose structure is looked at in one go: a hostile message costs 4 ms for them."""
TURN: Final = 32
"""Lines between two looks at the clock, of about 10 µs each."""
LOADED_AT_ONCE: Final = 1024
"""UIDs whose entries are asked of the store together."""

Wanted = tuple[MailboxEntry, int, int]
Batch = list[tuple[MailboxEntry, list[Wanted]]]


async def fetch(session: Session, tag: bytes, command: Fetch) -> bytes:
    """FETCH, UID FETCH."""
    if command.vanished and not session.has_qresync:
        return bad(tag, "QRESYNC is not enabled")
    selection = session.selected
    uids = selection.resolve(command.messages, command.by_uid)
    if uids is None:
        return BAD_NUMBER.to(tag)
    if uids and uids[-1] > selection.known:
        selection.known = uids[-1]
    if command.changed_since is not None or "MODSEQ" in command.attributes:
        session.has_condstore = True
    if command.vanished:
        await tell_vanished(session, command.messages, command.changed_since or 0)
    run = _Run(session, plan_fetch(command, with_modseq=session.has_condstore))
    try:
        await run.all(uids, command.changed_since)
    except UnknownEncoding:  # asked for by BINARY alone, so no client of trap T1 reads this NO
        return UNKNOWN_CTE.to(tag)
    return ok(tag, "Fetch completed")


async def fetch_entries(session: Session, plan: FetchPlan, uids: Sequence[Uid]) -> None:
    """Queue FETCH lines of messages in the view."""
    await _Run(session, plan).all(uids, None)


class _Run:
    """One FETCH being answered."""

    __slots__ = ("_batch", "_batch_octets", "_pace", "_plan", "_session", "_store", "_writes_seen")

    def __init__(self, session: Session, plan: FetchPlan) -> None:
        self._session = session
        self._plan = plan
        self._store = session.services.store
        self._pace = Pace(session)
        self._writes_seen = plan.sets_seen and not session.selected.is_read_only
        self._batch: Batch = []
        self._batch_octets = 0

    async def all(self, uids: Sequence[Uid], changed_since: int | None) -> None:
        mailbox = self._session.selected.mailbox
        for looked, uid in enumerate(uids):
            if looked % TURN == 0:
                await self._pace.tick()
            if looked % LOADED_AT_ONCE == 0:
                await mailbox.load(uids[looked : looked + LOADED_AT_ONCE])
            entry = mailbox.entry(uid)
            if entry is None or (changed_since is not None and entry.modseq <= changed_since):
                continue
            await self._add(entry)
        await self._finish_batch()

    async def _add(self, entry: MailboxEntry) -> None:
        if not self._plan.needs_content:
            await self._line(entry, ())
            return
        if self._plan.needs_tree:
            await self._alone(entry)
            return
        reads = self._reads(entry)
        octets = sum(length for _, _, length in reads)
        if self._batch_octets + octets > BATCH_OCTETS or len(self._batch) >= BATCH_MESSAGES:
            await self._finish_batch()
        if octets > BATCH_OCTETS:
            await self._alone(entry)
            return
        self._batch.append((entry, reads))
        self._batch_octets += octets

    def _reads(self, entry: MailboxEntry) -> list[Wanted]:
        """Return what has to be read for a message without looking at its parts."""
        reads = []
        if self._plan.needs_envelope:
            reads.append((entry, 0, entry.header_size))
        for section in self._plan.sections:
            span = section_range(section, entry, None) or (0, 0)
            reads.append((entry, *(span if is_selection(section) else cut_range(section, *span))))
        return reads

    # --- small messages --------------------------------------------------------------------------

    async def _finish_batch(self) -> None:
        batch, self._batch, self._batch_octets = self._batch, [], 0
        if not batch:
            return
        await self._pace.tick()
        batch, contents = await self._read_batch(batch)
        changed = await self._mark_seen([entry for entry, _ in batch])
        at = 0
        for entry, reads in batch:
            await self._line(entry, contents[at : at + len(reads)], changed.get(entry.uid))
            at += len(reads)
            if self._plan.needs_envelope:  # the one item that takes its time
                await self._pace.tick()

    async def _read_batch(self, batch: Batch) -> tuple[Batch, list[bytes]]:
        while True:
            wanted = [read for _, reads in batch for read in reads]
            try:
                return batch, await self._store.read_many(wanted)
            except TransientFailure:
                present = [(entry, reads) for entry, reads in batch if self._is_there(entry)]
                if len(present) == len(batch):
                    raise
                batch = present

    def _is_there(self, entry: MailboxEntry) -> bool:
        return self._session.selected.mailbox.entry(entry.uid) is not None

    async def _mark_seen(self, entries: Sequence[MailboxEntry]) -> dict[Uid, MailboxEntry]:
        """Set \\Seen where reading says so; return the entries that changed."""
        if not self._writes_seen:
            return {}
        unseen = [entry.uid for entry in entries if SEEN not in entry.flags]
        if not unseen:
            return {}
        selection = self._session.selected
        outcome = await self._store.set_flags(
            selection.mailbox.id, unseen, FlagOperation.ADD, frozenset((SEEN,))
        )
        selection.view.tell(outcome.entries)
        return {entry.uid: entry for entry in outcome.entries}

    async def _line(
        self,
        entry: MailboxEntry,
        contents: Sequence[bytes],
        changed: MailboxEntry | None = None,
    ) -> None:
        """Queue a whole line; `contents` as `_reads` ordered them."""
        session, plan = self._session, self._plan
        computed = None
        if plan.needs_envelope:
            computed = {"ENVELOPE": header_envelope(contents[0])}
            contents = contents[1:]
        opening = self._opening(entry, changed, computed)
        session.send(opening)
        is_first = opening.endswith(b"(")
        for section, content in zip(plan.sections, contents, strict=True):
            octets = select_header(section, content) if is_selection(section) else content
            session.send(section_head(section, len(octets), is_first=is_first))
            session.send(octets)
            is_first = False
        session.send(CLOSE_LINE)
        await session.flush_if_large()

    def _opening(
        self,
        entry: MailboxEntry,
        changed: MailboxEntry | None,
        computed: dict[str, bytes] | None,
    ) -> bytes:
        attributes = self._plan.attributes
        if changed is not None:  # RFC 3501 §6.4.5: a \Seen that reading sets is told at once
            entry = changed
            if "FLAGS" not in attributes:
                attributes = (*attributes, "FLAGS")
                if self._session.has_condstore and "MODSEQ" not in attributes:
                    attributes = (*attributes, "MODSEQ")
        if "EMAILID" in attributes:
            computed = {**(computed or {}), "EMAILID": self._email_id(entry)}
        sequence = self._session.selected.view.sequence_of(entry.uid)
        return open_line(sequence, entry, attributes, computed)

    def _email_id(self, entry: MailboxEntry) -> bytes:
        session = self._session
        email_id = session.services.object_ids.email(session.account.id, entry)
        return b"(%b)" % email_id.encode("ascii")

    # --- large messages, and those whose parts are asked for -------------------------------------

    async def _alone(self, entry: MailboxEntry) -> None:
        try:
            tree = await self._tree(entry) if self._plan.needs_tree else None
            computed = await self._computed(entry, tree)
            measured = await self._measured(entry, tree)
            first = await self._first_piece(entry, tree)
        except TransientFailure:
            if self._is_there(entry):
                raise
            return
        changed = (await self._mark_seen((entry,))).get(entry.uid)
        opening = self._opening(entry, changed, computed)
        self._session.send(opening)
        is_first = opening.endswith(b"(")
        for section in self._plan.sections:
            if section.is_binary and tree is not None:
                told = measured[section]
                await tell_binary(self._session, section, entry, tree, told, is_first=is_first)
            else:
                await self._stream(section, entry, tree, first, is_first)
            first, is_first = b"", False
        self._session.send(CLOSE_LINE)
        await self._session.flush_if_large()

    async def _measured(
        self, entry: MailboxEntry, tree: Part | None
    ) -> dict[BodySection, Measured | None]:
        """Decode what BINARY asks for, so that trouble shows before the line begins."""
        if tree is None:
            return {}
        return {
            section: await measure(self._session, section, entry, tree)
            for section in self._plan.sections
            if section.is_binary
        }

    async def _computed(self, entry: MailboxEntry, tree: Part | None) -> dict[str, bytes]:
        computed = {}
        if self._plan.needs_envelope:
            header = await self._store.read(entry, 0, entry.header_size)
            computed["ENVELOPE"] = header_envelope(header)
        for name in STRUCTURES.intersection(self._plan.attributes):
            if tree is not None:
                computed[name] = await self._structure(tree, extended=name == "BODYSTRUCTURE")
        return computed

    async def _structure(self, tree: Part, *, extended: bool) -> bytes:
        pieces = []
        for piece in structure_pieces(tree, extended=extended):
            pieces.append(piece)
            await self._pace.tick()
        return b"".join(pieces)

    async def _first_piece(self, entry: MailboxEntry, tree: Part | None) -> bytes:
        """Read the start of the first section, so that trouble shows before the line begins."""
        if not self._plan.sections:
            return b""
        section = self._plan.sections[0]
        if section.is_binary:
            return b""
        span = section_range(section, entry, tree)
        if span is None:
            return b""
        offset, length = span if is_selection(section) else cut_range(section, *span)
        if not is_selection(section):
            length = min(length, PIECE_OCTETS)
        return await self._store.read(entry, offset, length)

    async def _stream(
        self,
        section: BodySection,
        entry: MailboxEntry,
        tree: Part | None,
        first: bytes,
        is_first: bool,
    ) -> None:
        session = self._session
        span = section_range(section, entry, tree)
        if span is None:
            session.send(section_head(section, None, is_first=is_first))
            return
        if is_selection(section):
            header = first or await self._store.read(entry, *span)
            octets = select_header(section, header)
            session.send(section_head(section, len(octets), is_first=is_first))
            session.send(octets)
            return
        offset, length = cut_range(section, *span)
        session.send(section_head(section, length, is_first=is_first))
        session.is_in_literal = True
        while length:
            piece = first or await self._store.read(entry, offset, min(length, PIECE_OCTETS))
            first = b""
            if not piece:
                raise Farewell  # shorter than its index entry: the line cannot be completed
            session.send(piece)
            offset += len(piece)
            length -= len(piece)
            await session.flush_if_large()
        session.is_in_literal = False

    async def _tree(self, entry: MailboxEntry) -> Part:
        """Return the part tree of a message; the last one is kept, clients ask part by part."""
        session = self._session
        if session.tree is not None and session.tree[0] is entry.blob:
            return session.tree[1]
        scanner = StructureScanner()
        for offset in range(0, entry.size, SCAN_OCTETS):
            chunk = await self._store.read(entry, offset, SCAN_OCTETS)
            for start in range(0, len(chunk), STEP_OCTETS):
                scanner.feed(chunk[start : start + STEP_OCTETS])
                await self._pace.tick()
        tree = scanner.finish()
        session.tree = (entry.blob, tree)
        return tree
