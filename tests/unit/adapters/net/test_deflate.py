from __future__ import annotations

import base64
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.adapters.net.deflate import Deflation, Inflater, compress
from chatmail.adapters.net.errors import PeerGone

TEXT = b"".join(b"* %d FETCH (UID %d FLAGS (\\Seen))\r\n" % (i, i + 1000) for i in range(3000))
BASE64 = base64.encodebytes(random.Random(1).randbytes(60_000))

batches = st.lists(
    st.binary(max_size=300) | st.sampled_from([TEXT[:9000], BASE64[:9000], b"\0" * 99])
)
flushes = st.sampled_from([zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_PARTIAL_FLUSH])


def take_all(inflater: Inflater, octets: bytes) -> bytes:
    parts = [inflater.feed(octets)]
    while inflater.has_more:
        parts.append(inflater.feed(b""))
    assert max(map(len, parts)) <= 65536
    return b"".join(parts)


@given(batches, st.lists(flushes, min_size=1), st.integers(1, 4000), st.randoms())
def test_any_flushes_cut_anywhere_give_the_same_plaintext(
    texts: list[bytes], modes: list[int], step: int, rng: random.Random
) -> None:
    # One compressor for all batches: later ones refer back to earlier ones across our drops.
    client = zlib.compressobj(6, zlib.DEFLATED, -15)
    wire = b"".join(
        client.compress(text) + client.flush(modes[i % len(modes)]) for i, text in enumerate(texts)
    )
    inflater, got = Inflater(), []
    while wire:
        cut = rng.randint(1, step)
        got.append(take_all(inflater, wire[:cut]))
        wire = wire[cut:]
    assert b"".join(got) == b"".join(texts)


@given(batches)
def test_our_batches_are_one_deflate_stream(texts: list[bytes]) -> None:
    # A client may have an inflater with the largest window only; ours needs 2^13.
    client = zlib.decompressobj(-13)
    for text in texts:
        assert client.decompress(compress(text)) == text


@pytest.mark.parametrize(
    ("text", "worst"),
    [
        pytest.param(TEXT[:64000], 0.2, id="imap-text"),
        pytest.param(BASE64[:64000], 0.78, id="base64"),
        pytest.param(BASE64[:2000], 0.8, id="small-base64"),
    ],
)
def test_saving(text: bytes, worst: float) -> None:
    assert len(compress(text)) < len(text) * worst
    assert compress(memoryview(text)) == compress(text)


def test_our_stream_needs_no_window_beyond_8_kib() -> None:
    text = random.Random(4).randbytes(10_000).hex().encode() * 3
    assert zlib.decompressobj(-13).decompress(compress(text)) == text


def test_big_base64_is_not_searched_for_repetitions() -> None:
    huffman = zlib.compressobj(1, zlib.DEFLATED, -13, 5, zlib.Z_HUFFMAN_ONLY)
    assert compress(BASE64) == huffman.compress(BASE64) + huffman.flush(zlib.Z_SYNC_FLUSH)


def test_plaintext_inside_the_inflater_at_the_limit_is_not_forgotten() -> None:
    for size in range(65530, 65900, 7):
        wire = zlib.compressobj(9, zlib.DEFLATED, -15)
        octets = wire.compress(bytes(size)) + wire.flush(zlib.Z_PARTIAL_FLUSH)
        assert len(take_all(Inflater(), octets)) == size


def test_references_reach_back_over_the_whole_window() -> None:
    client = zlib.compressobj(9, zlib.DEFLATED, -15)
    inflater = Inflater()
    noise = random.Random(2).randbytes(32000)
    for text in (noise, noise, noise[:100]):
        wire = client.compress(text) + client.flush(zlib.Z_SYNC_FLUSH)
        assert take_all(inflater, wire) == text
    assert len(wire) < 40  # it was a reference indeed


def test_an_idle_inflater_keeps_only_text() -> None:
    client = zlib.compressobj(6, zlib.DEFLATED, -15)
    inflater = Inflater()
    command = b"A0001 UID FETCH 1:500 (FLAGS)\r\n"
    inflater.feed(client.compress(command) + client.flush(zlib.Z_SYNC_FLUSH))
    kept = {name: getattr(inflater, name) for name in Inflater.__slots__}
    assert kept.pop("_inflate") is None
    assert kept.pop("_history") == command
    assert sum(len(value) for value in kept.values() if isinstance(value, bytes)) == 0


def test_plaintext_comes_in_pieces_of_64_kib() -> None:
    wire = zlib.compressobj(6, zlib.DEFLATED, -15)
    octets = wire.compress(TEXT) + wire.flush(zlib.Z_SYNC_FLUSH)
    inflater = Inflater()
    assert inflater.feed(octets) == TEXT[:65536]
    assert inflater.has_more
    assert inflater.feed(b"") == TEXT[65536:131072]


def test_a_bomb_ends_the_session_before_it_costs_memory() -> None:
    wire = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = wire.compress(bytes(1 << 20)) + wire.flush(zlib.Z_SYNC_FLUSH)
    inflater, taken = Inflater(), []

    def explode() -> None:
        for octets in (bomb, *[b""] * 1000):
            taken.append(len(inflater.feed(octets)))

    with pytest.raises(PeerGone):
        explode()
    assert sum(taken) < 400_000


def test_repetitive_but_honest_text_is_no_bomb() -> None:
    wire = zlib.compressobj(9, zlib.DEFLATED, -15)
    inflater = Inflater()
    sets = b"".join(b"A%04d UID STORE %d +FLAGS (\\Deleted)\r\n" % (i, i) for i in range(20000))
    octets = wire.compress(sets) + wire.flush(zlib.Z_SYNC_FLUSH)
    assert take_all(inflater, octets) == sets


@pytest.mark.parametrize("garbage", [b"A1 LOGIN a b\r\n", b"\xff" * 40, b"\x1f\x8b\x08\x00" * 9])
def test_garbage_ends_the_session(garbage: bytes) -> None:
    with pytest.raises(PeerGone):
        Inflater().feed(garbage * 10)


def test_a_client_may_finish_its_stream_but_not_go_on() -> None:
    wire = zlib.compressobj(6, zlib.DEFLATED, -15)
    inflater = Inflater()
    assert inflater.feed(wire.compress(b"A9 LOGOUT\r\n") + wire.flush()) == b"A9 LOGOUT\r\n"
    with pytest.raises(PeerGone):
        inflater.feed(b"more")


def test_nothing_leaves_before_the_first_octet_of_the_client() -> None:
    deflation = Deflation()
    assert deflation.pack(b"* 1 EXISTS\r\n") == b""
    assert deflation.pack(b"* 2 EXISTS\r\n") == b""
    deflation.may_send = True
    packed = deflation.pack(b"A1 OK\r\n") + deflation.pack(b"") + deflation.pack(b"A2 OK\r\n")
    expected = b"* 1 EXISTS\r\n* 2 EXISTS\r\nA1 OK\r\nA2 OK\r\n"
    assert zlib.decompressobj(-15).decompress(packed) == expected


def test_what_waits_for_the_client_is_bounded() -> None:
    deflation = Deflation()
    deflation.pack(b"x" * 65536)
    with pytest.raises(PeerGone):
        deflation.pack(b"y")
