"""The first message of the old Secure-Join handshake, which travels in clear (X-SJ1 to X-SJ3).

Its body is a fixed string, so there is no room for text of the sender's own. Everything later in
the handshake, and all of version 3, is encrypted and passes as that.
"""

from __future__ import annotations

import re
from typing import Final

from chatmail.domain.formats.content_type import ContentType
from chatmail.domain.formats.facts import NO_FINDING, NO_SECURE_JOIN, Finding, broken
from chatmail.domain.formats.mime import PartHeader, is_boundary, split_multipart
from chatmail.domain.formats.pgp_mime import BlankText
from chatmail.domain.formats.rfc5322 import HeaderBlock
from chatmail.domain.formats.transfer_encoding import decode, encoding_of

REQUESTS: Final = frozenset((b"vc-request", b"vg-request"))

_INVITE_NUMBER: Final = re.compile(rb"[A-Za-z0-9_-]{1,128}\Z")
_CHARSETS: Final = frozenset((b"us-ascii", b"ascii", b"utf-8", b"utf8"))
_BROKEN: Final = broken("X-SJ3")


def secure_join_finding(block: HeaderBlock, content_type: ContentType, body: bytes) -> Finding:
    """Return the first of X-SJ1, X-SJ2, X-SJ3 that a message breaks.

    Args:  body: the whole body of a message of one piece.
    Source:  spec policy 1.8, 1.9.
    """
    steps = block.values(b"secure-join")
    if len(steps) != 1 or steps[0].lower() not in REQUESTS:
        return NO_SECURE_JOIN
    numbers = block.values(b"secure-join-invitenumber")
    if len(numbers) != 1 or not _INVITE_NUMBER.match(numbers[0]):
        return broken("X-SJ2")
    text = b"secure-join: " + steps[0].lower()
    if content_type.media_type == b"multipart/mixed":
        return _in_one_part(block, content_type, body, text)
    if content_type.media_type == b"text/plain":
        return NO_FINDING if _says(content_type, encoding_of(block), body, text) else _BROKEN
    return _BROKEN


def _in_one_part(
    block: HeaderBlock, content_type: ContentType, body: bytes, text: bytes
) -> Finding:
    """Check form A: what the reference relay demands, and core therefore sends."""
    boundary = content_type.get(b"boundary")
    if (
        boundary is None
        or not is_boundary(boundary)
        or encoding_of(block) not in (b"7bit", b"8bit")
    ):
        return _BROKEN
    multipart = split_multipart(body, boundary)
    if multipart is None or len(multipart.parts) != 1:
        return _BROKEN
    if not BlankText().is_preamble(multipart.preamble):
        return _BROKEN
    if not BlankText().is_epilogue(multipart.epilogue):
        return _BROKEN
    part = multipart.parts[0]
    return _part_finding(part.header, part.content, text)


def _part_finding(header: PartHeader, content: bytes, text: bytes) -> Finding:
    is_text = header.content_type.media_type == b"text/plain"
    if not is_text or not _says(header.content_type, header.encoding, content, text):
        return _BROKEN
    # A field of the part's own would be free text: what M-08 says of encrypted mail holds here.
    return Finding(
        "X-SJ3" if header.finding.strict else None, "X-SJ3" if header.finding.inbound else None
    )


def _says(content_type: ContentType, encoding: bytes, content: bytes, text: bytes) -> bool:
    charset = content_type.get(b"charset")
    if charset is not None and charset.lower() not in _CHARSETS:
        return False
    decoded = decode(content, encoding)
    return decoded is not None and decoded.strip(b" \t\r\n").lower() == text
