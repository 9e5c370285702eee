"""What is ruled out without being read is not there when it is read."""

from __future__ import annotations

import base64
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.mime_structure import StructureScanner
from chatmail.domain.wire.imap.search_content import ContentProbe
from chatmail.domain.wire.imap.search_keys import (
    SearchAll,
    SearchAnd,
    SearchHeader,
    SearchKey,
    SearchNot,
    SearchOr,
    SearchText,
)
from chatmail.domain.wire.imap.search_sections import sections
from chatmail.domain.wire.imap.search_sieve import MAX_WORDS, Sieve

ENCRYPTED = (
    b"Subject: [...]\r\nTo: Ann <ann@relay.test>\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/encrypted; boundary="b";\r\n\tprotocol="x"\r\n\r\n'
    b'--b\r\nContent-Type: application/pgp-encrypted; charset="utf-8"\r\n'
    b"Content-Transfer-Encoding: 7bit\r\n\r\nVersion: 1\r\n"
    b"--b\r\nContent-Type: application/octet-stream\r\n\r\n"
    b"-----BEGIN PGP MESSAGE-----\r\n\r\nwUwDAAAAAAAAAAAZeofBZzCQQVA1XZZVPsiIn3\r\n=abcd\r\n"
    b"-----END PGP MESSAGE-----\r\n--b--\r\n"
)


def text(value: str, *, headers_too: bool = True) -> SearchText:
    return SearchText(value, headers_too)


def may_hold(key: SearchKey, message: bytes, cut: int = 16384) -> bool:
    sieve = Sieve(key)
    if not sieve.is_useful:
        return True
    sieving = sieve.start()
    pieces = [message[at : at + cut] for at in range(0, len(message), cut)]
    return any(sieving.may_hold(piece) for piece in pieces)


def holds(key: SearchText, message: bytes) -> bool:
    """Read the message as a person does."""
    probe = ContentProbe(key)
    probe.header(message[: message.index(b"\r\n\r\n") + 4])
    scanner = StructureScanner()
    scanner.feed(message)
    for section in sections(scanner.finish()):
        if not probe.is_settled:
            probe.begin(section)
            probe.body(message[section.start : section.stop], is_last=True)
    return probe.holds(key)


@pytest.mark.parametrize("words", ["nowhere", "ann nowhere", "Ünn", "mime-version: nowhere"])
@pytest.mark.parametrize("cut", [1, 7, 16384])
def test_an_encrypted_message_is_ruled_out_by_any_word_it_lacks(words: str, cut: int) -> None:
    assert not holds(text(words), ENCRYPTED)
    # Cut in the middle of a charset's name nobody knows how it goes on.
    assert may_hold(text(words), ENCRYPTED, cut) is (cut < 16)


@pytest.mark.parametrize(
    "found",
    [
        "ann@relay.test",
        "ANN <ann",
        "pgp message",
        "wUwDAAAAAAAAAAAZeofBZzCQQVA1XZZVPsiIn3",
        "subject: [...]",
        'boundary="b";\tprotocol',
        "version: 1",
        " ",
        "",
    ],
)
def test_what_is_there_passes(found: str) -> None:
    assert holds(text(found), ENCRYPTED)
    assert may_hold(text(found), ENCRYPTED)


@pytest.mark.parametrize(
    "message",
    [
        b"Subject: =?utf-8?q?ne=65dle?=\r\n\r\n",
        b"Content-Transfer-Encoding: BASE64\r\n\r\nbmVlZGxl\r\n",
        b"Content-Transfer-Encoding: Quoted-Printable\r\n\r\nne=65d=\r\nle\r\n",
        b"Content-Type: text/plain; charset=utf-7\r\n\r\n+AG4AZQBlAGQAbABl-\r\n",
        b'Content-Type: text/plain; Charset = "UTF-7"\r\n\r\n+AG4AZQBlAGQAbABl-\r\n',
        b"Content-Type: text/plain; charset=utf-16be\r\n\r\n" + "needle".encode("utf-16be"),
        b"Content-Type: text/plain; charset=hz\r\n\r\n~{~}nee~\ndle",
        "\r\n\r\nNEEDLE ı".encode(),
        b"\r\n\r\nNEEDLE",
        b"NEEDLE : x\r\n\r\n",
        b"x:NEEDLE\r\n\r\n",
    ],
)
def test_what_is_written_otherwise_is_read(message: bytes) -> None:
    assert holds(text("needle"), message)
    for cut in (1, 5, 16384):
        assert may_hold(text("needle"), message, cut)


@pytest.mark.parametrize("found", ["needle: x", "needle: y z", "needle:"])
def test_a_field_is_found_in_the_form_it_is_compared_in(found: str) -> None:
    message = b"NEEDLE :x\r\nNEEDLE:  y\r\n z\r\n\r\n"
    assert may_hold(text(found), message)


def test_any_text_that_may_be_there_is_enough() -> None:
    lacking, there = text("nowhere"), text("version", headers_too=False)
    assert may_hold(SearchOr(lacking, there), ENCRYPTED)
    assert not may_hold(SearchAnd((SearchNot(lacking), text("neither"))), ENCRYPTED)


def test_a_header_block_is_read_where_a_field_is_asked_for() -> None:
    assert Sieve(SearchAnd((text("x"), SearchAll()))).is_all
    assert not Sieve(SearchAnd((text("x"), SearchHeader("From", "y")))).is_all


def test_more_words_than_a_client_asks_for_are_left_to_the_reader() -> None:
    assert Sieve(text("a " * MAX_WORDS)).is_useful
    assert not Sieve(text("a " * (MAX_WORDS + 1))).is_useful
    assert not Sieve(SearchAll()).is_useful


WORDS = st.sampled_from(["needle", "Needle", "see", "d", "ß", "SS", "a:b", ":", "=", "K", "é"])
PHRASES = st.lists(WORDS, min_size=1, max_size=3).flatmap(
    lambda words: st.sampled_from([" ", "\t", "  ", ""]).map(lambda gap: gap.join(words))
)
ENCODERS = {
    "7bit": lambda octets: octets,
    "base64": base64.encodebytes,
    "Base64": base64.encodebytes,
    "quoted-printable": quopri.encodestring,
}


@st.composite
def leaves(draw: st.DrawFn) -> bytes:
    charset = draw(st.sampled_from(["utf-8", "us-ascii", "utf-7", "latin1", "utf-16be", "x"]))
    encoding = draw(st.sampled_from(sorted(ENCODERS)))
    codec = "utf-8" if charset == "x" else charset
    octets = draw(PHRASES).encode(codec, "replace")
    quote = draw(st.sampled_from(["", '"']))
    gap = draw(st.sampled_from(["", " ", "\r\n "]))
    head = (
        f"Content-Type: text/plain;{gap}charset={quote}{charset}{quote}\r\n"
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n"
    )
    return head.encode() + ENCODERS[encoding](octets)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    fields = ""
    for _ in range(draw(st.integers(0, 2))):
        value = draw(PHRASES)
        fold = draw(st.sampled_from([" ", "\r\n ", "\r\n\t"]))
        gap = draw(st.sampled_from(["", " ", "  ", "\r\n "]))
        name = draw(st.sampled_from(["Subject", "X-Needle", "X-Needle "]))
        fields += f"{name}:{gap}{value.replace(' ', fold)}\r\n"
    head = fields.encode()
    if draw(st.booleans()):
        return head + draw(leaves())
    parts = draw(st.lists(leaves(), min_size=1, max_size=2))
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts)
    return head + b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n' + body + b"--b--\r\n"


@given(message=messages(), wanted=PHRASES, headers_too=st.booleans(), cut=st.integers(1, 400))
def test_nothing_that_a_reader_finds_is_ruled_out(
    message: bytes, wanted: str, headers_too: bool, cut: int
) -> None:
    key = text(wanted, headers_too=headers_too)
    assert may_hold(key, message, cut) or not holds(key, message)
