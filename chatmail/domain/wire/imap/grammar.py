"""Second stage of reading IMAP: one assembled command becomes one value of `commands`.

Source:  RFC 3501 §6 and §9; spec mail 4.4.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from chatmail.domain.wire.imap.commands import (
    Authenticate,
    Capability,
    Close,
    Command,
    Compress,
    Copy,
    Delete,
    Enable,
    Expunge,
    Id,
    Idle,
    Login,
    Logout,
    Namespace,
    Noop,
    Rename,
    StartTls,
    Subscribe,
)
from chatmail.domain.wire.imap.grammar_fetch import parse_fetch
from chatmail.domain.wire.imap.grammar_mailbox import (
    parse_create,
    parse_get_metadata,
    parse_get_quota,
    parse_get_quota_root,
    parse_list,
    parse_lsub,
    parse_select,
    parse_set_metadata,
    parse_set_quota,
    parse_status,
)
from chatmail.domain.wire.imap.grammar_notify import parse_notify
from chatmail.domain.wire.imap.grammar_search import parse_search
from chatmail.domain.wire.imap.grammar_store import parse_store
from chatmail.domain.wire.imap.lexer import Lexer, SyntaxProblem

Parser: TypeAlias = Callable[[Lexer], Command]

# RFC 2971 §3.3, spec mail 4.4 (ID).
MAX_ID_PAIRS: Final = 30
MAX_ID_KEY_BYTES: Final = 30
MAX_ID_VALUE_BYTES: Final = 1024
MAX_ENABLE_NAMES: Final = 32

_MECHANISM: Final = re.compile(rb"[A-Za-z0-9_-]{1,20}")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]*={0,2}(?= *\Z)")


def parse_command(
    word: bytes,
    text: bytes,
    at: int,
    literals: Sequence[bytes],
    enabled: frozenset[str] = frozenset(),
) -> Command:
    """Parse the arguments of one command.

    Args:
        word: the command's name in capitals, one of `PARSERS`.
        text: the command without its line ends, `LITERAL_MARK` for each literal.
        at: where the arguments begin: right behind the name.
        literals: the octets of the literals in order.
        enabled: what ENABLE switched on.
    Raises:
        SyntaxProblem: not of the grammar.
        CommandRefused: of the grammar, but not served.
    """
    lexer = Lexer(text, at, literals, enabled)
    command = PARSERS[word](lexer)
    lexer.end()
    return command


def _constant(command: Command) -> Parser:
    """Make the parser of a command without arguments."""

    def parse(lexer: Lexer) -> Command:
        return command

    return parse


def _parse_id(lexer: Lexer) -> Id:
    lexer.space()
    if not lexer.accept(b"("):
        if lexer.keyword() != "NIL":
            raise SyntaxProblem(b"Expected NIL or a list")
        return Id()
    pairs = 0
    while not lexer.accept(b")"):
        key = lexer.string()
        lexer.space()
        value = lexer.nstring() or b""
        pairs += 1
        if pairs > MAX_ID_PAIRS or len(key) > MAX_ID_KEY_BYTES or len(value) > MAX_ID_VALUE_BYTES:
            raise SyntaxProblem(b"ID is too long")
        if not lexer.peek(b")"):
            lexer.space()
    return Id()


def _parse_login(lexer: Lexer) -> Login:
    lexer.space()
    user = lexer.astring()
    lexer.space()
    return Login(user, lexer.astring())


def _parse_authenticate(lexer: Lexer) -> Authenticate:
    lexer.space()
    mechanism = lexer.match(_MECHANISM, b"Expected a mechanism").group().upper().decode("ascii")
    if not lexer.accept_space() or lexer.at_end:
        return Authenticate(mechanism)
    return Authenticate(mechanism, lexer.match(_BASE64, b"Invalid base64").group())


def _parse_enable(lexer: Lexer) -> Enable:
    names: dict[str, None] = {}
    while not names or not lexer.at_end:
        lexer.space()
        names[lexer.keyword()] = None
        if len(names) > MAX_ENABLE_NAMES:
            raise SyntaxProblem(b"Too many capabilities")
    return Enable(tuple(names))


def _parse_compress(lexer: Lexer) -> Compress:
    lexer.space()
    return Compress(lexer.keyword())


def _parse_delete(lexer: Lexer) -> Delete:
    lexer.space()
    return Delete(lexer.mailbox())


def _parse_rename(lexer: Lexer) -> Rename:
    lexer.space()
    old = lexer.mailbox()
    lexer.space()
    return Rename(old, lexer.mailbox())


def _parse_subscribe(lexer: Lexer, subscribed: bool) -> Subscribe:
    lexer.space()
    return Subscribe(lexer.mailbox(), subscribed)


def _parse_copy(lexer: Lexer, by_uid: bool, move: bool) -> Copy:
    lexer.space()
    messages = lexer.sequence_set()
    lexer.space()
    return Copy(messages, by_uid, lexer.mailbox(), move)


def _parse_uid_expunge(lexer: Lexer) -> Expunge:
    lexer.space()
    return Expunge(lexer.sequence_set())


def _parse_uid(lexer: Lexer) -> Command:
    lexer.space()
    parse = UID_PARSERS.get(lexer.atom().upper())
    if parse is None:
        raise SyntaxProblem(b"Unknown UID command")
    return parse(lexer)


def _numbered(by_uid: bool) -> dict[bytes, Parser]:
    """Make the parsers of the commands that exist with sequence numbers and with UIDs."""
    return {
        b"FETCH": functools.partial(parse_fetch, by_uid=by_uid),
        b"STORE": functools.partial(parse_store, by_uid=by_uid),
        b"SEARCH": functools.partial(parse_search, by_uid=by_uid),
        b"COPY": functools.partial(_parse_copy, by_uid=by_uid, move=False),
        b"MOVE": functools.partial(_parse_copy, by_uid=by_uid, move=True),
    }


UID_PARSERS: Final[Mapping[bytes, Parser]] = {
    **_numbered(by_uid=True),
    b"EXPUNGE": _parse_uid_expunge,
}

# APPEND is not here: the machine parses it up to its literal (grammar_store.parse_append).
PARSERS: Final[Mapping[bytes, Parser]] = {
    b"CAPABILITY": _constant(Capability()),
    b"NOOP": _constant(Noop()),
    b"LOGOUT": _constant(Logout()),
    b"ID": _parse_id,
    b"STARTTLS": _constant(StartTls()),
    b"LOGIN": _parse_login,
    b"AUTHENTICATE": _parse_authenticate,
    b"ENABLE": _parse_enable,
    b"NAMESPACE": _constant(Namespace()),
    b"SELECT": functools.partial(parse_select, read_only=False),
    b"EXAMINE": functools.partial(parse_select, read_only=True),
    b"CREATE": parse_create,
    b"DELETE": _parse_delete,
    b"RENAME": _parse_rename,
    b"SUBSCRIBE": functools.partial(_parse_subscribe, subscribed=True),
    b"UNSUBSCRIBE": functools.partial(_parse_subscribe, subscribed=False),
    b"LIST": parse_list,
    b"LSUB": parse_lsub,
    b"STATUS": parse_status,
    b"GETQUOTAROOT": parse_get_quota_root,
    b"GETQUOTA": parse_get_quota,
    b"SETQUOTA": parse_set_quota,
    b"GETMETADATA": parse_get_metadata,
    b"SETMETADATA": parse_set_metadata,
    b"COMPRESS": _parse_compress,
    b"IDLE": _constant(Idle()),
    b"NOTIFY": parse_notify,
    b"CHECK": _constant(Noop("Check")),
    b"CLOSE": _constant(Close(expunge=True)),
    b"UNSELECT": _constant(Close(expunge=False)),
    b"EXPUNGE": _constant(Expunge()),
    b"UID": _parse_uid,
    **_numbered(by_uid=False),
}
