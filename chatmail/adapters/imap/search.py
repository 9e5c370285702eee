"""SEARCH: entries are judged in memory, content is read only where that leaves the question open.

Source:  RFC 3501 §6.4.4, RFC 4731, RFC 7162 §3.1.5; spec mail 4.4.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import attrs
import trio

from chatmail.adapters.imap.replies import BAD_CHARSET, BAD_NUMBER, Reply
from chatmail.adapters.imap.session import Session
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.mailbox import MailboxEntry
from chatmail.domain.wire.imap.commands import (
    Search,
    SearchAnd,
    SearchKey,
    SearchNot,
    SearchOr,
    SearchSet,
)
from chatmail.domain.wire.imap.responses import esearch, ok, search
from chatmail.domain.wire.imap.search import (
    Searcher,
    extended_result,
    saved_result,
    uses_modseq,
)
from chatmail.domain.wire.imap.search_content import Content, ContentProbe, needs_content
from chatmail.domain.wire.imap.sequence import exceeds, format_set

CHUNK_OCTETS: Final = 64 * 1024
MAX_READ_OCTETS: Final = 256 * 1024 * 1024
"""Content one search may look into; behind it messages count as not matching."""
TURN: Final = 500


@attrs.define
class _Reading:
    """What a search reads, and how much it still may."""

    depth: Content
    octets_left: int


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


async def _find(session: Session, key: SearchKey) -> list[MailboxEntry]:
    selection = session.selected
    view, mailbox = selection.view, selection.mailbox
    now_s = int(session.services.clock.now_s())
    searcher = Searcher(
        key,
        view.uids,
        view.count,
        now_s=now_s,
        saved=selection.saved,
        email_id=partial(session.services.object_ids.email, session.account.id),
    )
    reading = _Reading(needs_content(key), MAX_READ_OCTETS)
    found = []
    looked = 0
    for start, stop in searcher.candidates():
        for position in range(start, stop):
            looked += 1
            if looked % TURN == 0:
                await trio.lowlevel.checkpoint()
            entry = mailbox.entry(view.uids[position])
            if entry is None:
                continue
            judgement = searcher.judge(entry)
            if judgement is None:
                judgement = await _look_into(session, searcher, key, entry, reading)
            if judgement:
                found.append(entry)
    return found


async def _look_into(
    session: Session,
    searcher: Searcher,
    key: SearchKey,
    entry: MailboxEntry,
    reading: _Reading,
) -> bool:
    probe = ContentProbe(key)
    wanted = entry.size if reading.depth is Content.WHOLE else entry.header_size
    if wanted > reading.octets_left:
        return False
    reading.octets_left -= wanted
    try:
        await _feed(session, probe, entry, reading.depth)
    except TransientFailure:
        if session.selected.mailbox.entry(entry.uid) is None:
            return False  # expunged while we looked
        raise
    return bool(searcher.judge(entry, probe))


async def _feed(session: Session, probe: ContentProbe, entry: MailboxEntry, depth: Content) -> None:
    store = session.services.store
    probe.header(await store.read(entry, 0, entry.header_size))
    if depth is not Content.WHOLE:
        return
    offset = entry.header_size
    while offset < entry.size and not probe.is_settled:
        chunk = await store.read(entry, offset, CHUNK_OCTETS)
        if not chunk:
            return
        offset += len(chunk)
        probe.body(chunk)
        await trio.lowlevel.checkpoint()


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
