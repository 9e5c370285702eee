"""Text out of a message body: transfer encoding and charset undone, piece by piece, leniently.

`transfer_encoding` judges what comes in and refuses what is not clean; this reads what is there, as
far as it can be read. Memory: an unfinished line, at most 4 KiB.
Source:  RFC 2045 §6.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from chatmail.domain.formats.charsets import CharsetDecoder

MAX_LINE: Final = 4096

_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_NOT_BASE64: Final = bytes(octet for octet in range(256) if octet not in _BASE64)


class _Transfer(Protocol):
    def feed(self, octets: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class TextDecoder:
    """One body being read as text."""

    def __init__(self, encoding: bytes, charset: bytes) -> None:
        """Args:  encoding: a Content-Transfer-Encoding in lower case; unknown ones are none."""
        self._transfer = _TRANSFERS.get(encoding, _Identity)()
        self._charset = CharsetDecoder(charset)

    def feed(self, octets: bytes) -> str:
        """Return the text that the next octets complete."""
        return self._charset.decode(self._transfer.feed(octets))

    def finish(self) -> str:
        """Return the rest."""
        return self._charset.decode(self._transfer.finish(), final=True)


class _Identity:
    def feed(self, octets: bytes) -> bytes:
        return octets

    def finish(self) -> bytes:
        return b""


class _Base64:
    def __init__(self) -> None:
        self._open = b""

    def feed(self, octets: bytes) -> bytes:
        digits = self._open + octets.translate(None, _NOT_BASE64)
        whole = len(digits) & ~3
        self._open = digits[whole:]
        return _groups(digits[:whole])

    def finish(self) -> bytes:
        return _groups(self._open + b"=" * (-len(self._open) % 4))


def _groups(digits: bytes) -> bytes:
    try:
        return binascii.a2b_base64(digits)
    except binascii.Error:
        return b""


class _QuotedPrintable:
    def __init__(self) -> None:
        self._open = b""

    def feed(self, octets: bytes) -> bytes:
        octets = self._open + octets
        end = octets.rfind(b"\n") + 1
        if len(octets) - end > MAX_LINE:
            mark = octets.rfind(b"=", len(octets) - 2)  # `=XX` must not be cut
            end = len(octets) if mark < 0 else mark
        self._open = octets[end:]
        return binascii.a2b_qp(octets[:end])

    def finish(self) -> bytes:
        return binascii.a2b_qp(self._open)


_TRANSFERS: Final[Mapping[bytes, Callable[[], _Transfer]]] = {
    b"base64": _Base64,
    b"quoted-printable": _QuotedPrintable,
}
