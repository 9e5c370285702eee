"""Addresses: the strict mailboxes of the gate, the lenient ones of ENVELOPE, the normal form."""

from __future__ import annotations

import email.utils
import re

from chatmail.domain.formats.address_list import MAX_ADDRESSES, parse_addresses
from chatmail.domain.formats.rfc5322 import parse_mailbox, parse_mailboxes
from chatmail.domain.model.address import AddressError, EmailAddress, normalise_domain

WORDS = (
    *(b"<a@b.example>", b"a@[127.0.0.1]", b"@[IPv6:::1]", b'"quoted"', b"(comment)", b",", b";"),
    *(b":", b"<", b">", b"@", b"\\", b'"', b"undisclosed-recipients:;", b"xn--", b"\xc3\xa4", b"."),
)


def check(data: bytes) -> None:
    """What is one mailbox is the same one for every reader; the rest is total and bounded."""
    value = data.replace(b"\r", b" ").replace(b"\n", b" ").replace(b"\0", b" ")
    found = parse_addresses(data)
    assert len(found) <= MAX_ADDRESSES + 2
    _check_groups(found)
    mailboxes = parse_mailboxes(value)
    assert parse_mailbox(value) == (mailboxes[0] if len(mailboxes) == 1 else None)
    if len(mailboxes) == 1:
        _check_one(value, mailboxes[0])
    _check_text(value)


def _check_groups(found: list[tuple[bytes | None, bytes | None, bytes | None]]) -> None:
    """Every group that begins ends, and none begins inside another (RFC 3501 §7.4.2)."""
    is_open = False
    for name, mailbox, host in found:
        if host is None:
            assert name is None
            assert is_open == (mailbox is None)
            is_open = not is_open
        else:
            assert mailbox is not None
    assert not is_open


def _check_one(value: bytes, mailbox: EmailAddress) -> None:
    _check_normal(mailbox)
    spec = str(mailbox)
    # Other readers, asked in their own way, find this address and no second one.
    named = [
        (local or b"") + b"@" + (host or b"")
        for _, local, host in parse_addresses(value)
        if host is not None
    ]
    assert len(named) == 1, named
    if b'"' in value or b"\\" in value or not value.isascii():
        return
    assert _normal(named[0].decode("ascii")) == mailbox
    if "[" not in spec and b"(" not in value:
        pairs = email.utils.getaddresses([value.decode("ascii")])
        assert [_normal(address) for _, address in pairs] == [mailbox]


def _check_text(value: bytes) -> None:
    text = value.decode("utf-8", "replace")
    address = _normal(text)
    if address is not None:
        _check_normal(address)
    try:
        domain = normalise_domain(text)
    except AddressError:
        return
    assert normalise_domain(domain) == domain
    assert re.fullmatch(r"[a-z0-9_.-]+|\[[0-9.]+\]|\[IPv6:[0-9a-f:.]+(?:%[!-~]+)?\]", domain), (
        domain
    )


def _check_normal(address: EmailAddress) -> None:
    assert EmailAddress.parse(str(address)) == address
    assert address.local == address.local.lower()
    assert address.local.isascii()
    assert str(address).count("@") == 1


def _normal(text: str) -> EmailAddress | None:
    try:
        return EmailAddress.parse(text)
    except AddressError:
        return None


VECTORS = (
    b"<alice@example.org>",
    b"Alice <alice@example.org>",
    b'"Alice, \\"A\\"" (x (y)) <"al ice"@example.org> (z)',
    b"alice@[192.0.2.1], bob@[IPv6:2001:db8::1]",
    b"undisclosed-recipients:;",
    b"g: a@b, c@d; e@f",
    b"<@x,@y:a@b>",
    b"a@b@c",
    b"(a (b@c) d) <alice@example.org>",
    b"alice@b\xc3\xbccher.example",
    b"alice@[ipv6:::ffff:192.0.2.1]",
    b"Alice@EXAMPLE.org.",
)
