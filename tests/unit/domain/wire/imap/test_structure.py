"""ENVELOPE, BODY, BODYSTRUCTURE."""

from __future__ import annotations

import email
import email.message
import email.policy
import email.utils

from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.wire.imap.structure import (
    MAX_LANGUAGES,
    body_structure,
    header_envelope,
    structure_pieces,
)
from tests.unit.domain.formats.test_mime_structure import ENCRYPTED, NESTED, scan


def test_envelope_of_an_ordinary_header() -> None:
    header = (
        b"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nFrom: Ann <ann@relay.test>\r\n"
        b"To: bob@[127.0.0.1],\r\n c@d\r\nMessage-ID: <m@x>\r\nSubject: a  \r\n b\r\n\r\n"
    )
    ann = b'(("Ann" NIL "ann" "relay.test"))'
    assert header_envelope(header) == (
        b'("Thu, 01 Jan 2026 00:00:00 +0000" "a b" %b %b %b '
        b'((NIL NIL "bob" "[127.0.0.1]")(NIL NIL "c" "d")) NIL NIL NIL "<m@x>")' % (ann, ann, ann)
    )


def test_envelope_of_nothing_is_all_nil() -> None:
    assert header_envelope(b"") == b"(" + b" ".join([b"NIL"] * 10) + b")"


def test_structure_of_an_encrypted_message() -> None:
    assert body_structure(scan(ENCRYPTED), extended=False) == (
        b'(("application" "pgp-encrypted" NIL NIL NIL "7bit" 12)'
        b'("application" "octet-stream" ("name" "encrypted.asc") NIL NIL "7bit" 64) "encrypted")'
    )


def test_extended_structure_tells_parameters_disposition_language_location() -> None:
    message = (
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: inline; a=b\r\n"
        b"Content-Language: de, en\r\nContent-MD5: abc\r\nContent-ID: <i>\r\n"
        b"Content-Transfer-Encoding: BASE64\r\nContent-Location: here\r\n\r\nx\r\n"
    )
    assert body_structure(scan(message), extended=True) == (
        b'("text" "plain" ("charset" "utf-8") "<i>" NIL "BASE64" 3 1 "abc" '
        b'("inline" ("a" "b")) ("de" "en") "here")'
    )


def test_structure_of_a_message_inside_a_message() -> None:
    told = body_structure(scan(NESTED), extended=True)
    assert b'("message" "rfc822" NIL NIL NIL "7bit"' in told
    assert b'(NIL "inner" NIL NIL NIL NIL NIL NIL NIL NIL)' in told
    assert told.endswith(b'"mixed" ("boundary" "b1") NIL NIL NIL)')


def balanced(text: bytes) -> bool:
    """Say whether parentheses outside quotes and literals match."""
    depth = at = 0
    while at < len(text):
        char = text[at : at + 1]
        if char == b'"':
            at = text.index(b'"', at + 1)
        elif char == b"{":
            end = text.index(b"}\r\n", at)
            at = end + 2 + int(text[at + 1 : end])
        elif char in b"()":
            depth += 1 if char == b"(" else -1
        at += 1
    return depth == 0


@given(st.binary(max_size=120))
def test_any_header_value_stays_within_the_grammar(value: bytes) -> None:
    header = b"From: " + value + b"\r\nContent-Type: " + value + b"\r\nSubject: " + value
    assert balanced(header_envelope(header + b"\r\n\r\n"))
    assert balanced(body_structure(scan(header + b"\r\n\r\nbody"), extended=True))


@given(st.text(alphabet='ab@<>,;:"\\() ', max_size=40))
def test_any_address_list_stays_within_the_grammar(value: str) -> None:
    assert balanced(header_envelope(b"To: " + value.encode() + b"\r\n\r\n"))


# --- against the standard library -----------------------------------------------------------------

TEXT = st.sampled_from([b"plain", b"two words", b"=?utf-8?q?=C3=BC?=", b"\xfc", b'a "b" \\ c'])
TOKEN = st.sampled_from([b"a", b"utf-8", b"x-1", b"B2"])
ENCODING = st.sampled_from([b"7bit", b"8BIT", b"base64", b"quoted-printable"])
BODY = st.lists(st.sampled_from([b"x", b"-- ", b"", b"--", b"\xff", b"--bx"]), max_size=4).map(
    b"\r\n".join
)


def quote(value: bytes) -> bytes:
    return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


@st.composite
def leaf(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from([b"text/plain", b"Text/HTML", b"image/png", b"application/x-y"]))
    fields = [b"Content-Type: " + kind]
    for name in draw(st.lists(TOKEN, unique_by=lambda token: token.lower(), max_size=2)):
        value = draw(TEXT.filter(bytes.isascii))
        fields[0] += b";\r\n " + name + b"=" + quote(value)
    if draw(st.booleans()):
        fields.append(b"Content-Transfer-Encoding: " + draw(ENCODING))
    if draw(st.booleans()):
        fields.append(b"Content-ID: <" + draw(TOKEN) + b"@x>")
    if draw(st.booleans()):
        fields.append(b"Content-Description: " + draw(TEXT))
    if draw(st.booleans()):
        fields.append(b"Content-Disposition: attachment; filename=" + quote(draw(TOKEN)))
    if draw(st.booleans()):
        fields.append(b"Content-Language: de, en")
    if draw(st.booleans()):
        fields.append(b"Content-MD5: abc=")
    return b"\r\n".join(draw(st.permutations(fields))) + b"\r\n\r\n" + draw(BODY)


@st.composite
def multipart(draw: st.DrawFn, inner: st.SearchStrategy[bytes]) -> bytes:
    parts = draw(st.lists(inner, min_size=1, max_size=3))
    boundary = b"b" + draw(st.uuids()).hex.encode()  # no boundary begins another
    head = b"Content-Type: multipart/mixed; boundary=" + quote(boundary) + b"\r\n\r\n"
    middle = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
    return head + draw(BODY) + b"\r\n" + middle + b"--" + boundary + b"--\r\nepilogue\r\n"


def enclosed(message: bytes) -> bytes:
    return b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\nFrom: a@b\r\n" + message


TREES = st.recursive(leaf(), lambda inner: multipart(inner) | inner.map(enclosed), max_leaves=8)


def expected(part: email.message.Message, octets: bytes, extended: bool) -> bytes:
    """Render what the standard library makes of a part; `octets` are those of its body."""
    if part.is_multipart() and part.get_content_maintype() == "multipart":
        children = b"".join(
            expected(child, body_of(inner), extended)
            for child, inner in zip(part.get_payload(), split(part, octets), strict=True)
        )
        tail = b" " + parameters_of(part, "content-type") + extension_of(part) if extended else b""
        return b"(%b %b%b)" % (children, quoted_or_literal(part.get_content_subtype()), tail)
    items = [
        quoted_or_literal(part.get_content_maintype()),
        quoted_or_literal(part.get_content_subtype()),
        parameters_of(part, "content-type"),
        shown(raw(part, "content-id")),
        shown(raw(part, "content-description")),
        quoted_or_literal(part["content-transfer-encoding"] or "7bit"),
        b"%d" % len(octets),
    ]
    if part.get_content_type() == "message/rfc822":
        (message,) = part.get_payload()
        author = b'((NIL NIL "a" "b"))'
        items.append(b'(NIL "inner" %b %b %b NIL NIL NIL NIL NIL)' % (author, author, author))
        items.append(expected(message, body_of(octets), extended))
    if part.get_content_type() == "message/rfc822" or part.get_content_maintype() == "text":
        items.append(b"%d" % octets.count(b"\n"))
    if extended:
        items.append(shown(raw(part, "content-md5")) + extension_of(part))
    return b"(%b)" % b" ".join(items)


def body_of(octets: bytes) -> bytes:
    return octets.partition(b"\r\n\r\n")[2]


def split(part: email.message.Message, octets: bytes) -> list[bytes]:
    """Cut a multipart body by its boundary alone."""
    delimiter = b"\r\n--" + str(part.get_boundary()).encode()
    return [piece.removeprefix(b"\r\n") for piece in (b"\r\n" + octets).split(delimiter)[1:-1]]


def raw(part: email.message.Message, name: str) -> object:
    """Return a field value with its octets above 127 as they came."""
    return next((value for known, value in part.raw_items() if known.lower() == name), None)


def octets_of(value: object) -> bytes:
    return str(value).encode("ascii", "surrogateescape")


def quoted_or_literal(value: object) -> bytes:
    octets = octets_of(value)
    if octets.isascii() and not set(b'"\\') & set(octets):
        return b'"%b"' % octets
    return b"{%d}\r\n%b" % (len(octets), octets)


def shown(value: object) -> bytes:
    return b"NIL" if value is None else quoted_or_literal(value)


def parameters_of(part: email.message.Message, header: str) -> bytes:
    pairs = (part.get_params(header=header, unquote=False) or [])[1:]
    if not pairs:
        return b"NIL"
    told = (
        quoted_or_literal(name.lower()) + b" " + quoted_or_literal(email.utils.unquote(value))
        for name, value in pairs
    )
    return b"(%b)" % b" ".join(told)


def extension_of(part: email.message.Message) -> bytes:
    disposition = part.get_content_disposition()
    kind = b"NIL"
    if disposition is not None:
        pairs = parameters_of(part, "content-disposition")
        kind = b"(%b %b)" % (quoted_or_literal(disposition), pairs)
    language = b'("de" "en")' if part["content-language"] else b"NIL"
    return b" %b %b NIL" % (kind, language)


@given(TREES, st.booleans())
def test_structure_is_what_the_standard_library_sees(octets: bytes, extended: bool) -> None:
    parsed = email.message_from_bytes(octets, policy=email.policy.compat32)
    assert body_structure(scan(octets), extended=extended) == expected(
        parsed, body_of(octets), extended
    )


@given(TREES)
def test_pieces_make_up_the_whole(octets: bytes) -> None:
    root = scan(octets)
    assert b"".join(structure_pieces(root, extended=True)) == body_structure(root, extended=True)
    assert balanced(body_structure(root, extended=True))


def test_split_parameters_come_as_one() -> None:
    message = (
        b"Content-Type: text/plain; name*1=b; name*0=a\r\n"
        b"Content-Disposition: attachment; filename*0*=utf-8''%e2%82; filename*1=.x\r\n\r\n"
    )
    told = body_structure(scan(message), extended=True)
    assert b'("name" "ab")' in told
    assert b'("filename*" "utf-8\'\'%e2%82.x")' in told


def test_number_of_languages_is_bounded() -> None:
    told = body_structure(scan(b"Content-Language: " + b"de," * 999 + b"\r\n\r\n"), extended=True)
    assert told.count(b'"de"') == MAX_LANGUAGES


def test_eight_bits_and_quotes_are_literals() -> None:
    told = body_structure(
        scan(b'Content-Type: text/plain; a="b\\"c"\r\nContent-Description: \xfc\r\n\r\n'),
        extended=True,
    )
    assert b'("a" {3}\r\nb"c)' in told
    assert b"{1}\r\n\xfc" in told
