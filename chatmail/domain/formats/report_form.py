"""Delivery status reports from other relays: their exact form (X-DSN2, X-DSN3) and their reduction.

A report is the only plaintext a stranger may send, so its form is checked part by part, and what a
client does not need is cut off before it is stored.
"""

from __future__ import annotations

from typing import Final

from chatmail.domain.formats.content_type import ContentType
from chatmail.domain.formats.header_rules import content_type_of
from chatmail.domain.formats.mime import Multipart, Part, is_boundary, split_multipart
from chatmail.domain.formats.rfc5322 import HeaderBlock, end_of_header, parse_header
from chatmail.domain.formats.transfer_encoding import decode, encoding_of

MAX_TEXT_OCTETS: Final = 16 * 1024
MAX_STATUS_OCTETS: Final = 16 * 1024
MAX_KEPT_TEXT_OCTETS: Final = 4 * 1024
# Postfix explains MIME in the preamble. The reduction removes it.
MAX_AROUND_OCTETS: Final = 1024

_TEXT_TYPES: Final = frozenset((b"text/plain",))
_STATUS_TYPES: Final = frozenset((b"message/delivery-status", b"message/global-delivery-status"))
_ORIGINAL_TYPES: Final = frozenset(
    (b"message/rfc822", b"text/rfc822-headers", b"message/global", b"message/global-headers")
)
_PLAIN_ENCODINGS: Final = (b"7bit", b"8bit", b"binary")


def report_fault(block: HeaderBlock, content_type: ContentType, body: bytes) -> str | None:
    """Return the first rule a message breaks as a delivery report: X-DSN2 or X-DSN3.

    Of X-DSN2 only Auto-Submitted is looked at here; the author is the policy's matter.

    Args:  body: the whole body.
    Source:  RFC 3462, RFC 3464, RFC 3834 §5; spec policy 1.8.
    """
    if content_type.media_type != b"multipart/report":
        return "X-DSN3"
    submitted = block.values(b"auto-submitted")
    words = [value.split(b";")[0].strip().lower() for value in submitted]
    if len(words) != 1 or words[0] in (b"", b"no"):
        return "X-DSN2"
    multipart = _report(block, content_type, body)
    return None if multipart is not None else "X-DSN3"


def minimise_report(octets: bytes) -> bytes:
    """Reduce an accepted delivery report to what a client needs.

    The original message shrinks to its header block, in which core finds the Message-ID; the text
    is cut to 4 KiB; preamble and epilogue go. The header of the report stays octet for octet.

    Args:  octets: a whole message that `report_fault` finds nothing in; any other comes back as it
        is.
    Source:  spec policy X-DSN5.
    """
    end = end_of_header(octets)
    block = parse_header(octets[:end] if end > 0 else b"")
    content_type = content_type_of(block)
    if end < 0 or content_type is None or content_type.media_type != b"multipart/report":
        return octets
    report = _report(block, content_type, octets[end:])
    if report is None:
        return octets
    delimiter = b"\r\n--" + (content_type.get(b"boundary") or b"")
    text, status, *original = report.parts
    pieces = [text.header_octets + _first_lines(text.content)]
    pieces.append(status.header_octets + status.content)
    pieces.extend(_header_only(part) for part in original)
    body = b"".join(delimiter + b"\r\n" + piece for piece in pieces)
    return octets[:end] + body[2:] + delimiter + b"--\r\n"


def _report(block: HeaderBlock, content_type: ContentType, body: bytes) -> Multipart | None:
    kind = content_type.get(b"report-type")
    boundary = content_type.get(b"boundary")
    if kind is not None and kind.lower() != b"delivery-status":
        return None
    if boundary is None or not is_boundary(boundary) or encoding_of(block) not in _PLAIN_ENCODINGS:
        return None
    report = split_multipart(body, boundary)
    if report is None or max(len(report.preamble), len(report.epilogue)) > MAX_AROUND_OCTETS:
        return None
    return report if _has_report_parts(report.parts) else None


def _has_report_parts(parts: tuple[Part, ...]) -> bool:
    if not 2 <= len(parts) <= 3 or any(part.header.finding.inbound for part in parts):
        return False
    text, status, *original = parts
    return (
        text.header.content_type.media_type in _TEXT_TYPES
        and len(text.content) <= MAX_TEXT_OCTETS
        and status.header.content_type.media_type in _STATUS_TYPES
        and len(status.content) <= MAX_STATUS_OCTETS
        and all(part.header.content_type.media_type in _ORIGINAL_TYPES for part in original)
    )


def _first_lines(text: bytes) -> bytes:
    """Return whole lines of at most 4 KiB, so that no encoded line is torn."""
    if len(text) <= MAX_KEPT_TEXT_OCTETS:
        return text
    end = text.rfind(b"\r\n", 0, MAX_KEPT_TEXT_OCTETS)
    return text[:end] if end >= 0 else text[:MAX_KEPT_TEXT_OCTETS]


def _header_only(part: Part) -> bytes:
    """Return the third part with nothing but the header block of the original message."""
    encoding = part.header.encoding
    is_encoded = encoding in (b"base64", b"quoted-printable")
    content = (decode(part.content, encoding) or b"") if is_encoded else part.content
    end = end_of_header(content)
    found = parse_header(content[:end] if end > 0 else content.rstrip(b"\r\n") + b"\r\n\r\n")
    # Whatever follows the first line that is no field would be text.
    header = found.octets[: found.fields[-1][3]] if found.fields else b""
    charset = b"" if header.isascii() else b"; charset=utf-8\r\nContent-Transfer-Encoding: 8bit"
    return b"Content-Type: text/rfc822-headers" + charset + b"\r\n\r\n" + header
