"""Renders one FETCH response line.

What needs no content is rendered here from the entry alone; sections arrive as octets that the
caller read. A line is: `open_line`, then section items with their literals, then `CLOSE_LINE`.
Source:  RFC 3501 §7.4.2; RFC 7162 §3.1.4 for MODSEQ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from chatmail.domain.formats.header_fields import select_fields, select_other_fields
from chatmail.domain.formats.mime_structure import Part, find_part
from chatmail.domain.model.mailbox import MailboxEntry
from chatmail.domain.wire.imap.commands import BodySection, Fetch, Section
from chatmail.domain.wire.imap.responses import NIL, date_time, flag_list

CLOSE_LINE: Final = b")\r\n"
STRUCTURES: Final = frozenset(("BODY", "BODYSTRUCTURE"))

_PLAIN: Final[Mapping[str, Callable[[MailboxEntry], bytes]]] = {
    "UID": lambda entry: b"UID %d" % entry.uid,
    "FLAGS": lambda entry: b"FLAGS " + flag_list(entry.flags),
    "INTERNALDATE": lambda entry: b"INTERNALDATE " + date_time(entry.internal_date_s),
    "RFC822.SIZE": lambda entry: b"RFC822.SIZE %d" % entry.size,
    "MODSEQ": lambda entry: b"MODSEQ (%d)" % entry.modseq,
    # RFC 8474 §5.2: the answer of a server that keeps no threads.
    "THREADID": lambda entry: b"THREADID NIL",
}


@attrs.frozen(kw_only=True)
class FetchPlan:
    """One FETCH command, made ready to be rendered for each of its messages.

    `needs_tree`: some item is about MIME parts. `sets_seen`: some section is asked without PEEK.
    """

    attributes: tuple[str, ...]
    sections: tuple[BodySection, ...]
    needs_envelope: bool
    needs_tree: bool
    sets_seen: bool

    @property
    def needs_content(self) -> bool:
        """Say whether the octets of the messages have to be read."""
        return bool(self.sections) or self.needs_envelope or self.needs_tree


def plan_fetch(command: Fetch, *, with_modseq: bool) -> FetchPlan:
    """Decide what each line holds: UID FETCH has a UID (RFC 3501 §6.4.8), CONDSTORE a MODSEQ."""
    attributes = command.attributes
    if command.by_uid and "UID" not in attributes:
        attributes = ("UID", *attributes)
    # RFC 7162 §3.1.4.1: CHANGEDSINCE asks for MODSEQ implicitly; so does a flag once enabled.
    wants_modseq = command.changed_since is not None or (with_modseq and "FLAGS" in attributes)
    if wants_modseq and "MODSEQ" not in attributes:
        attributes = (*attributes, "MODSEQ")
    return FetchPlan(
        attributes=attributes,
        sections=command.sections,
        needs_envelope="ENVELOPE" in attributes,
        needs_tree=not STRUCTURES.isdisjoint(attributes)
        or any(section.part or section.is_binary for section in command.sections),
        sets_seen=any(not section.peek for section in command.sections),
    )


def open_line(
    sequence: int,
    entry: MailboxEntry,
    attributes: tuple[str, ...],
    computed: Mapping[str, bytes] | None = None,
) -> bytes:
    """Render `* n FETCH (` and the attributes.

    Args:  computed: values of the attributes that an entry alone cannot answer, by name.
    """
    items = []
    for name in attributes:
        render = _PLAIN.get(name)
        if render is not None:
            items.append(render(entry))
        elif computed is not None:
            items.append(b"%b %b" % (name.encode("ascii"), computed[name]))
    return b"* %d FETCH (%b" % (sequence, b" ".join(items))


def flags_line(sequence: int, entry: MailboxEntry, *, with_uid: bool, with_modseq: bool) -> bytes:
    """Render a whole line that tells flags: the answer to STORE, and news of other sessions."""
    uid = b"UID %d " % entry.uid if with_uid else b""
    modseq = b" MODSEQ (%d)" % entry.modseq if with_modseq else b""
    return b"* %d FETCH (%bFLAGS %b%b)\r\n" % (sequence, uid, flag_list(entry.flags), modseq)


def section_head(section: BodySection, size: int | None, *, is_first: bool) -> bytes:
    """Render the name of a section item and the announcement of its literal.

    Args:  size: octets of the literal that follows; None: there is no such part, the item is NIL.
        is_first: nothing stands before it inside the parentheses.
    """
    gap = b"" if is_first else b" "
    origin = b"<%d>" % section.partial[0] if section.partial is not None else b""
    if size is None:
        return b"%b%b%b %b" % (gap, section.label, origin, NIL)
    return b"%b%b%b {%d}\r\n" % (gap, section.label, origin, size)


def binary_head(section: BodySection, size: int | None, *, has_nul: bool = False) -> bytes:
    """Render the name of a BINARY item and the announcement of its octets.

    Octets with NUL go as literal8 (RFC 9051 §7.5.2). `size` None: there is no such part.
    """
    origin = b"<%d>" % section.partial[0] if section.partial is not None else b""
    if size is None:
        return b"%b%b %b" % (section.label, origin, NIL)
    return b"%b%b %b{%d}\r\n" % (section.label, origin, b"~" if has_nul else b"", size)


def section_range(
    section: BodySection, entry: MailboxEntry, tree: Part | None
) -> tuple[int, int] | None:
    """Return (offset, length) of the stored octets a section is taken from.

    For HEADER.FIELDS that is the header block, for all others the very octets of the answer
    before `partial`. None: there is no such part.
    Args:  tree: of the message, when the section names a part.
    """
    if not section.part:
        if section.section is Section.ALL:
            return 0, entry.size
        if section.section is Section.TEXT:
            return entry.header_size, entry.size - entry.header_size
        return 0, entry.header_size
    part = find_part(tree, section.part) if tree is not None else None
    if part is None:
        return None
    if section.section is Section.ALL:
        return part.body_start, part.size
    if section.section is Section.MIME:
        return part.header_start, part.body_start - part.header_start
    if not part.is_message:  # RFC 3501 §6.4.5: HEADER and TEXT name parts of a message/rfc822
        return None
    message = part.children[0]
    if section.section is Section.TEXT:
        return message.body_start, message.size
    return message.header_start, message.body_start - message.header_start


def is_selection(section: BodySection) -> bool:
    """Say whether the answer is picked out of a header block, not a range of stored octets."""
    return section.section in (Section.HEADER_FIELDS, Section.HEADER_FIELDS_NOT)


def select_header(section: BodySection, header: bytes) -> bytes:
    """Return the answer of HEADER.FIELDS or HEADER.FIELDS.NOT, `partial` applied."""
    names = frozenset(section.fields)
    if section.section is Section.HEADER_FIELDS:
        return cut(section, select_fields(header, names))
    return cut(section, select_other_fields(header, names))


def cut(section: BodySection, octets: bytes) -> bytes:
    """Apply `<offset.length>`; an offset behind the end gives nothing."""
    if section.partial is None:
        return octets
    offset, length = section.partial
    return octets[offset : offset + length]


def cut_range(section: BodySection, offset: int, length: int) -> tuple[int, int]:
    """Apply `<offset.length>` to a range of stored octets."""
    if section.partial is None:
        return offset, length
    skipped, wanted = section.partial
    skipped = min(skipped, length)
    return offset + skipped, min(wanted, length - skipped)
