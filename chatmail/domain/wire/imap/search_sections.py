"""Where the text of a message body lies and how it is to be read.

A body is covered from its first octet to its last by sections: header blocks of parts, parts whose
encoding hides their text, and everything else as it stands. Only what is no text at all and encoded
besides (images, base64 of any application) is left out.
Source:  RFC 3501 §6.4.4 (BODY, TEXT): servers may search decoded parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from chatmail.domain.formats.mime_structure import Part, StructureScanner

_COMPOSITE: Final = (b"multipart", b"message")


@attrs.frozen
class Section:
    """Octets [start, stop) of a message. `encoding` and `charset` in lower case, or empty."""

    start: int
    stop: int
    encoding: bytes = b""
    charset: bytes = b""
    is_header: bool = False


def sections(root: Part) -> list[Section]:
    """Return the sections of a message's body, in order, none empty."""
    return [section for section in _body(root) if section.start < section.stop]


def simple_section(header: bytes, size: int) -> Section | None:
    """Return the one section of a body without parts; None: its parts have to be looked for.

    Args:  header: the header block. size: octets of the whole message.
    """
    scanner = StructureScanner()
    scanner.feed(header)
    root = scanner.finish()
    declared = (root.field(b"content-type") or b"").lower()
    if declared.startswith(_COMPOSITE):
        return None
    found = _leaf(attrs.evolve(root, body_start=len(header), body_end=size))
    return found or Section(size, size)


def _body(part: Part) -> Iterator[Section]:
    if not part.children:
        leaf = _leaf(part)
        if leaf is not None:
            yield leaf
        return
    at = part.body_start
    for child in part.children:
        yield Section(at, child.header_start)
        yield Section(child.header_start, child.body_start, is_header=True)
        yield from _body(child)
        at = child.body_end
    yield Section(at, part.body_end)


def _leaf(part: Part) -> Section | None:
    encoding = (part.field(b"content-transfer-encoding") or b"").strip().lower()
    is_text = part.media_type in (b"text", b"message")
    if encoding == b"base64" and not is_text:
        return None
    charset = dict(part.parameters).get(b"charset", b"") if is_text else b""
    return Section(part.body_start, part.body_end, encoding, charset.lower())
