"""Commands about mailboxes as wholes: SELECT, CREATE, LIST, STATUS, quota, metadata.

Source:  RFC 3501 §6.3; RFC 7162 §3.2.5, RFC 6154, RFC 5258, RFC 5819, RFC 9208, RFC 5464.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from chatmail.domain.model.mailbox import DELIMITER
from chatmail.domain.wire.imap.commands import (
    Create,
    GetMetadata,
    GetQuota,
    GetQuotaRoot,
    List,
    QresyncParameter,
    Select,
    SetMetadata,
    SetQuota,
    Status,
)
from chatmail.domain.wire.imap.lexer import CommandRefused, Lexer, SyntaxProblem
from chatmail.domain.wire.imap.sequence import SequenceSet

STATUS_ITEMS: Final = frozenset(
    {"MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN"}
    | {"HIGHESTMODSEQ", "SIZE", "APPENDLIMIT", "DELETED", "MAILBOXID"}
)
SPECIAL_USES: Final = {
    use.upper(): use
    for use in ("\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash")
}
MAX_PATTERNS: Final = 32
MAX_ENTRIES: Final = 64

_ENTRY: Final = re.compile(rb"(?:/[\x21-\x24\x26-\x29\x2b-\x2e\x30-\x7e]+)+\Z")
_ENTRY_STARTS: Final = (b"/", b'"', b"{")
_MAX_ENTRY_BYTES: Final = 256
_QUOTA_RESOURCES: Final = re.compile(rb"\([^()]*\)")


def parse_select(lexer: Lexer, read_only: bool) -> Select:
    """Parse the arguments of SELECT or EXAMINE."""
    lexer.space()
    select = Select(lexer.mailbox(), read_only)
    if not lexer.accept_space() or lexer.at_end:
        return select
    lexer.expect(b"(")
    while True:
        name = lexer.keyword()
        if name == "CONDSTORE":
            select = attrs.evolve(select, condstore=True)
        elif name == "QRESYNC":
            lexer.space()
            select = attrs.evolve(select, qresync=_parse_qresync(lexer))
        else:
            raise SyntaxProblem(b"Unknown SELECT parameter")
        if lexer.accept(b")"):
            return select
        lexer.space()


def _parse_qresync(lexer: Lexer) -> QresyncParameter:
    lexer.expect(b"(")
    uid_validity = lexer.number(least=1)
    lexer.space()
    modseq = lexer.modseq()
    known_uids = known_sequence = None
    if lexer.accept_space() and not lexer.peek(b"("):
        known_uids = _known_set(lexer)
        lexer.accept_space()
    if lexer.accept(b"("):
        numbers = _known_set(lexer)
        lexer.space()
        known_sequence = (numbers, _known_set(lexer))
        lexer.expect(b")")
    lexer.expect(b")")
    return QresyncParameter(uid_validity, modseq, known_uids, known_sequence)


def _known_set(lexer: Lexer) -> SequenceSet:
    """Consume a set that names numbers alone (RFC 7162 §3.2.5.1: no `*`)."""
    known = lexer.sequence_set()
    if known.saved or any(None in pair for pair in known.ranges):
        raise SyntaxProblem(b"Known sets name numbers only")
    return known


def parse_create(lexer: Lexer) -> Create:
    """Parse the arguments of CREATE."""
    lexer.space()
    name = lexer.mailbox()
    # RFC 3501 §6.3.3: a delimiter at the end only declares that levels below will follow.
    mailbox = name.removesuffix(DELIMITER) if len(name) > 1 else name
    if not lexer.accept_space() or lexer.at_end:
        return Create(mailbox)
    lexer.expect(b"(")
    if lexer.keyword() != "USE":
        raise SyntaxProblem(b"Unknown CREATE parameter")
    lexer.space()
    uses = _parse_uses(lexer)
    lexer.expect(b")")
    if len(uses) > 1:
        raise CommandRefused(b"NO [USEATTR] One special use per mailbox")
    return Create(mailbox, uses[0] if uses else None)


def _parse_uses(lexer: Lexer) -> list[str]:
    lexer.expect(b"(")
    uses: list[str] = []
    while not lexer.accept(b")"):
        lexer.expect(b"\\")
        use = SPECIAL_USES.get("\\" + lexer.keyword())
        if use is None:
            raise CommandRefused(b"NO [USEATTR] Special use not supported")
        uses.append(use)
        if not lexer.peek(b")"):
            lexer.space()
    return uses


# --- LIST, LSUB, STATUS ----------------------------------------------------------------------


def parse_lsub(lexer: Lexer) -> List:
    """Parse the arguments of LSUB."""
    lexer.space()
    reference = lexer.mailbox()
    lexer.space()
    return List(reference, (lexer.list_pattern(),), is_lsub=True)


def parse_list(lexer: Lexer) -> List:
    """Parse the arguments of LIST with the options of RFC 5258, 5819 and 6154."""
    lexer.space()
    select_options = None
    if lexer.peek(b"("):
        select_options = _parse_words(lexer)
        lexer.space()
    reference = lexer.mailbox()
    lexer.space()
    is_extended = select_options is not None or lexer.peek(b"(")
    patterns = _parse_patterns(lexer)
    command = List(reference, patterns, is_extended=is_extended)
    if select_options:
        command = _with_selection(command, select_options)
    if not lexer.accept_space() or lexer.at_end:
        return command
    if lexer.keyword() != "RETURN":
        raise SyntaxProblem(b"Expected RETURN")
    lexer.space()
    return _with_return(attrs.evolve(command, is_extended=True), lexer)


def _parse_words(lexer: Lexer) -> list[str]:
    """Consume a parenthesised list of atoms, in capitals."""
    lexer.expect(b"(")
    words: list[str] = []
    while not lexer.accept(b")"):
        words.append(lexer.keyword())
        if not lexer.peek(b")"):
            lexer.space()
    return words


def _parse_patterns(lexer: Lexer) -> tuple[str, ...]:
    if not lexer.accept(b"("):
        return (lexer.list_pattern(),)
    patterns = [lexer.list_pattern()]
    while not lexer.accept(b")"):
        lexer.space()
        patterns.append(lexer.list_pattern())
        if len(patterns) > MAX_PATTERNS:
            raise SyntaxProblem(b"Too many LIST patterns")
    return tuple(patterns)


def _with_selection(command: List, options: list[str]) -> List:
    known = {"SUBSCRIBED", "SPECIAL-USE", "REMOTE", "RECURSIVEMATCH"}
    if not known.issuperset(options):
        raise SyntaxProblem(b"Unknown LIST selection option")
    # RFC 5258 §3: RECURSIVEMATCH says nothing alone or with REMOTE alone.
    if "RECURSIVEMATCH" in options and not {"SUBSCRIBED", "SPECIAL-USE"} & set(options):
        raise SyntaxProblem(b"RECURSIVEMATCH needs another selection option")
    return attrs.evolve(
        command,
        select_subscribed="SUBSCRIBED" in options,
        select_special_use="SPECIAL-USE" in options,
        recursive_match="RECURSIVEMATCH" in options,
    )


def _with_return(command: List, lexer: Lexer) -> List:
    lexer.expect(b"(")
    options: set[str] = set()
    status: tuple[str, ...] = ()
    while not lexer.accept(b")"):
        option = lexer.keyword()
        if option == "STATUS":
            lexer.space()
            status = _parse_status_items(lexer)
        elif option not in ("SUBSCRIBED", "SPECIAL-USE", "CHILDREN"):
            raise SyntaxProblem(b"Unknown LIST return option")
        options.add(option)
        if not lexer.peek(b")"):
            lexer.space()
    return attrs.evolve(
        command,
        return_subscribed="SUBSCRIBED" in options,
        return_special_use="SPECIAL-USE" in options,
        return_children="CHILDREN" in options,
        return_status=status,
    )


def parse_status(lexer: Lexer) -> Status:
    """Parse the arguments of STATUS."""
    lexer.space()
    mailbox = lexer.mailbox()
    lexer.space()
    return Status(mailbox, _parse_status_items(lexer))


def _parse_status_items(lexer: Lexer) -> tuple[str, ...]:
    items = tuple(dict.fromkeys(_parse_words(lexer)))
    if not items or not STATUS_ITEMS.issuperset(items):
        raise SyntaxProblem(b"Unknown STATUS item")
    return items


# --- quota -----------------------------------------------------------------------------------


def parse_get_quota_root(lexer: Lexer) -> GetQuotaRoot:
    """Parse the argument of GETQUOTAROOT."""
    lexer.space()
    return GetQuotaRoot(lexer.mailbox())


def parse_get_quota(lexer: Lexer) -> GetQuota:
    """Parse the argument of GETQUOTA."""
    lexer.space()
    return GetQuota(lexer.astring().decode("utf-8", "replace"))


def parse_set_quota(lexer: Lexer) -> SetQuota:
    """Parse SETQUOTA as far as to know where it ends."""
    lexer.space()
    lexer.astring()
    lexer.space()
    lexer.match(_QUOTA_RESOURCES, b"Expected a list of quota resources")
    return SetQuota()


# --- metadata --------------------------------------------------------------------------------


def parse_get_metadata(lexer: Lexer) -> GetMetadata:
    """Parse GETMETADATA; options may stand before or after the mailbox (spec mail 4.4)."""
    lexer.space()
    command = GetMetadata("", ())
    if lexer.peek(b"("):
        command = _with_options(command, lexer)
        lexer.space()
    mailbox = lexer.mailbox()
    lexer.space()
    # An entry name begins with a slash, an option does not.
    if lexer.peek(b"(") and not lexer.text[lexer.at + 1 :].lstrip(b" ").startswith(_ENTRY_STARTS):
        command = _with_options(command, lexer)
        lexer.space()
    return attrs.evolve(command, mailbox=mailbox, entries=_parse_entries(lexer))


def _with_options(command: GetMetadata, lexer: Lexer) -> GetMetadata:
    lexer.expect(b"(")
    while True:
        name = lexer.keyword()
        lexer.space()
        if name == "MAXSIZE":
            command = attrs.evolve(command, max_size=lexer.number())
        elif name == "DEPTH":
            command = attrs.evolve(command, depth=_parse_depth(lexer))
        else:
            raise SyntaxProblem(b"Unknown GETMETADATA option")
        if lexer.accept(b")"):
            return command
        lexer.space()


def _parse_depth(lexer: Lexer) -> int | None:
    depth = lexer.keyword()
    if depth not in ("0", "1", "INFINITY"):
        raise SyntaxProblem(b"DEPTH is 0, 1 or infinity")
    return None if depth == "INFINITY" else int(depth)


def _parse_entries(lexer: Lexer) -> tuple[str, ...]:
    if not lexer.accept(b"("):
        return (_parse_entry(lexer),)
    lexer.accept_space()
    entries = [_parse_entry(lexer)]
    while not _closes(lexer):
        lexer.space()
        entries.append(_parse_entry(lexer))
        if len(entries) > MAX_ENTRIES:
            raise SyntaxProblem(b"Too many metadata entries")
    return tuple(dict.fromkeys(entries))


def _parse_entry(lexer: Lexer) -> str:
    name = lexer.astring()
    if len(name) > _MAX_ENTRY_BYTES or _ENTRY.match(name) is None:
        raise SyntaxProblem(b"Invalid metadata entry name")
    return name.lower().decode("ascii")


def _closes(lexer: Lexer) -> bool:
    """Consume a closing parenthesis, also after a space: the relay's own tests send one there."""
    before = lexer.at
    lexer.accept_space()
    if lexer.accept(b")"):
        return True
    lexer.at = before
    return False


def parse_set_metadata(lexer: Lexer) -> SetMetadata:
    """Parse SETMETADATA: values are NIL or strings of any form (trap T36)."""
    lexer.space()
    mailbox = lexer.mailbox()
    lexer.space()
    lexer.expect(b"(")
    lexer.accept_space()
    entries: list[tuple[str, bytes | None]] = []
    while True:
        name = _parse_entry(lexer)
        lexer.space()
        entries.append((name, lexer.nstring()))
        if len(entries) > MAX_ENTRIES:
            raise SyntaxProblem(b"Too many metadata entries")
        if _closes(lexer):
            return SetMetadata(mailbox, tuple(entries))
        lexer.space()
