"""SASL exchanges PLAIN and LOGIN, server side, as objects without I/O.

Base64 and the cancelling `*` belong to the protocol around it; `decode_response` does the former
for both of them. A password never appears in a repr or in an exception.
"""

from __future__ import annotations

import base64
from typing import Final, TypeAlias

import attrs

from chatmail.domain.formats.transfer_encoding import decode_groups
from chatmail.domain.model.account import Credentials
from chatmail.domain.model.errors import RemoteProtocolError

MECHANISMS: Final = ("PLAIN", "LOGIN")
MAX_RESPONSE_OCTETS: Final = 12288
"""RFC 4954 §4: the longest line of an exchange, with its CRLF."""


class SaslEncodingError(RemoteProtocolError):
    """A response is not base64. The message never repeats it."""


@attrs.frozen
class Challenge:
    """What the server asks next; `text` is before base64."""

    text: bytes

    @property
    def encoded(self) -> bytes:
        """The challenge as it goes over the wire, without prefix and line end."""
        return base64.b64encode(self.text)


@attrs.frozen
class Rejected:
    """The exchange cannot succeed: to be answered exactly like a wrong password."""


Step: TypeAlias = Challenge | Credentials | Rejected


class PlainExchange:
    """RFC 4616: one message `authzid NUL authcid NUL passwd`, asked for by an empty challenge."""

    def begin(self, initial: bytes | None) -> Step:
        """Start, with the decoded initial response if the client sent one."""
        return Challenge(b"") if initial is None else self.respond(initial)

    def respond(self, response: bytes) -> Step:
        """Take one decoded response."""
        authzid, *rest = response.split(b"\0")
        if len(rest) != 2:
            return Rejected()
        authcid, password = rest
        # Acting for somebody else is not offered: spec mail 2.8.
        if authzid and authzid.lower() != authcid.lower():
            return Rejected()
        return _credentials(authcid, password)


class LoginExchange:
    """The LOGIN mechanism: two prompts. Clients accept only these very texts (spec mail 2.8)."""

    def __init__(self) -> None:
        self._login: bytes | None = None

    def begin(self, initial: bytes | None) -> Step:
        """Start; some clients send the user name as initial response."""
        return Challenge(b"Username:") if initial is None else self.respond(initial)

    def respond(self, response: bytes) -> Step:
        """Take one decoded response."""
        if self._login is None:
            self._login = response
            return Challenge(b"Password:")
        return _credentials(self._login, response)


Exchange: TypeAlias = PlainExchange | LoginExchange


def exchange(mechanism: str) -> Exchange | None:
    """Return a new exchange of this mechanism (any case), None: not offered."""
    match mechanism.upper():
        case "PLAIN":
            return PlainExchange()
        case "LOGIN":
            return LoginExchange()
        case _:
            return None


def decode_response(octets: bytes) -> bytes:
    """Decode one response line (without line end).

    Raises:  SaslEncodingError: not strict base64.
    """
    # Not `base64.b64decode(validate=True)`: it lets padding without need pass, as in `dUBk==`.
    decoded = None if len(octets) % 4 else decode_groups(octets)
    if decoded is None:
        raise SaslEncodingError("response is not base64")
    return decoded


def decode_initial(octets: bytes) -> bytes:
    """Decode an initial response, where `=` stands for an empty one (RFC 4954 §4, RFC 4959).

    Raises:  SaslEncodingError: not strict base64.
    """
    return b"" if octets == b"=" else decode_response(octets)


def _credentials(login: bytes, password: bytes) -> Credentials | Rejected:
    try:
        return Credentials(login.decode(), password)
    except UnicodeDecodeError:
        return Rejected()
