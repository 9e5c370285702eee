"""The OpenPGP packet walk: session key packets, one encrypted data packet, nothing else (O rules).

The walker reads packet headers and the small packets, never keeps ciphertext but two samples of
32 KiB, never decrypts and never decompresses. The form it accepts is `ESK+ SEIPD`.
"""

from __future__ import annotations

import enum
from typing import Final

from chatmail.domain.formats.opacity import SAMPLE_OCTETS, Sample, compresses
from chatmail.domain.formats.session_key_packets import CIPHERS, judge_pkesk, judge_skesk

MAX_ESKS: Final = 5000
MAX_ESK_OCTETS: Final = 4096
MAX_ESK_TOTAL_OCTETS: Final = 4 * 1024 * 1024
MIN_FIRST_PARTIAL: Final = 512
# RFC 9580 §4.2.1.4 allows partial chunks of one octet after the first. Nobody writes them; each
# costs a turn of the loop below (2 µs), and 30 MB of them would hold the event loop for seconds.
MAX_SMALL_PARTIALS: Final = 256

_PKESK: Final = 1
_SKESK: Final = 3
_SEIPD: Final = 18

_MAX_FIXED_HEADER: Final = 36


class _State(enum.Enum):
    HEADER = enum.auto()  # at the first octet of a packet
    ESK = enum.auto()  # inside a session key packet
    CHUNK = enum.auto()  # inside the encrypted data
    LENGTH = enum.auto()  # at the length of the next partial chunk
    DONE = enum.auto()  # after the encrypted data


class PacketWalker:
    """Walks the decoded octets of one message.

    `fault` is the first broken O rule but O-20; after it nothing is read.
    """

    def __init__(self) -> None:
        self.fault: str | None = None
        self._state = _State.HEADER
        self._open = b""  # a packet header or session key packet that is not complete
        self._tag = 0
        self._left = 0  # octets missing in the packet or chunk
        self._is_partial = False  # another chunk follows
        self._small_partials = 0
        self._esks = 0
        self._esk_octets = 0
        self._esk_versions: set[int] = set()
        self._pkesks = 0
        self._esk_sample = Sample()
        self._body = Sample(SAMPLE_OCTETS + _MAX_FIXED_HEADER)

    def feed(self, octets: bytes) -> None:
        """Take more octets."""
        if self.fault:
            return
        text = self._open + octets if self._open else octets
        position, end = 0, len(text)
        while position < end and self.fault is None:
            state = self._state
            if state is _State.CHUNK:
                after = min(end, position + self._left)
                self._chunk(text[position:after])
            elif state is _State.ESK:
                after = position + self._left
                if after > end:
                    break
                self._esk(text[position:after])
            elif state is _State.DONE:
                self.fault = "O-07"
                return
            else:
                after = self._header(text, position)
                if after == position:
                    break
            position = after
        self._open = text[position:]

    def finish(self) -> str | None:
        """Take the end of the octets; return the first broken rule but O-20."""
        if self.fault is None:
            if self._state is _State.DONE:
                self.fault = self._judge_data()
            elif self._state is _State.HEADER and not self._open:
                self.fault = "O-07"
            else:
                self.fault = "O-05"
        return self.fault

    @property
    def is_one_passphrase(self) -> bool:
        """Say whether there is exactly one session key packet, and it is a symmetric one."""
        return self._esks == 1 and self._pkesks == 0

    def is_transparent(self) -> bool:
        """Say whether what should be ciphertext compresses: rule O-20.

        Cost:  one compression of at most 64 KiB, two when there are very many recipients.
        """
        data = self._body.octets(1 if self._body.head[:1] == b"\x01" else _MAX_FIXED_HEADER)
        if len(data) >= 256 and compresses(data, 95):
            return True
        keys = self._esk_sample.octets()
        return len(keys) >= 1024 and compresses(keys, 90)

    # --- packet headers ----------------------------------------------------------------------

    def _header(self, text: bytes, position: int) -> int:
        """Read a packet header or a chunk length; return `position` if it is not complete."""
        at = position
        if self._state is _State.HEADER:
            octet = text[at]
            if not octet & 0x80:
                self.fault = "O-01"
                return at + 1
            if not octet & 0x40:
                return self._old_header(text, at, octet)
            self._tag = octet & 0x3F
            if self._tag not in (_PKESK, _SKESK, _SEIPD):
                self.fault = "O-07"
                return at + 1
            at += 1
        length = _read_length(text, at)
        if length is None:
            return position
        self._left, self._is_partial, at = length
        if self._tag == _SEIPD:
            self._begin_chunk()
        elif self._is_partial:
            self.fault = "O-04"
        else:
            self._begin_esk()
        return at

    def _old_header(self, text: bytes, position: int, octet: int) -> int:
        """Read a header of the old format, which GnuPG writes for session key packets."""
        self._tag = (octet >> 2) & 0x0F
        if self._tag not in (_PKESK, _SKESK):
            self.fault = "O-07"
            return position + 1
        if octet & 3 == 3:
            self.fault = "O-02"
            return position + 1
        after = position + 1 + (1 << (octet & 3))
        if after > len(text):
            return position
        self._left = int.from_bytes(text[position + 1 : after], "big")
        self._begin_esk()
        return after

    def _begin_esk(self) -> None:
        self._esks += 1
        self._pkesks += self._tag == _PKESK
        self._esk_octets += self._left
        if self._esks > MAX_ESKS:
            self.fault = "O-08"
        elif self._left > MAX_ESK_OCTETS or self._esk_octets > MAX_ESK_TOTAL_OCTETS:
            self.fault = "O-09"
        elif self._left == 0:
            self.fault = "O-10" if self._tag == _PKESK else "O-14"
        self._state = _State.ESK

    def _begin_chunk(self) -> None:
        is_first = self._state is _State.HEADER
        if is_first and self._esks == 0:
            self.fault = "O-08"
        elif self._is_partial and self._left < MIN_FIRST_PARTIAL:
            self._small_partials += 1
            if is_first or self._small_partials > MAX_SMALL_PARTIALS:
                self.fault = "O-04"
        self._state = _State.CHUNK if self._left else _State.DONE

    # --- packet bodies -----------------------------------------------------------------------

    def _chunk(self, octets: bytes) -> None:
        self._body.add(octets)
        self._left -= len(octets)
        if not self._left:
            self._state = _State.LENGTH if self._is_partial else _State.DONE

    def _esk(self, body: bytes) -> None:
        version = body[0]
        self._esk_versions.add(version)
        rule, material = (judge_pkesk if self._tag == _PKESK else judge_skesk)(body)
        if rule:
            self.fault = rule
        self._esk_sample.add(material)
        self._state = _State.HEADER

    def _judge_data(self) -> str | None:
        """Check the encrypted data packet as a whole.

        Source:  RFC 9580 §5.13.
        """
        head, size = self._body.head, self._body.size
        version = head[0] if head else 1
        if version == 1:
            rule = None if size >= 1 + 18 + 22 else "O-17"
            allowed = {3, 4}
        elif version == 2:
            sound = size >= 52 and head[1] in CIPHERS and head[2] in (1, 2, 3) and head[3] <= 16
            rule = None if sound else "O-18"
            allowed = {6}
        else:
            return "O-18"
        return rule or (None if self._esk_versions <= allowed else "O-19")


def _read_length(text: bytes, at: int) -> tuple[int, bool, int] | None:
    """Read a length of the new format: length, whether partial, offset after it.

    Source:  RFC 9580 §4.2.1.
    """
    if at >= len(text):
        return None
    first = text[at]
    if first < 192:
        return first, False, at + 1
    if first < 224:
        if at + 2 > len(text):
            return None
        return ((first - 192) << 8) + text[at + 1] + 192, False, at + 2
    if first < 255:
        return 1 << (first & 0x1F), True, at + 1
    if at + 5 > len(text):
        return None
    return int.from_bytes(text[at + 1 : at + 5], "big"), False, at + 5
