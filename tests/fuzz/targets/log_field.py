"""Log fields: nothing private passes, whatever is handed in (contract 4)."""

from __future__ import annotations

import json
import re

from chatmail.adapters.system.redaction import (
    REDACTED,
    PeerAddress,
    Pseudonyms,
    Public,
    Redactor,
    is_plain_word,
    truncated,
)
from chatmail.domain.model.address import AddressError, EmailAddress

WORDS = (
    b"a@b.example",
    b"192.0.2.77",
    b"2001:db8::77",
    b"not_owner",
    b"O-20",
    b"\n",
    b"%eth0",
    b"::ffff:",
)


class _Still:
    """A clock and a source of chance that stand still."""

    def now_s(self) -> float:
        return 0.0

    def monotonic_s(self) -> float:
        return 0.0

    def octets(self, count: int) -> bytes:
        return bytes(count)


_REDACTORS = [
    Redactor(
        pseudonyms=Pseudonyms(_Still(), _Still()), names_addresses=names, shows_networks=networks
    )
    for names in (False, True)
    for networks in (False, True)
]


def check(data: bytes) -> None:
    """Text passes as a plain word only; an address never in full; one field is one line."""
    text = data.decode("utf-8", "surrogateescape")
    if is_plain_word(text):
        assert re.fullmatch(r"[A-Za-z0-9 _-]{1,40}", text)
        assert not re.search(r"\d{3}", text)
    for redactor in _REDACTORS:
        shown = redactor.plain(text)
        assert shown in (text, REDACTED)
        assert shown == REDACTED or is_plain_word(text)
        peer = redactor.plain(PeerAddress(text))
        assert peer == REDACTED or (redactor.shows_networks and peer == truncated(text))
        assert redactor.plain(data) == REDACTED
        many = redactor.plain([text] * 40)
        assert isinstance(many, list)
        assert len(many) <= 16
        error = str(redactor.plain(ValueError(text)))
        assert error == "ValueError"
        public = redactor.plain(Public(text))
        assert isinstance(public, str)
        assert "\n" not in public
        json.dumps(public).encode()
    _check_address(text)
    assert truncated(text) == REDACTED or re.search(r"(?:\.0/24|::/48|:/48|/48)\Z", truncated(text))


def _check_address(text: str) -> None:
    try:
        address = EmailAddress.parse(text)
    except AddressError:
        return
    for redactor in _REDACTORS:
        shown = redactor.plain(address)
        assert shown == REDACTED or re.fullmatch(r"[0-9a-f]{8}", str(shown))


VECTORS = (
    b"not_owner",
    b"alice@example.org",
    b"192.0.2.77",
    b"2001:db8::77",
    b"FETCH",
    b"O-20",
    b"a\nb",
)
