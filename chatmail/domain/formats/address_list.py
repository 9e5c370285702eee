"""Address lists read leniently: total, bounded, for showing and not for deciding.

`rfc5322` holds the strict parser that decisions are made with.
Source:  RFC 5322 §3.4, §4.4.
"""

from __future__ import annotations

import re
from typing import Final

from chatmail.domain.formats.mime_structure import unescape

MAX_ADDRESSES: Final = 1000
MAX_EFFORT: Final = 2000
"""Addresses of the usual form, and lexemes of any other, that one reader looks at: 5 to 10 ms."""
MAX_QUOTED: Final = 2000

Lexeme = tuple[str, bytes]
Address = tuple[bytes | None, bytes | None, bytes | None]
"""(display name, mailbox, host); a group starts with (None, name, None), ends with all None."""

_ATOM: Final = rb"[^\s\"(),:;<>@\[\]\\]"
# What nearly all addresses look like, with the comma behind them; the rest goes lexeme by lexeme.
_USUAL: Final = re.compile(
    rb"\s*(?:(?:\"(?P<quoted>[^\"\\]*)\"|(?P<phrase>%(a)b+(?:[ \t]+%(a)b+)*))?"
    rb"\s*<(?P<local>%(a)b+)@(?P<host>%(a)b+|\[[^\]\[\\]*\])>"
    rb"|(?P<bare>%(a)b+)@(?P<bare_host>%(a)b+|\[[^\]\[\\]*\]))\s*(?:,|\Z)" % {b"a": _ATOM}
)
_LEXEME: Final = re.compile(
    rb"\"(?P<quoted>(?:[^\"\\]|\\.)*)\"?"
    rb"|(?P<literal>\[[^\]]*\]?)"
    rb"|(?P<atom>[^\s\"(),:;<>@\[\]]+)"
    rb"|(?P<special>[(),:;<>@])",
    re.DOTALL,
)
_IN_COMMENT: Final = re.compile(rb"(?:[^()\\]|\\.)*+([()])", re.DOTALL)
_SPACES: Final = re.compile(rb"\s+")


def parse_addresses(value: bytes) -> list[Address]:
    """Parse one address list, groups included; at most 1000 addresses."""
    return AddressReader().read(value)


class AddressReader:
    """Reads the address lists of one header block, with bounded effort for all of them together."""

    def __init__(self) -> None:
        self._effort = MAX_EFFORT

    def read(self, value: bytes) -> list[Address]:
        """Return the addresses of a list, its start only when the effort is spent."""
        found: list[Address] = []
        at, in_group = 0, False
        while at < len(value) and len(found) < MAX_ADDRESSES and self._effort > 0:
            usual = _USUAL.match(value, at)
            if usual is not None:
                self._effort -= 1
                found.append(_usual_address(usual))
                at = usual.end()
                continue
            lexemes, end, at = self._until_delimiter(value, at, in_group=in_group)
            if end == b":":
                found.append((None, _phrase(lexemes) or b"", None))
                in_group = True
                continue
            _add_address(lexemes, found)
            if end == b";" and in_group:
                found.append((None, None, None))
                in_group = False
        if in_group:
            found.append((None, None, None))
        return found

    def _until_delimiter(
        self, value: bytes, at: int, *, in_group: bool
    ) -> tuple[list[Lexeme], bytes, int]:
        """Return the lexemes up to `,`, `;` or the `:` of a group, that delimiter, what is behind.

        Quoted strings are unquoted, comments dropped.
        """
        lexemes: list[Lexeme] = []
        in_angle = False
        while self._effort > 0 and (match := _LEXEME.search(value, at)) is not None:
            self._effort -= 1
            at = match.end()
            kind, text = str(match.lastgroup), match[0]
            if text in (b"(", b")"):
                at = self._behind_comment(value, at) if text == b"(" else at
                continue
            if kind == "special":
                in_angle = (in_angle or text == b"<") and text != b">"
                if text == b";" or (text == b"," and not in_angle):
                    return lexemes, text, at
                if text == b":" and not in_angle and not in_group:
                    return lexemes, text, at
            elif kind == "quoted":
                text = unescape(match["quoted"][:MAX_QUOTED])
            lexemes.append((kind if kind == "special" else "word", text))
        return lexemes, b"", len(value)

    def _behind_comment(self, value: bytes, at: int) -> int:
        """Return where a comment ends that was opened before `at`; quotes mean nothing inside."""
        depth = 1
        while depth and self._effort > 0:
            self._effort -= 1
            match = _IN_COMMENT.match(value, at)
            if match is None:
                return len(value)
            depth += 1 if match[1] == b"(" else -1
            at = match.end()
        return at


def _usual_address(match: re.Match[bytes]) -> Address:
    if match["bare"] is not None:
        return None, match["bare"], match["bare_host"]
    name = match["quoted"]
    if name is None and match["phrase"] is not None:
        name = _SPACES.sub(b" ", match["phrase"])
    return name or None, match["local"], match["host"]


def _add_address(lexemes: list[Lexeme], found: list[Address]) -> None:
    if not lexemes:
        return
    if ("special", b"<") in lexemes:
        start = lexemes.index(("special", b"<"))
        name, spec = _phrase(lexemes[:start]), lexemes[start + 1 :]
        if ("special", b":") in spec:  # an obsolete source route
            spec = spec[spec.index(("special", b":")) + 1 :]
    else:
        name, spec = None, lexemes
    if ("special", b"@") in spec:
        at = len(spec) - 1 - spec[::-1].index(("special", b"@"))
        local, host = spec[:at], spec[at + 1 :]
        found.append((name, _glued(local), _glued(host)))
    elif spec or name:
        # RFC 3501 has no form for an address without a domain: an empty host keeps it apart from
        # a group start, whose host is NIL.
        found.append((name, _glued(spec), b""))


def _phrase(lexemes: list[Lexeme]) -> bytes | None:
    return b" ".join(text for kind, text in lexemes if kind != "special") or None


def _glued(lexemes: list[Lexeme]) -> bytes:
    return b"".join(text for kind, text in lexemes if kind != "special")
