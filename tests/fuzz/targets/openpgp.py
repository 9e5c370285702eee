"""OpenPGP packets: cuts change nothing, and a parser of the whole agrees."""

from __future__ import annotations

from chatmail.domain.formats.openpgp import PacketWalker
from tests.builders import (
    mpi,
    noise,
    old_packet,
    packet,
    packets,
    pkesk,
    pkesk_body,
    rsa_data,
    seipd,
    skesk4_body,
    skesk6_body,
)
from tests.fuzz.cutting import read, vector
from tests.unit.domain.strict_packets import Bad, read_packets

WORDS = (
    *(b"\xc1", b"\xc3", b"\xd2", b"\x84", b"\x85", b"\x8c", b"\x8d", b"\xe9", b"\xff\0\0\0\x40"),
    *(b"\x03" + bytes(8), b"\x06\x00", b"\x06\x21\x06", b"\x04\x09\x03\x08", b"\x02\x07\x02\x06"),
    *(b"\x19", b"\x12", b"\x10", b"\x01", b"\x1a", b"\x08\0\xff", b"\x01\x08", b"\x04\x14"),
)
# Filler of ciphertext, so that a short input can be a complete message.
_FILLER = noise(600, 9)


def check(data: bytes) -> None:
    """A walk of any cut ends as a walk of the whole does, and as a second parser does."""
    given = read(data)
    octets = given.payload + _FILLER[: given.more * 2]
    fault, is_transparent = _walk([octets])
    for pieces in given.ways(octets):
        assert _walk(pieces) == (fault, is_transparent)
    try:
        read_packets(octets)
    except Bad:
        assert fault is not None
    else:
        assert fault is None


def _walk(pieces: list[bytes]) -> tuple[str | None, bool | None]:
    walker = PacketWalker()
    for piece in pieces:
        walker.feed(piece)
    fault = walker.finish()
    return fault, (walker.is_transparent() if fault is None else None)


VECTORS = (
    vector(packets(60, recipients=1)),
    vector(packets(10, recipients=1)[:-10], 0, 5),
    vector(packet(3, skesk6_body()) + seipd(60, 2)),
    vector(packet(3, skesk4_body()) + seipd(60)),
    vector(packet(3, skesk4_body(key=noise(17))) + seipd(4100, length="partial")),
    vector(packet(1, pkesk_body(6)) + seipd(60, 2, length="five")),
    vector(pkesk(algorithm=1, data=rsa_data(1024)) + seipd(60)),
    vector(pkesk(algorithm=16, data=mpi(noise(40)) + mpi(noise(40))) + seipd(60)),
    vector(pkesk(algorithm=18, data=mpi(b"\x40" + noise(32)) + b"\x30" + noise(48)) + seipd(60)),
    vector(old_packet(1, pkesk_body(), 0) + old_packet(3, skesk4_body(), 1) + seipd(60)),
    vector(pkesk(algorithm=99, data=noise(32)) + seipd(60) + b"\xcb\x01x"),
)
