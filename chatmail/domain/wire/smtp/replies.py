"""SMTP replies: values that are already encoded, and those the protocol itself makes.

Invariant: every line has its code, a space or hyphen, and text of clean 7-bit; the codes of one
reply are equal. Delta Chat core treats anything else as a broken server (spec mail 3.7, T28).
What is said about sender, recipients and content stands in the face's own table.
Source:  RFC 5321 §4.2; RFC 3463; spec mail 6.2, 6.3.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

MAX_TEXT: Final = 480
"""RFC 5321 §4.5.3.1.5: a reply line has at most 512 octets with code and CRLF."""

_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]")
# With a colon: the rate limit's text is matched literally by tests of other relays (mail 6.4).
_ENHANCED: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}:?\Z")


@attrs.frozen
class Reply:
    """One reply. `enhanced` is empty for greeting, EHLO and 354; `more` are further lines.

    Texts are made safe here: what is not printable ASCII becomes `?`, long ones are cut.
    """

    code: int
    enhanced: str
    text: str
    more: tuple[str, ...] = ()
    octets: bytes = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        # Core retries a permanent reply whose text begins with 5.5.0 (spec mail 3.7, T27).
        if self.enhanced.startswith("5.5.0") or not 200 <= self.code < 560:
            raise ValueError("such a reply is misread by clients")
        if self.enhanced and not (
            _ENHANCED.match(self.enhanced) and self.enhanced[0] == str(self.code)[0]
        ):
            raise ValueError("enhanced code does not fit the code")
        first = f"{self.enhanced} {self.text}" if self.enhanced else self.text
        object.__setattr__(self, "octets", _encode(self.code, (first, *self.more)))

    @property
    def is_positive(self) -> bool:
        """Say whether the command was accepted (2xx, 3xx)."""
        return self.code < 400


def _encode(code: int, lines: tuple[str, ...]) -> bytes:
    if not all(line.strip() for line in lines):
        raise ValueError("a reply line needs text")
    safe = [_UNPRINTABLE.sub("?", line)[:MAX_TEXT] for line in lines]
    text = "".join(f"{code}-{line}\r\n" for line in safe[:-1]) + f"{code} {safe[-1]}\r\n"
    return text.encode("ascii")


def greeting(hostname: str) -> Reply:
    """Return the one line that opens a connection: no product, no version."""
    return Reply(220, "", f"{hostname} ESMTP")


def capabilities(hostname: str, max_bytes: int, *, offers_tls: bool, offers_login: bool) -> Reply:
    """Return the EHLO reply (spec mail 6.2); core compares keywords case-sensitively."""
    keywords = ["PIPELINING", f"SIZE {max_bytes}"]
    if offers_tls:
        keywords.append("STARTTLS")
    if offers_login:
        keywords.append("AUTH PLAIN LOGIN")
    return Reply(250, "", hostname, (*keywords, "ENHANCEDSTATUSCODES", "8BITMIME"))


def helo(hostname: str) -> Reply:
    """Return the reply to HELO."""
    return Reply(250, "", hostname)


def continuation(encoded: bytes) -> bytes:
    """Return the 334 line of a SASL challenge; an empty one keeps its space (RFC 4954 §4)."""
    return b"334 " + encoded + b"\r\n"


MAIL_OK: Final = Reply(250, "2.1.0", "Ok")
RCPT_OK: Final = Reply(250, "2.1.5", "Ok")
OK: Final = Reply(250, "2.0.0", "Ok")
START_CONTENT: Final = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
READY_FOR_TLS: Final = Reply(220, "2.0.0", "Ready to start TLS")
LOGGED_IN: Final = Reply(235, "2.7.0", "Authentication successful")
BYE: Final = Reply(221, "2.0.0", "Bye")
HELP: Final = Reply(214, "2.0.0", "See RFC 5321")

SHUTTING_DOWN: Final = Reply(421, "4.3.2", "Service shutting down")
IDLE_TOO_LONG: Final = Reply(421, "4.4.2", "Idle for too long")
TOO_MANY_ERRORS: Final = Reply(421, "4.7.0", "Too many errors")
TOO_MANY_FAILURES: Final = Reply(421, "4.7.0", "Too many authentication failures")
SESSION_ENDED: Final = Reply(421, "4.7.0", "Session ended by the server")
NO_ROOM: Final = Reply(452, "4.3.1", "Insufficient system storage")
TOO_MANY_RECIPIENTS: Final = Reply(452, "4.5.3", "Too many recipients")

UNKNOWN_COMMAND: Final = Reply(500, "5.5.2", "Command not recognised")
BARE_LINE_END: Final = Reply(500, "5.5.2", "Bare CR, LF or NUL not allowed")
LINE_TOO_LONG: Final = Reply(500, "5.5.2", "Line too long")
RESPONSE_TOO_LONG: Final = Reply(500, "5.5.6", "Authentication exchange line is too long")
BAD_ARGUMENT: Final = Reply(501, "5.5.4", "Syntax error in argument")
BAD_BASE64: Final = Reply(501, "5.5.2", "Cannot decode base64")
LOGIN_CANCELLED: Final = Reply(501, "5.7.0", "Authentication cancelled")
BAD_SENDER: Final = Reply(501, "5.1.7", "Bad sender address syntax")
BAD_RECIPIENT: Final = Reply(501, "5.1.3", "Bad recipient address syntax")
NOT_IMPLEMENTED: Final = Reply(502, "5.5.1", "Command not implemented")
BAD_SEQUENCE: Final = Reply(503, "5.5.1", "Bad sequence of commands")
HELLO_FIRST: Final = Reply(503, "5.5.1", "Send EHLO first")
MAIL_FIRST: Final = Reply(503, "5.5.1", "Send MAIL first")
NESTED_MAIL: Final = Reply(503, "5.5.1", "Sender already given")
TLS_ACTIVE: Final = Reply(503, "5.5.1", "TLS already active")
ALREADY_LOGGED_IN: Final = Reply(503, "5.5.1", "Already authenticated")
LOGIN_IN_TRANSACTION: Final = Reply(503, "5.5.1", "No login during a mail transaction")
UNKNOWN_MECHANISM: Final = Reply(504, "5.5.4", "Authentication mechanism not offered")
TLS_FIRST: Final = Reply(530, "5.7.0", "Must issue a STARTTLS command first")
LOGIN_FIRST: Final = Reply(530, "5.7.0", "Authentication required")
NO_RECIPIENTS: Final = Reply(554, "5.5.1", "No valid recipients")
UNKNOWN_PARAMETER: Final = Reply(555, "5.5.4", "Parameter not recognised")
