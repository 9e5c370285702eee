"""Hashes of a message body in the canonical forms of DKIM, made while the octets arrive.

A message of 30 MiB is hashed in the pieces it comes in: nothing is held, nothing is read again.
Source:  RFC 6376 §3.4.3 (simple), §3.4.4 (relaxed).
"""

from __future__ import annotations

import enum
import hashlib
import re
from typing import Final

_SPACE: Final = re.compile(rb"[ \t]+")
_LINES_AT_ONCE: Final = 4096


class Canonicalization(enum.Enum):
    """How a body is brought into form before it is hashed."""

    SIMPLE = "simple"
    RELAXED = "relaxed"


class _Simple:
    """Empty lines at the end count as none; the last line always ends."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.has_content = False
        self._lines = 0  # line ends that wait for something behind them
        self._tail = b""  # half a line end

    def feed(self, chunk: bytes) -> None:
        data = self._tail + chunk if self._tail else chunk
        self._tail = b""
        if data.endswith(b"\r"):
            data, self._tail = data[:-1], b"\r"
        content = data.rstrip(b"\r\n")
        rest = data[len(content) :]
        if rest.count(b"\r\n") * 2 != len(rest):  # bare CR or LF: such a message is refused anyway
            content, rest = data, b""
        if content:
            self._content(content)
        self._lines += len(rest) // 2

    def _content(self, content: bytes) -> None:
        while self._lines:
            count = min(self._lines, _LINES_AT_ONCE)
            self.hash.update(b"\r\n" * count)
            self._lines -= count
        self.hash.update(content)
        self.has_content = True

    def finish(self) -> bytes:
        if self._tail:
            self._content(self._tail)
        self.hash.update(b"\r\n")
        return self.hash.digest()


class _Relaxed:
    """As simple, and a run of spaces counts as one, at the end of a line as none."""

    def __init__(self) -> None:
        self._lines = _Simple()
        self._held = b""  # a space, half a line end, or both

    def feed(self, chunk: bytes) -> None:
        data = self._held + chunk if self._held else chunk
        self._held = b""
        if data.endswith(b"\r"):
            data, self._held = data[:-1], b"\r"
        data = _SPACE.sub(b" ", data).replace(b" \r\n", b"\r\n")
        if data.endswith(b" "):
            data, self._held = data[:-1], b" " + self._held
        if data:
            self._lines.feed(data)

    def finish(self) -> bytes:
        # An empty body stays empty (§3.4.4); that of the simple form is one line end.
        return self._lines.finish() if self._lines.has_content else hashlib.sha256().digest()


class BodyDigests:
    """SHA-256 of one body, in the forms asked for at the start."""

    def __init__(self, *forms: Canonicalization) -> None:
        self._hashes: dict[Canonicalization, _Simple | _Relaxed] = {
            form: _Simple() if form is Canonicalization.SIMPLE else _Relaxed() for form in forms
        }
        self._results: dict[Canonicalization, bytes] | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next octets of the body (what follows the header block), cut anywhere."""
        for body_hash in self._hashes.values():
            body_hash.feed(chunk)

    def sha256(self, form: Canonicalization) -> bytes | None:
        """Return the hash, 32 octets; None: this form was not asked for. Ends feeding."""
        if self._results is None:
            self._results = {name: value.finish() for name, value in self._hashes.items()}
        return self._results.get(form)
