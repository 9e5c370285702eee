"""What may leave this process as a log field: the privacy floor, whatever the level.

Nothing passes because of where it came from, only because of what it is: numbers, plain words
of our own code and what is marked `Public` do; addresses become pseudonyms of the day;
everything else becomes a mark. Source:  spec policy 6, contract 4.
"""

from __future__ import annotations

import enum
import hmac
import ipaddress
import re
from collections.abc import Iterable
from types import TracebackType
from typing import Final, TypeAlias

import attrs

from chatmail.domain.model.account import SECONDS_PER_DAY
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.ports.system import Clock, Entropy

REDACTED: Final = "[redacted]"
MAX_ITEMS: Final = 16
MAX_PLACES: Final = 3

Plain: TypeAlias = bool | int | float | str | list["Plain"] | None

# The words of our own code: `not_owner`, `FETCH`, `O-20`. Names, passwords and tokens that
# machines draw mix letters with digits or cases, so a slip at a call site stays harmless.
_WORD: Final = re.compile(r"(?:[a-z]+(?:[_-][a-z]+)*|[A-Z]+(?:[ _-][A-Z]+)*|[A-Z]-[A-Z]*\d{1,2})\Z")
_MAX_WORD: Final = 40


@attrs.frozen
class Public:
    """Text that identifies nobody: a listener's address, a path, a version, a peer's domain."""

    text: str


@attrs.frozen
class PeerAddress:
    """The address of a client: shown as its /24 or /48 where the operator allows it at debug."""

    host: str = attrs.field(repr=False)


class Pseudonyms:
    """Names for addresses that hold for one UTC day and one run of the process."""

    def __init__(self, clock: Clock, entropy: Entropy) -> None:
        self._clock = clock
        self._key = entropy.octets(32)
        self._day = -1
        self._daily_key = b""

    def of(self, address: EmailAddress) -> str:
        """Return 8 hexadecimal digits."""
        day = int(self._clock.now_s()) // SECONDS_PER_DAY
        if day != self._day:
            self._day = day
            self._daily_key = hmac.digest(self._key, b"%d" % day, "sha256")
        return hmac.digest(self._daily_key, str(address).encode(), "sha256").hex()[:8]


def is_plain_word(text: str) -> bool:
    """Say whether a text looks like a word of our own code."""
    return len(text) <= _MAX_WORD and _WORD.match(text) is not None


def truncated(host: str) -> str:
    """Return the /24 or /48 of an IP address, or the mark."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return REDACTED
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    bits = 24 if address.version == 4 else 48
    return str(ipaddress.ip_network((address, bits), strict=False))


@attrs.frozen(kw_only=True)
class Redactor:
    """Turns one field into something that may be written."""

    pseudonyms: Pseudonyms
    names_addresses: bool = True
    shows_networks: bool = False

    def plain(self, value: object) -> Plain:
        """Return the value if its type and shape are allowed, else the mark."""
        match value:
            case None | bool() | int() | float():
                return value
            case enum.Enum():
                return self.plain(value.value)
            case Public():
                return "".join(c if c.isprintable() else "?" for c in value.text)
            case EmailAddress():
                return self.pseudonyms.of(value) if self.names_addresses else REDACTED
            case PeerAddress():
                return truncated(value.host) if self.shows_networks else REDACTED
            case BaseException():
                return exception_place(value)
            case str():
                return value if is_plain_word(value) else REDACTED
            case list() | tuple() | set() | frozenset():
                return self._items(value)
            case _:
                return REDACTED

    def _items(self, values: Iterable[object]) -> Plain:
        return [self.plain(value) for _, value in zip(range(MAX_ITEMS), values, strict=False)]


def exception_place(error: BaseException) -> str:
    """Return `ExceptionType at module:line`, never the exception's own text.

    The place is the innermost one inside this package, else the innermost one. Of a group the
    first leaves are named.
    """
    if isinstance(error, BaseExceptionGroup):
        leaves = list(_leaves(error))
        places = [exception_place(leaf) for leaf in leaves[:MAX_PLACES]]
        return f"{type(error).__name__}({len(leaves)}): " + "; ".join(places)
    kind = type(error).__name__
    place = _place(error.__traceback__)
    return f"{kind} at {place}" if place else kind


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterable[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _place(trace: TracebackType | None) -> str:
    place, is_ours = "", False
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "?")
        ours_here = module.partition(".")[0] == "chatmail"
        if ours_here or not is_ours:
            place, is_ours = f"{module}:{trace.tb_lineno}", ours_here
        trace = trace.tb_next
    return place
