"""SEARCH: entries are judged in memory, content is read only where that leaves the question open.

Source:  RFC 3501 §6.4.4, RFC 4731, RFC 7162 §3.1.5; spec mail 4.4.
"""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import Final

from chatmail.adapters.imap.pace import Pace
from chatmail.adapters.imap.replies import BAD_CHARSET, BAD_NUMBER, Reply
from chatmail.adapters.imap.session import Session
from chatmail.domain.formats.mime_structure import StructureScanner
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.mailbox import MailboxEntry
from chatmail.domain.wire.imap.commands import Search
from chatmail.domain.wire.imap.responses import esearch, ok, search
from chatmail.domain.wire.imap.search import (
    Searcher,
    extended_result,
    saved_result,
    uses_modseq,
)
from chatmail.domain.wire.imap.search_content import (
    Content,
    ContentProbe,
    count_texts,
    needs_content,
)
from chatmail.domain.wire.imap.search_keys import (
    SearchAnd,
    SearchKey,
    SearchNot,
    SearchOr,
    SearchSet,
)
from chatmail.domain.wire.imap.search_sections import Section, sections, simple_section
from chatmail.domain.wire.imap.search_sieve import Sieve
from chatmail.domain.wire.imap.sequence import exceeds, format_set

CHUNK_OCTETS: Final = 64 * 1024
STEP_OCTETS: Final = 16 * 1024
"""What is decoded and looked through between two turns of others."""
SCAN_OCTETS: Final = 8 * 1024
WHOLE_OCTETS: Final = 128 * 1024
"""A message up to here is read once; of a longer one the parts are found first."""
ENTRIES_PER_TICK: Final = 16
LOADED_AT_ONCE: Final = 1024
"""Messages whose entries are asked of the store together."""
BATCH_OCTETS: Final = 96 * 1024
BATCH_MESSAGES: Final = 32
MAX_WORK: Final = 4 * 1024**3
"""Octets of content times texts that one search looks for: eight full mailboxes for one text."""

_TOO_MUCH: Final = Reply("LIMIT", "Too much to look through, name fewer messages or texts")


async def run_search(session: Session, tag: bytes, command: Search) -> bytes:
    """SEARCH, UID SEARCH."""
    view = session.selected.view
    if _names_too_high(command.key, max(view.count, 1)):
        return BAD_NUMBER.to(tag)
    with_modseq = uses_modseq(command.key)
    session.has_condstore = session.has_condstore or with_modseq
    options = command.options
    found: list[MailboxEntry] | Reply = BAD_CHARSET
    try:
        if command.is_charset_known:
            found = await _find(session, command.key)
    except TransientFailure:
        _save(session, options, [])
        raise
    if isinstance(found, Reply):
        _save(session, options, [])
        return found.to(tag)
    uids = [int(entry.uid) for entry in found]
    _save(session, options, uids)
    numbers = uids if command.by_uid else [view.sequence_of(entry.uid) for entry in found]
    modseqs = [int(entry.modseq) for entry in found] if with_modseq else None
    if options is None and session.machine.is_rev2:
        options = ("ALL",)  # RFC 9051 §6.4.4: there is no SEARCH response any more
    if options is None:
        session.send(search(numbers, max(modseqs) if modseqs else None))
    elif options != ("SAVE",):  # RFC 5182 §2.1: alone it asks for no untagged response
        items = _items(options, numbers, modseqs)
        session.send(esearch(tag, by_uid=command.by_uid, items=items))
    return ok(tag, "Search completed")


def _save(session: Session, options: tuple[str, ...] | None, uids: list[int]) -> None:
    """Set `$` if that was asked for; a search that fails with NO empties it (RFC 5182 §2.1)."""
    if options is not None and "SAVE" in options:
        session.selected.saved = saved_result(options, uids)


def _items(
    options: tuple[str, ...], numbers: list[int], modseqs: list[int] | None
) -> list[tuple[str, bytes]]:
    result = extended_result(options, numbers, modseqs)
    items = []
    if result.minimum is not None:
        items.append(("MIN", b"%d" % result.minimum))
    if result.maximum is not None:
        items.append(("MAX", b"%d" % result.maximum))
    if result.all is not None:
        items.append(("ALL", format_set(result.all)))
    if result.count is not None:
        items.append(("COUNT", b"%d" % result.count))
    if result.modseq is not None:
        items.append(("MODSEQ", b"%d" % result.modseq))
    return items


async def _find(session: Session, key: SearchKey) -> list[MailboxEntry] | Reply:
    selection = session.selected
    view, mailbox = selection.view, selection.mailbox
    searcher = Searcher(
        key,
        view.uids,
        view.count,
        now_s=int(session.services.clock.now_s()),
        saved=selection.saved,
        email_id=partial(session.services.object_ids.email, session.account.id),
    )
    looking = _Looking(session, searcher, key)
    for start, stop in searcher.candidates():
        for position in range(start, stop):
            if position % ENTRIES_PER_TICK == 0:
                await looking.pace.tick()
            if (position - start) % LOADED_AT_ONCE == 0:
                await mailbox.load(view.uids[position : min(position + LOADED_AT_ONCE, stop)])
            entry = mailbox.entry(view.uids[position])
            if entry is None:
                continue
            judgement = searcher.judge(entry)
            if judgement is None:
                await looking.into(entry)
            elif judgement:
                looking.found.append(entry)
            if looking.has_exceeded:
                return _TOO_MUCH
    await looking.finish()
    looking.found.sort(key=attrgetter("uid"))
    return looking.found


class _Looking:
    """The content that one search reads: header blocks in batches, bodies one by one."""

    def __init__(self, session: Session, searcher: Searcher, key: SearchKey) -> None:
        self._store = session.services.store
        self._mailbox = session.selected.mailbox
        self._searcher = searcher
        self._key = key
        self._depth = needs_content(key)
        self._texts = count_texts(key)
        self._sieve = Sieve(key)
        self._work_left = MAX_WORK
        self._waiting: list[MailboxEntry] = []
        self._waiting_octets = 0
        self.pace = Pace(session)
        self.found: list[MailboxEntry] = []

    @property
    def has_exceeded(self) -> bool:
        """Say whether the search has looked at as much as it may."""
        return self._work_left < 0

    async def into(self, entry: MailboxEntry) -> None:
        """Look into a message, now or with the others of its batch."""
        if self._depth is Content.WHOLE:
            self._work_left -= entry.size * self._texts
            if not self.has_exceeded and await self._is_match(entry):
                self.found.append(entry)
            return
        self._waiting.append(entry)
        self._waiting_octets += entry.header_size
        if self._waiting_octets >= BATCH_OCTETS or len(self._waiting) >= BATCH_MESSAGES:
            await self.finish()

    async def finish(self) -> None:
        """Look into the header blocks that wait."""
        waiting, self._waiting, self._waiting_octets = self._waiting, [], 0
        if not waiting:
            return
        self._work_left -= sum(entry.header_size for entry in waiting)
        try:
            blocks = await self._store.read_many(
                [(entry, 0, entry.header_size) for entry in waiting]
            )
        except TransientFailure:
            if all(map(self._is_there, waiting)):
                raise
            # Some were expunged while we looked: the others again.
            self._waiting = [entry for entry in waiting if self._is_there(entry)]
            await self.finish()
            return
        for entry, block in zip(waiting, blocks, strict=True):
            await self.pace.tick()
            probe = ContentProbe(self._key)
            probe.header(block)
            if self._searcher.judge(entry, probe):
                self.found.append(entry)

    def _is_there(self, entry: MailboxEntry) -> bool:
        return self._mailbox.entry(entry.uid) is not None

    async def _is_match(self, entry: MailboxEntry) -> bool:
        probe = ContentProbe(self._key)
        try:
            await self._feed(probe, entry)
        except TransientFailure:
            if self._is_there(entry):
                raise
            return False
        return bool(self._searcher.judge(entry, probe))

    async def _feed(self, probe: ContentProbe, entry: MailboxEntry) -> None:
        read = self._store.read
        whole = await read(entry, 0, entry.size) if entry.size <= WHOLE_OCTETS else None
        if self._sieve.is_useful and not await self._may_hold(entry, whole):
            probe.rule_out()
            if self._sieve.is_all:
                return
        header = whole or await read(entry, 0, entry.header_size)
        header = header[: entry.header_size]
        probe.header(header)
        if probe.is_settled:
            return
        only = simple_section(header, entry.size)
        found = [only] if only is not None else await self._sections(entry, whole)
        for section in found:
            probe.begin(section)
            for start in range(section.start, section.stop, CHUNK_OCTETS):
                stop = min(start + CHUNK_OCTETS, section.stop)
                chunk = await self._chunk(entry, whole, start, stop)
                if await self._show(probe, chunk, is_last=stop == section.stop):
                    return

    async def _may_hold(self, entry: MailboxEntry, whole: bytes | None) -> bool:
        """Say whether the message has to be read as a person does."""
        sieving = self._sieve.start()
        for start in range(0, entry.size, CHUNK_OCTETS):
            chunk = await self._chunk(entry, whole, start, start + CHUNK_OCTETS)
            for at in range(0, len(chunk), STEP_OCTETS):
                if sieving.may_hold(chunk[at : at + STEP_OCTETS]):
                    return True
                await self.pace.tick()
        return False

    async def _chunk(
        self, entry: MailboxEntry, whole: bytes | None, start: int, stop: int
    ) -> bytes:
        return whole[start:stop] if whole else await self._store.read(entry, start, stop - start)

    async def _show(self, probe: ContentProbe, chunk: bytes, *, is_last: bool) -> bool:
        """Show the octets to the probe; True: it needs no more."""
        for start in range(0, len(chunk), STEP_OCTETS):
            piece = chunk[start : start + STEP_OCTETS]
            is_end = is_last and start + STEP_OCTETS >= len(chunk)
            for _ in probe.body_in_turns(piece, is_last=is_end):
                await self.pace.tick()
            await self.pace.tick()
        return probe.is_settled

    async def _sections(self, entry: MailboxEntry, whole: bytes | None) -> list[Section]:
        scanner = StructureScanner()
        for start in range(0, entry.size, CHUNK_OCTETS):
            chunk = await self._chunk(entry, whole, start, start + CHUNK_OCTETS)
            for at in range(0, len(chunk), SCAN_OCTETS):
                scanner.feed(chunk[at : at + SCAN_OCTETS])
                await self.pace.tick()
        return sections(scanner.finish())


def _names_too_high(key: SearchKey, count: int) -> bool:
    """Say whether a message number in the key names no message (RFC 3501 §9)."""
    match key:
        case SearchSet(messages, by_uid):
            return not by_uid and exceeds(messages, count)
        case SearchAnd(keys):
            return any(_names_too_high(inner, count) for inner in keys)
        case SearchOr(first, second):
            return _names_too_high(first, count) or _names_too_high(second, count)
        case SearchNot(inner):
            return _names_too_high(inner, count)
        case _:
            return False
