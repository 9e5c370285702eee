"""SMTP commands: one frozen value each, and the grammar that yields them.

Input is one command line without its CRLF, already known to hold no bare CR, LF or NUL.
Source:  RFC 5321 §4.1.1, §4.1.2; RFC 1870, 6152, 4954 (parameters of MAIL); spec mail 6.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, TypeAlias

import attrs

from chatmail.domain.model.address import AddressError, EmailAddress
from chatmail.domain.wire.smtp import replies
from chatmail.domain.wire.smtp.replies import Reply

MAX_HELLO_OCTETS: Final = 255


@attrs.frozen
class Hello:
    """EHLO (`is_extended`) or HELO. The name is checked and dropped: nothing depends on it."""

    is_extended: bool


@attrs.frozen
class StartTls:
    """RFC 3207."""


@attrs.frozen
class Auth:
    """RFC 4954 §4; `initial` is still base64."""

    mechanism: str
    initial: bytes | None = attrs.field(repr=False)


@attrs.frozen
class Mail:
    """MAIL: `reverse_path` None is `<>`; `size` is what the client announced (RFC 1870)."""

    reverse_path: EmailAddress | None
    size: int | None


@attrs.frozen
class Rcpt:
    """RCPT, with the address as given: a `+detail` is still there."""

    forward_path: EmailAddress


@attrs.frozen
class Data:
    """DATA."""


@attrs.frozen
class Reset:
    """RSET."""


@attrs.frozen
class Noop:
    """NOOP."""


@attrs.frozen
class Verify:
    """VRFY."""

    argument: str


@attrs.frozen
class Help:
    """HELP."""


@attrs.frozen
class Quit:
    """QUIT."""


Command: TypeAlias = (
    Hello | StartTls | Auth | Mail | Rcpt | Data | Reset | Noop | Verify | Help | Quit
)


class CommandError(Exception):
    """The line is no command of ours; `reply` says so. `is_foreign`: it is another protocol."""

    def __init__(self, reply: Reply, *, is_foreign: bool = False) -> None:
        super().__init__(reply.text)
        self.reply = reply
        self.is_foreign = is_foreign


def parse_command(line: bytes) -> Command:
    """Parse one command line.

    Raises:  CommandError: unknown command or bad argument.
    """
    verb, _, argument = line.partition(b" ")
    parse = _PARSERS.get(verb.upper())
    if parse is None:
        raise CommandError(replies.UNKNOWN_COMMAND, is_foreign=_FOREIGN.match(line) is not None)
    return parse(argument.strip())


# A web client that was led here must not have the rest of its request read as mail (ALPACA).
_FOREIGN: Final = re.compile(
    rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|PATCH|TRACE) [^ ]+ HTTP/|\x16\x03"
)
# The optional source route is dropped: RFC 5321 appendix C.
_PATH: Final = re.compile(rb"[ \t]*<(?:@[^:<>]*:)?([^<>\s]*)>(?:[ \t]+(.*))?\Z")
_LOCAL: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+\Z")
_SIZE: Final = re.compile(rb"[0-9]{1,20}\Z")
_BODIES: Final = (b"7BIT", b"8BITMIME")


@lru_cache(maxsize=8192)
def _mailbox(octets: bytes) -> EmailAddress:
    """Parse the inside of `<…>`.

    Raises:  AddressError.
    """
    try:
        text = octets.decode("ascii")
    except UnicodeDecodeError:
        raise AddressError("address is not ASCII") from None
    local, at, domain = text.rpartition("@")
    if local.startswith('"') and local.endswith('"') and len(local) > 2:
        # `"user"@d` is the mailbox `user@d`; what needs its quotes exists nowhere here.
        local = local[1:-1]
    if not at or not _LOCAL.match(local):
        raise AddressError("local part is malformed")
    return EmailAddress.parse(f"{local}@{domain}")


def _mail(argument: bytes) -> Mail:
    if argument[:5].upper() != b"FROM:":
        raise CommandError(replies.BAD_ARGUMENT)
    match = _PATH.match(argument, 5)
    if match is None:
        raise CommandError(replies.BAD_SENDER)
    path, parameters = match.groups()
    try:
        sender = _mailbox(path) if path else None
    except AddressError:
        raise CommandError(replies.BAD_SENDER) from None
    return Mail(sender, _announced_size(parameters) if parameters else None)


def _announced_size(parameters: bytes) -> int | None:
    """Check the parameters of MAIL and return what SIZE says."""
    size = None
    seen = set()
    for parameter in parameters.split():
        keyword, _, value = parameter.partition(b"=")
        keyword = keyword.upper()
        if keyword in seen:
            raise CommandError(replies.BAD_ARGUMENT)
        seen.add(keyword)
        match keyword:
            case b"SIZE":
                is_valid = _SIZE.match(value) is not None
                size = int(value) if is_valid else None
            case b"BODY":
                is_valid = value.upper() in _BODIES
            case b"AUTH":
                # RFC 4954 §5: taken, never trusted.
                is_valid = bool(value)
            case _:
                raise CommandError(replies.UNKNOWN_PARAMETER)
        if not is_valid:
            raise CommandError(replies.BAD_ARGUMENT)
    return size


def _rcpt(argument: bytes) -> Rcpt:
    if argument[:3].upper() != b"TO:":
        raise CommandError(replies.BAD_ARGUMENT)
    match = _PATH.match(argument, 3)
    if match is None:
        raise CommandError(replies.BAD_RECIPIENT)
    path, parameters = match.groups()
    if parameters:
        raise CommandError(replies.UNKNOWN_PARAMETER)
    try:
        return Rcpt(_mailbox(path))
    except AddressError:
        raise CommandError(replies.BAD_RECIPIENT) from None


def _hello(argument: bytes, *, is_extended: bool) -> Hello:
    if len(argument) > MAX_HELLO_OCTETS or len(argument.split()) != 1:
        raise CommandError(replies.BAD_ARGUMENT)
    return Hello(is_extended)


def _auth(argument: bytes) -> Auth:
    parts = argument.split()
    if not 1 <= len(parts) <= 2:
        raise CommandError(replies.BAD_ARGUMENT)
    mechanism = parts[0].decode("ascii", "replace")
    return Auth(mechanism, parts[1] if len(parts) == 2 else None)


def _verify(argument: bytes) -> Verify:
    if not argument:
        raise CommandError(replies.BAD_ARGUMENT)
    return Verify(argument.decode("ascii", "replace"))


def _bare(command: Command) -> Callable[[bytes], Command]:
    """Return the parser of a command that takes no argument."""

    def parse(argument: bytes) -> Command:
        if argument:
            raise CommandError(replies.BAD_ARGUMENT)
        return command

    return parse


def _not_implemented(argument: bytes) -> Command:
    raise CommandError(replies.NOT_IMPLEMENTED)


_PARSERS: Final[Mapping[bytes, Callable[[bytes], Command]]] = {
    b"EHLO": lambda argument: _hello(argument, is_extended=True),
    b"HELO": lambda argument: _hello(argument, is_extended=False),
    b"STARTTLS": _bare(StartTls()),
    b"AUTH": _auth,
    b"MAIL": _mail,
    b"RCPT": _rcpt,
    b"DATA": _bare(Data()),
    b"RSET": _bare(Reset()),
    b"NOOP": lambda argument: Noop(),
    b"VRFY": _verify,
    b"HELP": lambda argument: Help(),
    b"QUIT": _bare(Quit()),
    b"EXPN": _not_implemented,
}
