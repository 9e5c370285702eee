"""SEARCH: keys, charset, RETURN options.

Nesting and the number of keys are bounded, so a command can exhaust neither stack nor time.
Source:  RFC 3501 §6.4.4, RFC 4731, RFC 5182, RFC 5032, RFC 7162 §3.1.5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from chatmail.domain.wire.imap.commands import Search
from chatmail.domain.wire.imap.lexer import Lexer, SyntaxProblem
from chatmail.domain.wire.imap.search_keys import (
    SearchAge,
    SearchAll,
    SearchAnd,
    SearchDate,
    SearchEmailId,
    SearchFlag,
    SearchHeader,
    SearchKey,
    SearchModseq,
    SearchNot,
    SearchOr,
    SearchSet,
    SearchSize,
    SearchText,
    SearchThreadId,
)

MAX_DEPTH: Final = 40
MAX_KEYS: Final = 512
RETURN_OPTIONS: Final = frozenset({"MIN", "MAX", "COUNT", "ALL", "SAVE"})
_CHARSETS: Final = frozenset((b"US-ASCII", b"UTF-8", b"ASCII", b"UTF8"))

_OBJECT_ID: Final = re.compile(rb"[A-Za-z0-9_-]{1,255}(?=[ )]|\Z)")
_FLAG_KEYS: Final = {
    "ANSWERED": "\\Answered",
    "DELETED": "\\Deleted",
    "DRAFT": "\\Draft",
    "FLAGGED": "\\Flagged",
    "SEEN": "\\Seen",
}
# \Recent is not tracked (spec mail 5.11): no message has it, so every message is old.
_RECENT: Final = SearchFlag("\\Recent", present=True)
_PLAIN_KEYS: Final[Mapping[str, SearchKey]] = {
    "ALL": SearchAll(),
    "NEW": SearchAnd((_RECENT, SearchFlag("\\Seen", present=False))),
    "OLD": SearchFlag("\\Recent", present=False),
    "RECENT": _RECENT,
    **{name: SearchFlag(flag, present=True) for name, flag in _FLAG_KEYS.items()},
    **{"UN" + name: SearchFlag(flag, present=False) for name, flag in _FLAG_KEYS.items()},
}
_DATE_KEYS: Final = {"BEFORE": "<", "ON": "=", "SINCE": ">="}


def parse_search(lexer: Lexer, by_uid: bool) -> Search:
    """Parse the arguments of SEARCH or UID SEARCH."""
    lexer.space()
    options = None
    if _accept_word(lexer, b"RETURN"):
        options = _parse_return(lexer)
        lexer.space()
    if _accept_word(lexer, b"CHARSET"):
        if "UTF8=ACCEPT" in lexer.enabled:  # RFC 6855 §3
            raise SyntaxProblem(b"CHARSET conflicts with UTF8=ACCEPT")
        charset = lexer.astring().upper()
        lexer.space()
        if charset not in _CHARSETS:
            lexer.rest()
            return Search(SearchAll(), by_uid, options, is_charset_known=False)
    return Search(_KeyParser(lexer).parse_all(), by_uid, options)


def _accept_word(lexer: Lexer, word: bytes) -> bool:
    if lexer.text[lexer.at : lexer.at + len(word) + 1].upper() != word + b" ":
        return False
    lexer.at += len(word)
    lexer.space()
    return True


def _parse_return(lexer: Lexer) -> tuple[str, ...]:
    lexer.expect(b"(")
    options: dict[str, None] = {}
    while not lexer.accept(b")"):
        option = lexer.keyword()
        if option not in RETURN_OPTIONS:
            raise SyntaxProblem(b"Unknown SEARCH return option")
        options[option] = None
        if not lexer.peek(b")"):
            lexer.space()
    return tuple(options) or ("ALL",)  # RFC 4731 §3.1


class _KeyParser:
    """Recursive descent over search keys, counting depth and keys."""

    def __init__(self, lexer: Lexer) -> None:
        self._lexer = lexer
        self._depth = 0
        self._keys = 0

    def parse_all(self) -> SearchKey:
        """Consume all keys up to the end of the command."""
        keys = [self._key()]
        while not self._lexer.at_end:
            self._lexer.space()
            keys.append(self._key())
        return keys[0] if len(keys) == 1 else SearchAnd(tuple(keys))

    def _key(self) -> SearchKey:
        self._keys += 1
        self._depth += 1
        if self._depth > MAX_DEPTH or self._keys > MAX_KEYS:
            raise SyntaxProblem(b"Search is too complex")
        key = self._one_key()
        self._depth -= 1
        return key

    def _one_key(self) -> SearchKey:
        lexer = self._lexer
        if lexer.accept(b"("):
            return self._group()
        if lexer.text[lexer.at : lexer.at + 1] in _SET_STARTS:
            return SearchSet(lexer.sequence_set(), by_uid=False)
        name = lexer.keyword()
        plain = _PLAIN_KEYS.get(name)
        if plain is not None:
            return plain
        if name == "NOT":
            lexer.space()
            return SearchNot(self._key())
        if name == "OR":
            lexer.space()
            first = self._key()
            lexer.space()
            return SearchOr(first, self._key())
        parse = _ARGUMENT_KEYS.get(name)
        if parse is None:
            raise SyntaxProblem(b"Unknown SEARCH key")
        lexer.space()
        return parse(lexer, name)

    def _group(self) -> SearchKey:
        keys = [self._key()]
        while not self._lexer.accept(b")"):
            self._lexer.space()
            keys.append(self._key())
        return keys[0] if len(keys) == 1 else SearchAnd(tuple(keys))


_SET_STARTS: Final = frozenset(bytes((octet,)) for octet in b"0123456789*$")


def _text(lexer: Lexer) -> str:
    """Consume a search string. UTF-8 is taken with and without CHARSET."""
    try:
        return lexer.astring().decode("utf-8")
    except UnicodeDecodeError:
        raise SyntaxProblem(b"Search text is not UTF-8") from None


def _parse_uid(lexer: Lexer, name: str) -> SearchKey:
    return SearchSet(lexer.sequence_set(), by_uid=True)


def _parse_keyword(lexer: Lexer, name: str) -> SearchKey:
    return SearchFlag(lexer.atom().decode("ascii"), present=name == "KEYWORD")


def _parse_size(lexer: Lexer, name: str) -> SearchKey:
    return SearchSize(lexer.number(), larger=name == "LARGER")


def _parse_age(lexer: Lexer, name: str) -> SearchKey:
    return SearchAge(lexer.number(least=1), older=name == "OLDER")


def _parse_date(lexer: Lexer, name: str) -> SearchKey:
    comparison = _DATE_KEYS[name.removeprefix("SENT")]
    return SearchDate(comparison, lexer.day(), sent=name.startswith("SENT"))


def _parse_header(lexer: Lexer, name: str) -> SearchKey:
    field = _text(lexer)
    lexer.space()
    return SearchHeader(field, _text(lexer))


def _parse_address(lexer: Lexer, name: str) -> SearchKey:
    return SearchHeader(name.capitalize(), _text(lexer))


def _parse_text(lexer: Lexer, name: str) -> SearchKey:
    return SearchText(_text(lexer), headers_too=name == "TEXT")


def _parse_modseq(lexer: Lexer, name: str) -> SearchKey:
    if lexer.peek(b'"'):  # RFC 7162 §3.1.5: entry name and type are allowed, and say nothing to us
        lexer.string()
        lexer.space()
        if lexer.keyword() not in ("ALL", "PRIV", "SHARED"):
            raise SyntaxProblem(b"Unknown entry type")
        lexer.space()
    return SearchModseq(lexer.modseq(least=0))


def _parse_email_id(lexer: Lexer, name: str) -> SearchKey:
    return SearchEmailId(_object_id(lexer))


def _parse_thread_id(lexer: Lexer, name: str) -> SearchKey:
    _object_id(lexer)
    return SearchThreadId()


def _object_id(lexer: Lexer) -> str:
    return lexer.match(_OBJECT_ID, b"Expected an object id").group().decode("ascii")


_ARGUMENT_KEYS: Final[Mapping[str, Callable[[Lexer, str], SearchKey]]] = {
    "UID": _parse_uid,
    **dict.fromkeys(("KEYWORD", "UNKEYWORD"), _parse_keyword),
    **dict.fromkeys(("LARGER", "SMALLER"), _parse_size),
    **dict.fromkeys(("OLDER", "YOUNGER"), _parse_age),
    **dict.fromkeys((*_DATE_KEYS, *("SENT" + name for name in _DATE_KEYS)), _parse_date),
    "HEADER": _parse_header,
    **dict.fromkeys(("BCC", "CC", "FROM", "SUBJECT", "TO"), _parse_address),
    **dict.fromkeys(("BODY", "TEXT"), _parse_text),
    "MODSEQ": _parse_modseq,
    "EMAILID": _parse_email_id,
    "THREADID": _parse_thread_id,
}
