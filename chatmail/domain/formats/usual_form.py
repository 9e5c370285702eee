"""The body as Delta Chat writes it, read in one piece: the same answer as the readers in a row.

Nearly every message is short, arrives whole and has one and the same form. For it a few slices and
comparisons prove what the incremental readers of `pgp_mime` prove state by state, in a third of
the time. What differs in any way is left to them: this module never says no, and a property test
holds every yes against theirs.
"""

from __future__ import annotations

from typing import Final

from chatmail.domain.formats.crc24 import crc24
from chatmail.domain.formats.facts import NO_FINDING
from chatmail.domain.formats.mime import MAX_PART_HEADER_OCTETS, parse_part_header
from chatmail.domain.formats.openpgp import PacketWalker
from chatmail.domain.formats.transfer_encoding import decode_groups

MAX_OCTETS: Final = 64 * 1024
"""Longer bodies are read as they arrive."""

_PART_TYPES: Final = (b"application/pgp-encrypted", b"application/octet-stream")
_IDENTITY: Final = (b"7bit", b"8bit")
_PREAMBLES: Final = (b"", b"\r\n", b"\r\n\r\n")
_CLOSES: Final = (b"--\r\n", b"--", b"--\r\n\r\n")
_CONTROLS: Final = (b"Version: 1\r\n", b"Version: 1")
_BEGIN: Final = b"-----BEGIN PGP MESSAGE-----\r\n\r\n"
_END: Final = b"\r\n-----END PGP MESSAGE-----"
_LINE_ENDS_AFTER: Final = (b"\r\n", b"", b"\r\n\r\n")
_CHECKSUM_OCTETS: Final = 7  # CRLF, `=`, four digits
_MAX_LINE_OCTETS: Final = 998


def read_usual_form(body: bytes, boundary: bytes) -> PacketWalker | None:
    """Read a whole body.

    Args:  body: what follows the header block; free of bare CR, bare LF and NUL. boundary: obeys
        M-02.
    Returns:  the packets, walked to their end; only if no rule of M, A and O but O-20 is broken
        at any door. None: it is not the usual form, or it is broken.
    """
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary)
    if len(pieces) != 4 or pieces[0] not in _PREAMBLES or pieces[3] not in _CLOSES:
        return None
    if _content(pieces[1], _PART_TYPES[0]) not in _CONTROLS:
        return None
    armored = _content(pieces[2], _PART_TYPES[1])
    packets = None if armored is None else _dearmored(armored)
    if packets is None:
        return None
    walker = PacketWalker()
    walker.feed(packets)
    return None if walker.finish() else walker


def _content(part: bytes, media_type: bytes) -> bytes | None:
    """Return the content of a part whose header block is beyond doubt."""
    empty_line = part.find(b"\r\n\r\n", 0, MAX_PART_HEADER_OCTETS)
    if empty_line < 0 or not part.startswith(b"\r\n"):
        return None
    header = parse_part_header(part[2 : empty_line + 4])
    is_plain = header.finding == NO_FINDING and header.encoding in _IDENTITY
    if not is_plain or header.content_type.media_type != media_type:
        return None
    return part[empty_line + 4 :]


def _dearmored(text: bytes) -> bytes | None:
    """Return the octets of armor without headers, in lines of one length, with its checksum."""
    end = text.find(_END)
    if not text.startswith(_BEGIN) or text[end + len(_END) :] not in _LINE_ENDS_AFTER:
        return None
    checksum = text[end - _CHECKSUM_OCTETS : end]
    digits = _digits(text[len(_BEGIN) : max(0, end - _CHECKSUM_OCTETS)])
    if digits is None or not checksum.startswith(b"\r\n="):
        return None
    octets = decode_groups(digits)
    if not octets or decode_groups(checksum[3:]) != crc24(octets).to_bytes(3, "big"):
        return None
    return octets


def _digits(data: bytes) -> bytes | None:
    """Return the digits of lines of which only the last may have another length."""
    lines = data.split(b"\r\n")
    last = lines.pop()
    lengths = set(map(len, lines))
    if len(lengths) > 1 or not 0 < len(last) <= _MAX_LINE_OCTETS or last.startswith(b"="):
        return None
    if lengths and not 0 < lengths.pop() <= _MAX_LINE_OCTETS:
        return None
    return b"".join(lines) + last
