"""The body of `multipart/encrypted`: MIME, armor, packets, one inside the other, as it arrives.

Three readers in a row, none of which keeps the body. Each stops at its first broken rule; the
answer is the first of M, then A, then O, so it does not depend on how the octets were cut. A short
body is held until its end, because it most likely has the usual form, which is read faster whole.
"""

from __future__ import annotations

from typing import Final

from chatmail.domain.formats.armor import ArmorReader
from chatmail.domain.formats.content_type import ContentType
from chatmail.domain.formats.facts import NO_FINDING, Finding, broken
from chatmail.domain.formats.mime import MultipartSplitter, Piece, is_boundary, parse_part_header
from chatmail.domain.formats.openpgp import PacketWalker
from chatmail.domain.formats.transfer_encoding import Decoder, Identity, decode, decoder_for
from chatmail.domain.formats.usual_form import MAX_OCTETS, read_usual_form

MAX_PREAMBLE_LINES: Final = 4
MAX_EPILOGUE_OCTETS: Final = 64
MAX_CONTROL_OCTETS: Final = 64

_PROTOCOL: Final = b"application/pgp-encrypted"
_PART_TYPES: Final = (_PROTOCOL, b"application/octet-stream")
_BLANK: Final = b" \t\r\n"


def envelope_finding(content_type: ContentType) -> Finding:
    """Check the top-level Content-Type: M-01 to M-03.

    Source:  RFC 3156 §4; spec policy 1.4.
    """
    if content_type.media_type != b"multipart/encrypted":
        return broken("M-01")
    if not is_boundary(content_type.get(b"boundary")):
        return broken("M-02")
    protocol = content_type.get(b"protocol")
    if protocol is not None and protocol.lower() != _PROTOCOL:
        return broken("M-03")
    return NO_FINDING


class BlankText:
    """A preamble or an epilogue: spaces and line ends, few of them (M-05, M-07)."""

    def __init__(self) -> None:
        self._octets = 0
        self._lines = 0

    def is_preamble(self, octets: bytes) -> bool:
        """Take more of a preamble; say whether it still is one."""
        self._lines += octets.count(b"\n")
        self._octets += len(octets)
        few = self._lines <= MAX_PREAMBLE_LINES and self._octets <= MAX_PREAMBLE_LINES * 1000
        return few and not octets.strip(_BLANK)

    def is_epilogue(self, octets: bytes) -> bool:
        """Take more of an epilogue; say whether it still is one."""
        self._octets += len(octets)
        return self._octets <= MAX_EPILOGUE_OCTETS and not octets.strip(_BLANK)


class EncryptedBody:
    """Reads the body of a message whose `envelope_finding` is empty."""

    def __init__(self, content_type: ContentType) -> None:
        self._boundary = content_type.get(b"boundary") or b""
        self._held = b""
        self._readers: _Readers | None = None
        self._packets: PacketWalker | None = None

    def feed(self, octets: bytes) -> None:
        """Take more of the body."""
        if self._readers is None:
            self._held = self._held + octets if self._held else octets
            if len(self._held) <= MAX_OCTETS:
                return
            octets = self._release()
        self._read(octets)

    def finish(self) -> Finding:
        """Take the end of the body; return the first broken rule but O-20."""
        if self._readers is None:
            self._packets = read_usual_form(self._held, self._boundary)
            if self._packets is not None:
                return NO_FINDING
            self._read(self._release())
        assert self._readers is not None  # noqa: S101  made by `_read`
        return self._readers.finish()

    def is_transparent(self) -> bool:
        """Say whether O-20 is broken; only to be asked when nothing else is."""
        packets = self._packets
        if packets is None:
            assert self._readers is not None  # noqa: S101  `finish` was called
            packets = self._readers.packets
        return packets.is_transparent()

    def _release(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def _read(self, octets: bytes) -> None:
        if self._readers is None:
            self._readers = _Readers(self._boundary)
        self._readers.feed(octets)


class _Readers:
    """The three readers in a row."""

    def __init__(self, boundary: bytes) -> None:
        self._splitter = MultipartSplitter(boundary)
        self._mime = NO_FINDING
        self._part = 0
        self._preamble = BlankText()
        self._epilogue = BlankText()
        self._control = b""
        self._control_encoding = b""
        self._decoder: Decoder = Identity()
        self._armor = ArmorReader()
        self.packets = PacketWalker()

    def feed(self, octets: bytes) -> None:
        """Take more of the body."""
        if self._mime.inbound:
            return
        for piece, content in self._splitter.feed(octets):
            self._take(piece, content)

    def finish(self) -> Finding:
        """Take the end of the body; return the first broken rule but O-20."""
        if not self._mime.inbound:
            for piece, content in self._splitter.finish():
                self._take(piece, content)
        if not self._mime.inbound:
            self.packets.feed(self._armor.finish())
        armor = self._armor.finding
        packets = NO_FINDING if armor.inbound else self._packet_finding()
        return self._mime.then(armor).then(packets)

    def _packet_finding(self) -> Finding:
        fault = self.packets.finish()
        return broken(fault) if fault else NO_FINDING

    def _break(self, rule: str) -> None:
        self._mime = self._mime.then(broken(rule))

    def _take(self, piece: Piece, octets: bytes) -> None:
        if self._mime.inbound:
            return
        if piece is Piece.CONTENT:
            self._content(octets)
        elif piece is Piece.PART:
            self._begin_part(octets)
        elif piece is Piece.END:
            self._end_part()
        else:
            self._around(piece, octets)

    def _around(self, piece: Piece, octets: bytes) -> None:
        if piece is Piece.BAD:
            self._break(octets.decode("ascii"))
        elif piece is Piece.CLOSE and self._part != 2:
            self._break("M-06")
        elif piece is Piece.PREAMBLE and not self._preamble.is_preamble(octets):
            self._break("M-05")
        elif piece is Piece.EPILOGUE and not self._epilogue.is_epilogue(octets):
            self._break("M-07")

    def _begin_part(self, header_octets: bytes) -> None:
        self._part += 1
        if self._part > 2:
            self._break("M-06")
            return
        header = parse_part_header(header_octets)
        media_type, encoding = header.content_type.media_type, header.encoding
        decoder = decoder_for(encoding)
        finding = header.finding
        if media_type.startswith((b"multipart/", b"message/")):
            finding = finding.then(broken("M-12"))
        elif media_type != _PART_TYPES[self._part - 1]:
            finding = finding.then(broken("M-09" if self._part == 1 else "M-11"))
        elif decoder is None:
            finding = finding.then(broken("M-13"))
        elif self._part == 2 and encoding in (b"base64", b"quoted-printable"):
            finding = finding.then(Finding("M-13", None))
        self._mime = self._mime.then(finding)
        self._control_encoding = encoding
        self._decoder = decoder or self._decoder

    def _content(self, octets: bytes) -> None:
        if self._part == 1:
            self._control += octets
            if len(self._control) > MAX_CONTROL_OCTETS:
                self._break("M-10")
            return
        self._armored(self._decoder.feed(octets))

    def _armored(self, octets: bytes) -> None:
        if self._decoder.failed:
            self._break("M-14")
            return
        decoded = self._armor.feed(octets)
        if decoded:
            self.packets.feed(decoded)

    def _end_part(self) -> None:
        if self._part == 1:
            control = decode(self._control, self._control_encoding)
            if control is None:
                self._break("M-14")
            elif control.strip(_BLANK) != b"Version: 1":
                self._break("M-10")
        else:
            self._armored(self._decoder.finish())
