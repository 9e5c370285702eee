"""The part tree of stored octets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.mime_structure import (
    MAX_DEPTH,
    MAX_PARTS,
    Part,
    StructureScanner,
    find_part,
    parse_parameterised,
)

NESTED = b"""From: a@b\r
Content-Type: multipart/mixed; boundary="b1"\r
\r
preamble\r
--b1\r
Content-Type: text/html; charset=utf-8\r
\r
hello\r
--b1\r
Content-Type: message/rfc822\r
\r
Subject: inner\r
Content-Type: multipart/alternative; boundary=b2\r
\r
--b2\r
\r
x\r
y\r
--b2 \r
Content-Type: text/calendar\r
\r
z\r
--b2--\r
--b1--\r
epilogue\r
"""
ENCRYPTED = b"""Content-Type: multipart/encrypted; protocol=pgp; boundary=q\r
\r
--q\r
Content-Type: application/pgp-encrypted\r
\r
Version: 1\r
\r
--q\r
Content-Type: application/octet-stream; name="encrypted.asc"\r
\r
-----BEGIN PGP MESSAGE-----\r
\r
wV4D\r
-----END PGP MESSAGE-----\r
\r
--q--\r
"""


def scan(message: bytes, step: int = 65536) -> Part:
    scanner = StructureScanner()
    for start in range(0, len(message), step):
        scanner.feed(message[start : start + step])
    return scanner.finish()


def body(message: bytes, part: Part | None) -> bytes:
    assert part is not None
    return message[part.body_start : part.body_end]


def test_offsets_cut_the_very_octets_of_each_part() -> None:
    root = scan(NESTED)
    assert body(NESTED, find_part(root, (1,))) == b"hello"
    assert body(NESTED, find_part(root, (2, 1))) == b"x\r\ny"
    assert body(NESTED, find_part(root, (2, 2))) == b"z"
    inner = find_part(root, (2,))
    assert inner is not None
    assert inner.is_message
    message = inner.children[0]
    header = NESTED[message.header_start : message.body_start]
    assert header.startswith(b"Subject: inner\r\n")
    assert header.endswith(b"\r\n\r\n")
    assert inner.body_start == message.header_start


def test_part_headers_include_their_empty_line() -> None:
    part = find_part(scan(NESTED), (2, 2))
    assert part is not None
    assert NESTED[part.header_start : part.body_start] == b"Content-Type: text/calendar\r\n\r\n"


def test_hyphens_inside_a_body_are_no_delimiter() -> None:
    root = scan(ENCRYPTED)
    assert [part.media_subtype for part in root.children] == [b"pgp-encrypted", b"octet-stream"]
    assert body(ENCRYPTED, root.children[1]).endswith(b"-----END PGP MESSAGE-----\r\n")


def test_a_message_without_parts_is_its_own_part_one() -> None:
    message = b"Subject: x\r\n\r\nhello\r\n"
    root = scan(message)
    assert (root.media_type, root.media_subtype) == (b"text", b"plain")
    assert root.lines == 1
    assert body(message, find_part(root, (1,))) == b"hello\r\n"
    assert find_part(root, (2,)) is None
    assert find_part(root, (1, 1)) is None


def test_parts_that_are_not_there() -> None:
    root = scan(NESTED)
    for numbers in ((0,), (3,), (1, 1), (2, 3), (2, 1, 1)):
        assert find_part(root, numbers) is None


def test_an_outer_delimiter_ends_unfinished_inner_parts() -> None:
    message = NESTED.replace(b"--b2--\r\n", b"")
    root = scan(message)
    assert len(root.children) == 2
    assert body(message, find_part(root, (2, 2))) == b"z"


def test_missing_last_delimiter_runs_to_the_end() -> None:
    message = NESTED.partition(b"--b2--")[0]
    assert body(message, find_part(scan(message), (2, 2))) == b"z\r\n"


def test_a_part_with_only_a_delimiter_behind_its_header_is_empty() -> None:
    message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nA: b\r\n\r\n--b--\r\n"
    part = find_part(scan(message), (1,))
    assert part is not None
    assert part.size == 0


def test_a_header_cut_by_a_delimiter_ends_there() -> None:
    message = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nA: b\r\n--b\r\n\r\nx\r\n--b--"
    )
    root = scan(message)
    assert len(root.children) == 2
    assert body(message, root.children[1]) == b"x"


def test_a_multipart_without_parts_is_shown_as_text() -> None:
    for header in (b"multipart/mixed", b"multipart/mixed; boundary=x"):
        root = scan(b"Content-Type: " + header + b"\r\n\r\nhello\r\n")
        assert (root.media_type, root.children) == (b"text", ())


def test_parts_of_a_digest_are_messages() -> None:
    header = b"Content-Type: multipart/digest; boundary=b\r\n\r\n"
    message = header + b"--b\r\n\r\nSubject: one\r\n\r\nhi\r\n--b--"
    part = find_part(scan(message), (1,))
    assert part is not None
    assert part.is_message
    assert part.children[0].field(b"subject") == b"one"


def test_depth_and_number_of_parts_are_bounded() -> None:
    deep = b"Content-Type: message/rfc822\r\n\r\n" * (3 * MAX_DEPTH)
    part, depth = scan(deep), 0
    while part.children:
        part, depth = part.children[0], depth + 1
    assert depth < MAX_DEPTH
    wide = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"--x\r\n\r\n" * (2 * MAX_PARTS)
    root = scan(wide)
    assert len(root.children) < MAX_PARTS
    assert root.children[-1].body_end == len(wide)


def test_a_line_without_end_needs_no_memory() -> None:
    scanner = StructureScanner()
    scanner.feed(b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--")
    for _ in range(64):
        scanner.feed(b"a" * 65536)
        assert len(scanner._data) <= 65536
    scanner.finish()


def test_parameters_are_unquoted() -> None:
    value = b'attachment; filename="a\\"b;c"; size=12; broken'
    assert parse_parameterised(value) == (
        b"attachment",
        ((b"filename", b'a"b;c'), (b"size", b"12")),
    )


@pytest.mark.parametrize("octet", [b"\0", b"\x01", b"\x1b", b"\x7f"])
def test_a_media_type_with_control_characters_is_none(octet: bytes) -> None:
    # Written without its NUL it would be a message that has no envelope.
    tree = scan(b"Content-Type: mess" + octet + b"age/rfc822\r\n\r\nbody")
    assert (tree.media_type, tree.media_subtype) == (b"text", b"plain")


def test_unterminated_quotes_cost_linear_time() -> None:
    head, parameters = parse_parameterised(b"x" + b';a="' * 100_000)
    assert head == b"x"
    assert len(parameters) <= 64


@given(st.integers(1, 90))
def test_chunking_changes_nothing(step: int) -> None:
    assert scan(NESTED, step) == scan(NESTED)


@given(
    st.lists(
        st.sampled_from(
            (
                *(
                    b"--b1\r\n",
                    b"--b1--\r\n",
                    b"--b2\r\n",
                    b"\r\n",
                    b"\n",
                    b"text\r\n",
                    b"-",
                    b"--",
                ),
                b"Content-Type: multipart/mixed; boundary=b1\r\n",
                b"Content-Type: multipart/digest; boundary=b2\r\n",
                b"Content-Type: message/rfc822\r\n",
            )
        ),
        max_size=40,
    ),
    st.integers(1, 50),
)
def test_any_octets_give_a_consistent_tree(pieces: list[bytes], step: int) -> None:
    message = b"".join(pieces)
    root = scan(message)
    assert scan(message, step) == root

    def check(part: Part, low: int, high: int) -> None:
        assert low <= part.header_start <= part.body_start <= part.body_end <= high
        for child in part.children:
            check(child, part.body_start, part.body_end)

    check(root, 0, len(message))
    assert root.body_end == len(message)
