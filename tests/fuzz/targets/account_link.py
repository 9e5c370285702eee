"""Links and autoconfig: what a reader of URLs and XML gets out is what was put in."""

from __future__ import annotations

import urllib.parse
import xml.etree.ElementTree as ElementTree

from chatmail.domain.formats.account_links import (
    BoundPorts,
    CertificateKind,
    RelayFacts,
    autoconfig_xml,
    dcaccount_link,
    dclogin_link,
    page_url,
    secure_url,
)
from chatmail.domain.model.address import AddressError, EmailAddress
from tests.fuzz.cutting import read, vector

WORDS = (
    b"%",
    b"&",
    b"=",
    b"#",
    b"?",
    b"@",
    b"[",
    b"]",
    b"+",
    b" ",
    b"\xc3\xa4",
    b"<",
    b"\n",
    b"_x.y",
)


def check(data: bytes) -> None:
    """The payload is `address LF password`; the choices are certificate, ports and security."""
    given = read(data)
    text, _, password = given.payload.decode("utf-8", "replace").partition("\n")
    try:
        address = EmailAddress.parse(text)
    except AddressError:
        address = EmailAddress.parse("abcdefghi@[127.0.0.1]")
    facts = _facts(given.options, given.more, address.domain)
    _check_login(facts, str(address), password)
    _check_invitation(facts, password)
    _check_autoconfig(facts)


def _facts(options: int, more: int, domain: str) -> RelayFacts:
    numbers = [None, 1, 65535]
    return RelayFacts(
        mail_domain=domain,
        hostname=domain if not domain.startswith("[") else "127.0.0.1",
        certificate=CertificateKind.CA if options & 1 else CertificateKind.SELF_SIGNED,
        ports=BoundPorts(
            imaps=993 if options & 2 else numbers[more % 3],
            imap=143 if options & 4 else None,
            submissions=465 if options & 2 else numbers[more // 3 % 3],
            submission=587 if options & 4 else None,
            https=443 if options & 8 else numbers[more // 9 % 3],
            http=80 if options & 16 else None,
            alpn_mux=bool(options & 32),
        ),
        host_style=bool(options & 64),
        https_first=bool(options & 128),
        imap_security=(None, "ssl", "starttls", "default")[more // 27 % 4],
    )


def _check_login(facts: RelayFacts, address: str, password: str) -> None:
    link = dclogin_link(facts, address, password)
    _check_plain(link)
    scheme, _, rest = link.partition(":")
    user, _, query = rest.partition("?")
    assert scheme == "dclogin"
    assert urllib.parse.unquote(user) == address
    fields = dict(urllib.parse.parse_qsl(query, keep_blank_values=True, strict_parsing=True))
    assert fields["p"] == password
    assert fields["ic"] == ("1" if facts.has_ca_certificate else "3")
    bound = {facts.ports.imaps, facts.ports.imap, facts.ports.submissions}
    bound |= {facts.ports.submission, facts.ports.https}
    for port in ("ip", "sp"):
        assert port not in fields or int(fields[port]) in bound
    # A plus sign is a space to some readers and itself to others, so none may be written.
    assert "+" not in query


def _check_invitation(facts: RelayFacts, token: str) -> None:
    link = dcaccount_link(facts, token or None)
    if link is None:
        return
    _check_plain(link)
    assert link.startswith("DCACCOUNT:")
    if "://" in link:
        url = urllib.parse.urlsplit(link.partition(":")[2])
        assert (url.scheme, url.path, url.fragment) == ("https", "/new", "")
        assert urllib.parse.unquote(url.query.partition("=")[2]) == token
    for made in (page_url(facts), secure_url(facts)):
        if made is not None:
            assert urllib.parse.urlsplit(made).hostname


def _check_autoconfig(facts: RelayFacts) -> None:
    document = ElementTree.fromstring(autoconfig_xml(facts))
    names = [element.text for element in document.iter("hostname")]
    assert all(name and not name.startswith("[") for name in names)
    assert all(0 < int(port.text or "0") < 65536 for port in document.iter("port"))


def _check_plain(link: str) -> None:
    assert link.isascii()
    assert all("!" <= char <= "~" for char in link), link


VECTORS = (
    vector(b"abcdefghi@[127.0.0.1]\np&s=w?rd#%+ \xc3\xa4", 0, 5),
    vector(b"abcdefghi@chat.example.org\nsecret", 0xFF),
    vector(b"a/b?c@_x.example\n", 0x0E, 40),
    vector(b"u@[IPv6:2001:db8::1]\nx", 0x1F, 80),
    vector(b"u@b\xc3\xbccher.example\n\xf0\x9f\x94\x91", 0x3F),
)
