"""The OpenPGP packet walk: session key packets, one encrypted data packet, nothing else (O rules).

The walker reads packet headers and the small packets, never keeps ciphertext but two samples of
32 KiB, never decrypts and never decompresses. The form it accepts is `ESK+ SEIPD`.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Callable, Mapping
from typing import Final

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

_SAMPLE_OCTETS: Final = 32 * 1024
_MAX_FIXED_HEADER: Final = 36
_CIPHERS: Final = frozenset((1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13))
_NOT_FOR_ENCRYPTION: Final = frozenset((0, 3, 17, 19, 22, 27, 28))
_S2K_OCTETS: Final[Mapping[int, int]] = {0: 2, 1: 10, 3: 11, 4: 20}
_AEAD_NONCE_OCTETS: Final[Mapping[int, int]] = {1: 16, 2: 15, 3: 12}
_AEAD_TAG_OCTETS: Final = 16
_MIN_RSA_BITS: Final = 512
_MIN_UNKNOWN_OCTETS: Final = 32


class Sample:
    """The first and the last 32 KiB of a stream of octets, and how many there were."""

    def __init__(self, head_octets: int = _SAMPLE_OCTETS) -> None:
        """Begin with nothing. `head_octets`: how much of the start is kept."""
        self.size = 0
        self._head_octets = head_octets
        self.head = bytearray()
        self._tail = bytearray()

    def add(self, octets: bytes) -> None:
        """Take more octets."""
        self.size += len(octets)
        room = self._head_octets - len(self.head)
        if room > 0:
            self.head += octets[:room]
            octets = octets[room:]
        if octets:
            self._tail += octets[-self._head_octets :]
            if len(self._tail) > 4 * self._head_octets:
                del self._tail[: -self._head_octets]

    def octets(self, skip: int = 0) -> bytes:
        """Return what O-20 looks at, without the first `skip` octets: at most 64 KiB."""
        if len(self.head) + len(self._tail) < self.size:
            return bytes(self.head[skip : skip + _SAMPLE_OCTETS] + self._tail[-_SAMPLE_OCTETS:])
        whole = bytes(self.head[skip:] + self._tail)
        if len(whole) <= 2 * _SAMPLE_OCTETS:
            return whole
        return whole[:_SAMPLE_OCTETS] + whole[-_SAMPLE_OCTETS:]


def compresses(octets: bytes, percent: int) -> bool:
    """Say whether zlib at level 1 leaves less than `percent` of the octets.

    Source:  spec policy O-20. It compresses, it never decompresses.
    """
    # A window of 4 KiB finds the same matches in 3 KiB as one of 32 KiB, and takes half the time to
    # set up; a test compares the two.
    window_bits = 12 if len(octets) <= 3072 else 15
    squeezer = zlib.compressobj(1, zlib.DEFLATED, window_bits)
    size = len(squeezer.compress(octets)) + len(squeezer.flush())
    return 100 * size < percent * len(octets)


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
        self._body = Sample(_SAMPLE_OCTETS + _MAX_FIXED_HEADER)

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
        rule, material = (_judge_pkesk if self._tag == _PKESK else _judge_skesk)(body)
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
            sound = size >= 52 and head[1] in _CIPHERS and head[2] in (1, 2, 3) and head[3] <= 16
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


# --- session key packets -----------------------------------------------------------------------


def _judge_pkesk(body: bytes) -> tuple[str | None, bytes]:
    """Check a public key encrypted session key; return its algorithm data too.

    Source:  RFC 9580 §5.1.
    """
    if body[0] == 3:
        rule, start = "O-10", 9  # eight octets of key id, all zero for a hidden recipient
    elif body[0] == 6:
        rule, start = "O-11", _end_of_fingerprint(body)
    else:
        return "O-10", b""
    if not 0 < start < len(body):
        return rule, b""
    algorithm, data = body[start], body[start + 1 :]
    if algorithm in _NOT_FOR_ENCRYPTION:
        return "O-12", b""
    fits = _DATA_SHAPES.get(algorithm, _is_unknown)
    return (None if fits(data) else "O-13"), data


def _end_of_fingerprint(body: bytes) -> int:
    """Return the offset after version, key version and fingerprint of a v6 packet; 0 if bad."""
    if len(body) < 3:
        return 0
    length = body[1]
    if length == 0 or (length, body[2]) in ((21, 4), (33, 6), (33, 5)):
        return 2 + length
    return 0


def _after_mpi(data: bytes, at: int, min_bits: int = 1) -> int:
    """Return the offset after the multiprecision integer at `at`, 0 if it is none.

    Source:  RFC 9580 §3.2: the length counts from the highest bit that is set.
    """
    bits = int.from_bytes(data[at : at + 2], "big")
    after = at + 2 + (bits + 7) // 8
    if bits < min_bits or after > len(data):
        return 0
    is_exact = data[at + 2].bit_length() == (bits - 1) % 8 + 1
    return after if is_exact else 0


def _is_rsa(data: bytes) -> bool:
    return _after_mpi(data, 0, _MIN_RSA_BITS) == len(data) > 0


def _is_elgamal(data: bytes) -> bool:
    middle = _after_mpi(data, 0)
    return middle > 0 and _after_mpi(data, middle) == len(data)


def _is_ecdh(data: bytes) -> bool:
    at = _after_mpi(data, 0)
    return 0 < at < len(data) and at + 1 + data[at] == len(data)


def _is_x25519(data: bytes) -> bool:
    return len(data) > 32 and 33 + data[32] == len(data)


def _is_x448(data: bytes) -> bool:
    return len(data) > 56 and 57 + data[56] == len(data)


def _is_unknown(data: bytes) -> bool:
    return len(data) >= _MIN_UNKNOWN_OCTETS


_DATA_SHAPES: Final[Mapping[int, Callable[[bytes], bool]]] = {
    1: _is_rsa,
    2: _is_rsa,
    16: _is_elgamal,
    18: _is_ecdh,
    25: _is_x25519,
    26: _is_x448,
}


def _judge_skesk(body: bytes) -> tuple[str | None, bytes]:
    """Check a symmetric key encrypted session key; return salt and encrypted octets too.

    Source:  RFC 9580 §5.3.
    """
    if body[0] == 4:
        return _judge_skesk4(body)
    return _judge_skesk6(body) if body[0] == 6 else ("O-15", b"")


def _judge_skesk4(body: bytes) -> tuple[str | None, bytes]:
    if len(body) < 3 or body[1] not in _CIPHERS:
        return "O-14", b""
    s2k = _S2K_OCTETS.get(body[2])
    if s2k is None or len(body) < 2 + s2k:
        return "O-16", b""
    key = len(body) - 2 - s2k
    if key and not 17 <= key <= 33:
        return "O-14", b""
    return None, body[4:]


def _judge_skesk6(body: bytes) -> tuple[str | None, bytes]:
    if len(body) < 6 or body[2] not in _CIPHERS or body[3] not in _AEAD_NONCE_OCTETS:
        return "O-15", b""
    s2k = body[4]
    if _S2K_OCTETS.get(body[5]) != s2k:
        return "O-16", b""
    before_key = 5 + s2k + _AEAD_NONCE_OCTETS[body[3]]
    if body[1] != before_key - 2:  # the count runs from the cipher to the nonce
        return "O-15", b""
    if len(body) - before_key - _AEAD_TAG_OCTETS not in (16, 24, 32):
        return "O-15", b""
    return None, body[7:]
