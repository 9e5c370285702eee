"""Flags and what carries them: STORE, and APPEND up to its literal.

Source:  RFC 3501 §6.3.11, §6.4.6, §9 (flag, date-time); RFC 7162 §3.1.3.
"""

from __future__ import annotations

import re
from typing import Final

from chatmail.domain.model.mailbox import SYSTEM_FLAGS
from chatmail.domain.wire.imap.commands import AppendBegin, Store
from chatmail.domain.wire.imap.lexer import Lexer, SyntaxProblem, day_number
from chatmail.domain.wire.imap.sequence import MAX_NUMBER

MAX_FLAGS: Final = 128

_SYSTEM: Final = {flag[1:].upper(): flag for flag in SYSTEM_FLAGS}
_MODE: Final = re.compile(rb"([+-]?)FLAGS(\.SILENT)?(?= )", re.IGNORECASE)
_DATE_TIME: Final = re.compile(
    rb'"([ 0-9]?[0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) '
    rb'([+-])([0-9]{2})([0-9]{2})"'
)


def parse_flag(lexer: Lexer) -> str:
    """Consume one flag: a known system flag in RFC spelling, or a keyword as sent."""
    if not lexer.accept(b"\\"):
        return lexer.atom().decode("ascii")
    flag = _SYSTEM.get(lexer.keyword())
    if flag is None:  # also \Recent, which no client may set (RFC 3501 §2.3.2)
        raise SyntaxProblem(b"Invalid system flag")
    return flag


def parse_flag_list(lexer: Lexer) -> tuple[str, ...]:
    """Consume a parenthesised list of flags; duplicates are dropped, keywords case-blind."""
    lexer.expect(b"(")
    flags: list[str] = []
    lexer.accept_space()
    while not lexer.accept(b")"):
        _add_flag(lexer, flags)
        if not lexer.peek(b")"):
            lexer.space()
    return _unique(flags)


def _add_flag(lexer: Lexer, flags: list[str]) -> None:
    if len(flags) >= MAX_FLAGS:
        raise SyntaxProblem(b"Too many flags")
    flags.append(parse_flag(lexer))


def _unique(flags: list[str]) -> tuple[str, ...]:
    first: dict[str, str] = {}
    for flag in flags:
        first.setdefault(flag.upper(), flag)
    return tuple(first.values())


def parse_store(lexer: Lexer, by_uid: bool) -> Store:
    """Parse the arguments of STORE or UID STORE."""
    lexer.space()
    messages = lexer.sequence_set()
    lexer.space()
    unchanged_since = None
    if lexer.accept(b"("):
        if lexer.keyword() != "UNCHANGEDSINCE":
            raise SyntaxProblem(b"Unknown STORE modifier")
        lexer.space()
        unchanged_since = lexer.modseq(least=0)
        lexer.expect(b")")
        lexer.space()
    mode = lexer.match(_MODE, b"Expected FLAGS")
    lexer.space()
    return Store(
        messages,
        by_uid,
        mode[1].decode("ascii") or "=",
        _parse_store_flags(lexer),
        silent=mode[2] is not None,
        unchanged_since=unchanged_since,
    )


def _parse_store_flags(lexer: Lexer) -> tuple[str, ...]:
    if lexer.peek(b"("):
        flags = parse_flag_list(lexer)
        lexer.end()
        return flags
    found: list[str] = []
    _add_flag(lexer, found)
    while not lexer.at_end:
        lexer.space()
        _add_flag(lexer, found)
    return _unique(found)


def parse_append(lexer: Lexer, size: int, is_synchronising: bool) -> AppendBegin:
    """Parse APPEND up to its message literal, which the text no longer holds."""
    lexer.space()
    mailbox = lexer.mailbox()
    flags, internal_date_s = parse_append_message(lexer, size)
    return AppendBegin(mailbox, flags, internal_date_s, size, is_synchronising)


def parse_append_message(lexer: Lexer, size: int) -> tuple[tuple[str, ...], int | None]:
    """Consume what stands before the literal of each message of APPEND: flags and date.

    Source:  RFC 3502 §6.3.11 (append-message).
    """
    lexer.space()
    flags: tuple[str, ...] = ()
    if lexer.peek(b"("):
        flags = parse_flag_list(lexer)
        lexer.space()
    internal_date_s = None
    if lexer.peek(b'"'):
        internal_date_s = _parse_date_time(lexer)
        lexer.space()
    lexer.end()
    if size > MAX_NUMBER:
        raise SyntaxProblem(b"Number out of range")
    return flags, internal_date_s


def _parse_date_time(lexer: Lexer) -> int:
    found = lexer.match(_DATE_TIME, b"Invalid date-time")
    days = day_number(int(found[3]), found[2], int(found[1]))
    hour, minute, second = int(found[4]), int(found[5]), int(found[6])
    zone_hour, zone_minute = int(found[8]), int(found[9])
    if hour > 23 or minute > 59 or second > 60 or zone_hour > 23 or zone_minute > 59:
        raise SyntaxProblem(b"Invalid date-time")
    offset_s = (zone_hour * 60 + zone_minute) * 60
    since_epoch = days * 86400 + hour * 3600 + minute * 60 + second
    # Unix time of a store is not negative; nothing was mailed before 1970.
    return max(0, since_epoch + (offset_s if found[7] == b"-" else -offset_s))
