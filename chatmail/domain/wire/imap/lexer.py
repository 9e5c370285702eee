"""The words of IMAP: atoms, strings, numbers, dates out of one assembled command.

A command is one text in which each literal stands as a mark; the literals' octets lie beside it.
So no octet of a literal is ever taken for grammar.
Source:  RFC 3501 §9; RFC 7888; spec mail 4.1.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import Final

from chatmail.domain.model.errors import ChatmailError
from chatmail.domain.wire.imap.mailbox_name import decode_name, decode_utf8_name
from chatmail.domain.wire.imap.sequence import MAX_NUMBER, SequenceSet, parse_sequence_set

# What stands for a literal in the text. A line holds no LF, so nothing a peer sends equals it.
LITERAL_MARK: Final = b"{\n"
MAX_MODSEQ: Final = 2**63 - 1
UTF8_MODES: Final = frozenset(("IMAP4REV2", "UTF8=ACCEPT"))

_SPACES: Final = re.compile(rb" +")
_END: Final = re.compile(rb" *\Z")
_ATOM: Final = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")
_ASTRING: Final = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_PATTERN: Final = re.compile(rb"[!#$%&'*+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
# RFC 3501 §9: only `\"` and `\\` are escapes; 8-bit is accepted (spec mail 4.1).
_QUOTED: Final = re.compile(rb'"([^"\\]*(?:\\["\\][^"\\]*)*)"')
_ESCAPE: Final = re.compile(rb'\\(["\\])')
_SPECIAL: Final = re.compile(rb'["\\]')
_NUMBER: Final = re.compile(rb"[0-9]{1,20}")
_SET: Final = re.compile(rb"[0-9:*,$]+")
_DATE: Final = re.compile(rb'("?)([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})\1(?=[ )]|\Z)')

_MONTH_NAMES: Final = b"JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC"
MONTHS: Final = {name: number for number, name in enumerate(_MONTH_NAMES.split(), start=1)}
EPOCH_ORDINAL: Final = datetime.date(1970, 1, 1).toordinal()


class SyntaxProblem(ChatmailError):
    """The command is not of the grammar. `text` is constant printable ASCII for the BAD reply."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text.decode("ascii"))
        self.text = text


class CommandRefused(ChatmailError):
    """The command is of the grammar but refused: `response` is what follows the tag."""

    def __init__(self, response: bytes) -> None:
        super().__init__(response.decode("ascii"))
        self.response = response


class Lexer:
    """A cursor over one command. Every method consumes what it returns or raises SyntaxProblem."""

    __slots__ = ("_literals", "_used", "at", "enabled", "text")

    def __init__(
        self,
        text: bytes,
        at: int = 0,
        literals: Sequence[bytes] = (),
        enabled: frozenset[str] = frozenset(),
    ) -> None:
        """Args:  enabled: what ENABLE switched on, in capitals; it changes what words mean."""
        self.text = text
        self.at = at
        self.enabled = enabled
        self._literals = literals
        self._used = 0

    @property
    def is_utf8(self) -> bool:
        """Say whether names and quoted strings are UTF-8 (RFC 6855 §3, RFC 9051 §5.1)."""
        return not UTF8_MODES.isdisjoint(self.enabled)

    @property
    def has_literals(self) -> bool:
        """Say whether the command has any literal."""
        return bool(self._literals)

    def match(self, pattern: re.Pattern[bytes], otherwise: bytes) -> re.Match[bytes]:
        """Consume what a pattern matches here."""
        found = pattern.match(self.text, self.at)
        if found is None:
            raise SyntaxProblem(otherwise)
        self.at = found.end()
        return found

    def accept(self, octets: bytes) -> bool:
        """Consume exactly these octets if they come next."""
        if self.text.startswith(octets, self.at):
            self.at += len(octets)
            return True
        return False

    def expect(self, octets: bytes) -> None:
        """Consume exactly these octets."""
        if not self.accept(octets):
            raise SyntaxProblem(b"Expected " + octets)

    def peek(self, octets: bytes) -> bool:
        """Say whether these octets come next."""
        return self.text.startswith(octets, self.at)

    def space(self) -> None:
        """Consume the space between two arguments (several are taken for one)."""
        self.match(_SPACES, b"Missing argument")

    def accept_space(self) -> bool:
        """Consume spaces if they come next."""
        found = _SPACES.match(self.text, self.at)
        if found is None:
            return False
        self.at = found.end()
        return True

    def end(self) -> None:
        """Insist that nothing is left but spaces."""
        if self.at != len(self.text) and not self.at_end:
            raise SyntaxProblem(b"Unexpected extra arguments")

    @property
    def at_end(self) -> bool:
        """Say whether nothing is left but spaces."""
        return _END.match(self.text, self.at) is not None

    def rest(self) -> bytes:
        """Consume and return all that is left, without trailing spaces."""
        rest = self.text[self.at :].rstrip(b" ")
        self.at = len(self.text)
        return rest

    # --- words -------------------------------------------------------------------------------

    def atom(self) -> bytes:
        """Consume an atom."""
        return self.match(_ATOM, b"Expected an atom").group()

    def keyword(self) -> str:
        """Consume an atom whose case is ignored; returns capitals."""
        return self.atom().upper().decode("ascii")

    def astring(self) -> bytes:
        """Consume an atom, a quoted string or a literal; returns its octets, unescaped."""
        found = _ASTRING.match(self.text, self.at)
        if found is None:
            return self.string()
        self.at = found.end()
        return found.group()

    def string(self) -> bytes:
        """Consume a quoted string or a literal; returns its octets, unescaped, without NUL."""
        if self.accept(LITERAL_MARK):
            literal = self._literals[self._used]
            self._used += 1
            if b"\0" in literal:  # RFC 3501 §9: CHAR8 excludes NUL
                raise SyntaxProblem(b"NUL in literal")
            return literal
        quoted = self.match(_QUOTED, b"Expected a string")[1]
        if self.is_utf8 and not _is_utf8(quoted):
            raise SyntaxProblem(b"Quoted string is not UTF-8")  # RFC 6855 §3
        return _ESCAPE.sub(rb"\1", quoted) if b"\\" in quoted else quoted

    def nstring(self) -> bytes | None:
        """Consume a string or NIL, which is None."""
        if self.text[self.at : self.at + 3].upper() == b"NIL":
            self.at += 3
            return None
        return self.string()

    def number(self, *, least: int = 0, most: int = MAX_NUMBER) -> int:
        """Consume a number within bounds."""
        number = int(self.match(_NUMBER, b"Expected a number").group())
        if not least <= number <= most:
            raise SyntaxProblem(b"Number out of range")
        return number

    def modseq(self, *, least: int = 1) -> int:
        """Consume a mod-sequence value, 63 bits (RFC 7162 §7)."""
        return self.number(least=least, most=MAX_MODSEQ)

    def sequence_set(self) -> SequenceSet:
        """Consume a sequence set or `$`."""
        found = parse_sequence_set(self.match(_SET, b"Expected a sequence set").group())
        if found is None:
            raise SyntaxProblem(b"Invalid sequence set")
        return found

    def mailbox(self) -> str:
        """Consume a mailbox name; INBOX comes in capitals."""
        return self._decoded(self.astring())

    def list_pattern(self) -> str:
        """Consume a LIST pattern: as a mailbox name, but an atom may hold `%` and `*`."""
        found = _PATTERN.match(self.text, self.at)
        if found is None:
            return self._decoded(self.string())
        self.at = found.end()
        return self._decoded(found.group())

    def _decoded(self, raw: bytes) -> str:
        name = decode_utf8_name(raw) if self.is_utf8 else decode_name(raw)
        if name is None:
            form = b"UTF-8" if self.is_utf8 else b"modified UTF-7"
            raise SyntaxProblem(b"Mailbox name is not valid " + form)
        return name

    def day(self) -> int:
        """Consume a date (`1-Feb-1994`, quoted or not); returns days since 1970-01-01."""
        found = self.match(_DATE, b"Expected a date")
        return day_number(int(found[4]), found[3], int(found[2]))


def day_number(year: int, month: bytes, day: int) -> int:
    """Return days since 1970-01-01.

    Raises:  SyntaxProblem: there is no such day.
    """
    try:
        return datetime.date(year, MONTHS[month.upper()], day).toordinal() - EPOCH_ORDINAL
    except (KeyError, ValueError):
        raise SyntaxProblem(b"No such date") from None


def _is_utf8(octets: bytes) -> bool:
    if octets.isascii():
        return True
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def quoted(octets: bytes) -> bytes:
    """Return printable ASCII as a quoted string."""
    return b'"' + _SPECIAL.sub(rb"\\\g<0>", octets) + b'"'
