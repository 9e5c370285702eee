from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.wire.imap.search_sections import Section, sections, simple_section
from tests.unit.domain.formats.test_mime_structure import ENCRYPTED, NESTED, scan

MIXED = b"""Subject: x\r
Content-Type: multipart/mixed; boundary=b\r
\r
preamble\r
--b\r
Content-Type: text/plain; charset=KOI8-R\r
Content-Transfer-Encoding: BASE64\r
\r
0A==\r
--b\r
Content-Type: image/png\r
Content-Transfer-Encoding: base64\r
\r
AAAA\r
--b\r
Content-Type: application/pdf\r
\r
raw\r
--b--\r
epilogue\r
"""


def told(message: bytes) -> list[tuple[bytes, bytes, bytes, bool]]:
    return [
        (message[one.start : one.stop], one.encoding, one.charset, one.is_header)
        for one in sections(scan(message))
    ]


def test_every_octet_of_a_body_but_encoded_binaries_is_in_one_section() -> None:
    found = told(MIXED)
    assert (b"0A==", b"base64", b"koi8-r", False) in found
    assert (b"raw", b"", b"", False) in found
    headers = [octets for octets, *_, is_header in found if is_header]
    assert len(headers) == 3
    assert headers[1].startswith(b"Content-Type: image/png")
    body = MIXED.partition(b"\r\n\r\n")[2]
    assert b"".join(octets for octets, *_ in found) == body.replace(b"AAAA", b"")
    assert found[0] == (b"preamble\r\n--b\r\n", b"", b"", False)


def test_messages_inside_messages_are_covered() -> None:
    found = told(NESTED)
    assert any(is_header and b"Subject: inner" in octets for octets, *_, is_header in found)
    assert b"".join(octets for octets, *_ in found) == NESTED.partition(b"\r\n\r\n")[2]


def test_armor_is_read_as_it_stands() -> None:
    assert b"-----BEGIN PGP MESSAGE-----" in b"".join(octets for octets, *_ in told(ENCRYPTED))


def test_a_message_without_parts_needs_its_header_alone() -> None:
    header = b"Content-Type: text/plain; charset=x\r\nContent-Transfer-Encoding: BASE64\r\n\r\n"
    assert simple_section(header, 500) == Section(len(header), 500, b"base64", b"x")
    assert simple_section(b"\r\n", 9) == Section(2, 9)
    image = b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    found = simple_section(image, 500)
    assert found is not None
    assert found.start == found.stop


def test_a_message_with_parts_needs_its_body() -> None:
    assert simple_section(b"Content-Type: Multipart/mixed; boundary=b\r\n\r\n", 500) is None
    assert simple_section(b"Content-Type: message/rfc822\r\n\r\n", 500) is None


@given(st.lists(st.sampled_from(MIXED.split(b"\r\n") + NESTED.split(b"\r\n"))))
def test_sections_ascend_and_do_not_overlap(lines: list[bytes]) -> None:
    message = b"\r\n".join(lines)
    at = 0
    for section in sections(scan(message)):
        assert at <= section.start < section.stop <= len(message)
        at = section.stop
