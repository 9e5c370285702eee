"""Encodes responses: every function returns the octets of one or more whole response lines.

The parser of Delta Chat is stricter than the grammar (spec mail 4.2): text, flags and quoted
strings are 7-bit without specials, everything else is a literal, and no literal holds NUL.
Source:  RFC 3501 §7, §9; response codes as named in RFC 5530.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from chatmail.domain.model.mailbox import SYSTEM_FLAGS, Flags, MailboxInfo
from chatmail.domain.wire.imap.mailbox_name import encode_name
from chatmail.domain.wire.imap.sequence import format_set

CRLF: Final = b"\r\n"
NIL: Final = b"NIL"
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
_NOT_QUOTABLE: Final = re.compile(rb'[^\x20-\x7e]|["\\]')
_NOT_IN_UTF8_QUOTES: Final = re.compile(rb'[\x00-\x1f\x7f"\\]')
_MAX_QUOTED: Final = 1000
_MAX_SET: Final = 8000  # octets of a set in one line: RFC 7162 §4 has clients take 8192
_TEXT_UNSAFE: Final = re.compile(r"[^\x20-\x7e]")


# --- strings ---------------------------------------------------------------------------------


def literal(octets: bytes) -> bytes:
    """Encode a literal. NUL is taken out: a client refuses the whole reply otherwise (4.2)."""
    clean = octets.replace(b"\0", b"")
    return b"{%d}\r\n%b" % (len(clean), clean)


def string(octets: bytes) -> bytes:
    """Encode a quoted string, or a literal where quoting would need escapes or 8 bits."""
    if len(octets) > _MAX_QUOTED or _NOT_QUOTABLE.search(octets):
        return literal(octets)
    return b'"%b"' % octets


def nstring(octets: bytes | None) -> bytes:
    """Encode a string or NIL."""
    return NIL if octets is None else string(octets)


@lru_cache(maxsize=1024)
def mailbox_name(name: str, is_utf8: bool = False) -> bytes:
    """Encode a mailbox name: quoted modified UTF-7, or quoted UTF-8 for who enabled that.

    Source:  RFC 3501 §5.1.3; RFC 6855 §3; spec mail 4.4: names are echoed in quotes.
    """
    if not is_utf8:
        return string(encode_name(name))
    octets = name.encode()
    return literal(octets) if _NOT_IN_UTF8_QUOTES.search(octets) else b'"%b"' % octets


@lru_cache(maxsize=1024)
def flag_list(flags: Flags) -> bytes:
    """Encode flags in parentheses: system flags in RFC order, then keywords by name."""
    return b"(%b)" % " ".join(_ordered(flags)).encode("ascii", "replace")


def _ordered(flags: Iterable[str]) -> list[str]:
    given = set(flags)
    return [flag for flag in SYSTEM_FLAGS if flag in given] + sorted(given - set(SYSTEM_FLAGS))


def date_time(unix_s: int) -> bytes:
    """Encode an INTERNALDATE, in UTC, within the years that four digits can name."""
    moment = datetime.datetime.fromtimestamp(min(max(unix_s, 0), 253402300799), datetime.UTC)
    return b'"%2d-%b-%04d %02d:%02d:%02d +0000"' % (
        moment.day,
        _MONTHS[moment.month - 1].encode("ascii"),
        moment.year,
        moment.hour,
        moment.minute,
        moment.second,
    )


# --- status responses ------------------------------------------------------------------------


def tagged(tag: bytes, kind: bytes, text: str, code: str = "") -> bytes:
    """Encode `tag OK [CODE] text`; `kind` is OK, NO or BAD."""
    return b"%b %b %b" % (tag, kind, _resp_text(text, code))


def ok(tag: bytes, text: str, code: str = "") -> bytes:
    """Encode a tagged OK."""
    return tagged(tag, b"OK", text, code)


def no(tag: bytes, text: str, code: str = "") -> bytes:
    """Encode a tagged NO."""
    return tagged(tag, b"NO", text, code)


def bad(tag: bytes, text: str, code: str = "") -> bytes:
    """Encode a tagged BAD."""
    return tagged(tag, b"BAD", text, code)


def untagged_ok(text: str, code: str = "") -> bytes:
    """Encode `* OK [CODE] text`."""
    return b"* OK " + _resp_text(text, code)


def bye(text: str, code: str = "") -> bytes:
    """Encode `* BYE [CODE] text`."""
    return b"* BYE " + _resp_text(text, code)


def continuation(text: str = "") -> bytes:
    """Encode `+ text`."""
    return b"+ %b\r\n" % text.encode("ascii")


def _resp_text(text: str, code: str) -> bytes:
    clean = _TEXT_UNSAFE.sub("?", text)
    return (f"[{code}] {clean}\r\n" if code else f"{clean}\r\n").encode("ascii")


# --- data responses --------------------------------------------------------------------------


def capability(names: Sequence[str]) -> bytes:
    """Encode `* CAPABILITY …`."""
    return b"* CAPABILITY %b\r\n" % " ".join(names).encode("ascii")


def exists(count: int) -> bytes:
    """Encode `* n EXISTS`."""
    return b"* %d EXISTS\r\n" % count


def vanished(uids: Iterable[int], *, earlier: bool = False) -> bytes:
    """Encode `* VANISHED` lines for ascending UIDs, b"" for none.

    Args:  earlier: they went before the client saw this view of the mailbox.
    Source:  RFC 7162 §3.2.10.
    """
    told = format_set(uids)
    head = b"* VANISHED (EARLIER) " if earlier else b"* VANISHED "
    lines = []
    while len(told) > _MAX_SET:
        cut = told.rindex(b",", 0, _MAX_SET)
        lines.append(head + told[:cut] + CRLF)
        told = told[cut + 1 :]
    if told:
        lines.append(head + told + CRLF)
    return b"".join(lines)


def held_back(modseq: int) -> bytes:
    """Encode up to where the client was told everything, while news waits.

    The client would take the highest MODSEQ it saw otherwise, and miss a lower expunge when the
    connection is lost (RFC 7162 §3.2, §6).
    """
    return untagged_ok("Some changes wait", f"HIGHESTMODSEQ {modseq}")


def all_told(modseq: int) -> bytes:
    """Encode up to where the client was told everything.

    VANISHED and EXISTS carry no MODSEQ: a client that was told of nothing else would keep an old
    one. interimap then sees no reason to synchronise, or runs into its own messages by
    UNCHANGEDSINCE.
    """
    return untagged_ok("Highest", f"HIGHESTMODSEQ {modseq}")


def selected(
    info: MailboxInfo,
    *,
    first_unseen: int,
    keywords: Sequence[str],
    read_only: bool,
    is_rev2: bool = False,
) -> bytes:
    """Encode all untagged responses of SELECT, in the order of spec mail 4.4.

    Args:
        first_unseen: sequence number of the first message without \\Seen, 0 when all have it.
        is_rev2: leave out what RFC 9051 took away; its LIST response is not made here.
    """
    recent = "" if is_rev2 else "* 0 RECENT\r\n"
    flags = " ".join((*SYSTEM_FLAGS, *keywords))
    permanent = "" if read_only else f"{flags} \\*"
    unseen = ""
    if first_unseen and not is_rev2:
        unseen = f"* OK [UNSEEN {first_unseen}] First unseen.\r\n"
    return (
        f"* FLAGS ({flags})\r\n"
        f"* OK [PERMANENTFLAGS ({permanent})] Flags permitted.\r\n"
        f"* {info.messages} EXISTS\r\n"
        f"{recent}{unseen}"
        f"* OK [UIDVALIDITY {info.uid_validity}] UIDs valid\r\n"
        f"* OK [UIDNEXT {info.uid_next}] Predicted next UID\r\n"
        f"* OK [HIGHESTMODSEQ {info.highest_modseq}] Highest\r\n"
    ).encode("ascii", "replace")


def status(
    info: MailboxInfo,
    items: Sequence[str],
    append_limit: int,
    mailbox_id: str = "",
    *,
    is_utf8: bool = False,
) -> bytes:
    """Encode `* STATUS`, items as asked.

    Source:  RFC 3501 §7.2.4; RFC 7162 (HIGHESTMODSEQ), RFC 8438 (SIZE), RFC 7889 (APPENDLIMIT),
        RFC 8474 §4.3 (MAILBOXID).
    """
    values = {
        "MESSAGES": info.messages,
        "RECENT": 0,
        "UIDNEXT": info.uid_next,
        "UIDVALIDITY": info.uid_validity,
        "UNSEEN": info.unseen,
        "HIGHESTMODSEQ": info.highest_modseq,
        "SIZE": info.octets,
        "DELETED": info.deleted,
        "APPENDLIMIT": append_limit,
        "MAILBOXID": f"({mailbox_id})",
    }
    told = " ".join(f"{item} {values[item]}" for item in items if item in values)
    return b"* STATUS %b (%b)\r\n" % (mailbox_name(info.name, is_utf8), told.encode("ascii"))


def listed(
    kind: bytes,
    attributes: Sequence[str],
    name: str,
    childinfo: bool = False,
    *,
    old_name: str | None = None,
    is_utf8: bool = False,
) -> bytes:
    """Encode `* LIST` or `* LSUB` (`kind`).

    `childinfo`: a descendant matched in a way that RECURSIVEMATCH asks for (RFC 5258 §4).
    `old_name`: what it was called before (RFC 5465 §5.4).
    """
    extended = b' ("CHILDINFO" ("SUBSCRIBED"))' if childinfo else b""
    if old_name is not None:
        extended = b' ("OLDNAME" (%b))' % mailbox_name(old_name, is_utf8)
    marks = " ".join(attributes).encode("ascii")
    return b'* %b (%b) "/" %b%b\r\n' % (kind, marks, mailbox_name(name, is_utf8), extended)


def quota_root(mailbox: str, root: str, *, is_utf8: bool = False) -> bytes:
    """Encode `* QUOTAROOT` (RFC 9208 §5.2)."""
    return b'* QUOTAROOT %b "%b"\r\n' % (mailbox_name(mailbox, is_utf8), root.encode("ascii"))


def quota(root: str, used_bytes: int, limit_bytes: int) -> bytes:
    """Encode `* QUOTA`, in units of 1024 octets, used rounded up (RFC 9208 §5.1)."""
    return b'* QUOTA "%b" (STORAGE %d %d)\r\n' % (
        root.encode("ascii"),
        -(-used_bytes // 1024),
        limit_bytes // 1024,
    )


def metadata(
    mailbox: str, entries: Sequence[tuple[str, bytes | None]], *, is_utf8: bool = False
) -> bytes:
    """Encode one `* METADATA` line for all entries.

    The mailbox is quoted and every value a literal: the client does not unescape quoted values
    (spec mail 4.2 item 9, T15).
    Source:  RFC 5464 §4.4.1.
    """
    told = b" ".join(
        b"%b %b" % (name.encode("ascii", "replace"), NIL if value is None else literal(value))
        for name, value in entries
    )
    return b"* METADATA %b (%b)\r\n" % (mailbox_name(mailbox, is_utf8), told)


def metadata_changed(mailbox: str, names: Sequence[str]) -> bytes:
    """Encode an unsolicited `* METADATA`, which names entries alone (RFC 5464 §4.4.2)."""
    if not names:
        return b""
    told = " ".join(names).encode("ascii", "replace")
    return b"* METADATA %b %b\r\n" % (mailbox_name(mailbox), told)


def server_id(name: str) -> bytes:
    """Encode `* ID` with one pair (RFC 2971 §3.2)."""
    return b'* ID ("name" "%b")\r\n' % name.encode("ascii")


def search(numbers: Sequence[int], highest_modseq: int | None = None) -> bytes:
    """Encode `* SEARCH`, with the modseq that RFC 7162 §3.1.5 adds to a MODSEQ search."""
    told = b"".join(b" %d" % number for number in numbers)
    if highest_modseq is not None and numbers:
        told += b" (MODSEQ %d)" % highest_modseq
    return b"* SEARCH%b\r\n" % told


def esearch(tag: bytes, *, by_uid: bool, items: Sequence[tuple[str, bytes]]) -> bytes:
    """Encode `* ESEARCH` (RFC 4731 §3.1)."""
    told = b"".join(b" %b %b" % (name.encode("ascii"), value) for name, value in items)
    return b"* ESEARCH (TAG %b)%b%b\r\n" % (string(tag), b" UID" if by_uid else b"", told)
