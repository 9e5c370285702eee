"""FETCH BINARY: decoded octets, sizes, ranges, what cannot be decoded."""

from __future__ import annotations

import base64
import quopri
import random

import pytest

from chatmail.adapters.imap.binary import _Range
from tests.unit.adapters.imap.world import Client, World

NOISE = random.Random(3516).randbytes(150_000)
PLAIN = b"caf\xc3\xa9 = 5 \xe2\x82\xac\r\n"
TREE = (
    b"From: a@relay.test\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Transfer-Encoding: Quoted-Printable\r\n\r\n%b\r\n"
    b"--b\r\nContent-Type: application/octet-stream\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\n%b\r\n"
    b"--b\r\nContent-Type: text/plain\r\n\r\nplain\r\n"
    b"--b\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\nodd\r\n"
    b"--b\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!\r\n"
    b"--b--\r\n"
) % (
    quopri.encodestring(PLAIN).replace(b"\n", b"\r\n").replace(b"\r\r", b"\r"),
    base64.encodebytes(NOISE).replace(b"\n", b"\r\n"),
)


async def rev2(client: Client) -> None:
    assert await client.ok(b"ENABLE IMAP4rev2") == [b"* ENABLED IMAP4rev2"]


def world() -> World:
    world = World()
    world.deliver(TREE)
    return world


async def test_binary_needs_imap4rev2() -> None:
    async with world().session() as client:
        assert (await client.cmd(b"FETCH 1 BINARY.PEEK[1]"))[-1] == b"BAD Unknown FETCH item"
        await rev2(client)
        await client.ok(b"FETCH 1 BINARY.PEEK[1]")


async def test_parts_come_decoded() -> None:
    async with world().session() as client:
        await rev2(client)
        [line] = await client.ok(b"FETCH 1 (BINARY.PEEK[1] BINARY.SIZE[1] BINARY.PEEK[3])")
        decoded = PLAIN
        assert line.startswith(b"* 1 FETCH (BINARY[1] {%d}\r\n%b" % (len(decoded), decoded))
        assert line.endswith(b" BINARY.SIZE[1] %d BINARY[3] {5}\r\nplain)" % len(decoded))


async def test_octets_with_nul_go_as_literal8_and_whole() -> None:
    async with world().session() as client:
        await rev2(client)
        [line] = await client.ok(b"UID FETCH 1 (BINARY.PEEK[2])")
        head = b"* 1 FETCH (UID 1 BINARY[2] ~{%d}\r\n" % len(NOISE)
        assert line == head + NOISE + b")"
        assert await client.ok(b"FETCH 1 BINARY.SIZE[2]") == [
            b"* 1 FETCH (BINARY.SIZE[2] %d)" % len(NOISE)
        ]


@pytest.mark.parametrize(("offset", "length"), [(0, 10), (65536, 70000), (149_990, 99), (10**6, 5)])
async def test_a_range_is_of_the_decoded_octets(offset: int, length: int) -> None:
    async with world().session() as client:
        await rev2(client)
        [line] = await client.ok(b"FETCH 1 BINARY.PEEK[2]<%d.%d>" % (offset, length))
        octets = NOISE[offset : offset + length]
        mark = b"~" if b"\0" in octets else b""
        head = b"* 1 FETCH (BINARY[2]<%d> %b{%d}\r\n" % (offset, mark, len(octets))
        assert line == head + octets + b")"


async def test_the_whole_message_and_a_multipart_are_as_they_are() -> None:
    async with world().session() as client:
        await rev2(client)
        [line] = await client.ok(b"FETCH 1 BINARY.PEEK[]")
        assert line == b"* 1 FETCH (BINARY[] {%d}\r\n%b)" % (len(TREE), TREE)
        assert await client.ok(b"FETCH 1 BINARY.SIZE[]") == [
            b"* 1 FETCH (BINARY.SIZE[] %d)" % len(TREE)
        ]


async def test_a_part_that_is_not_there_is_nil() -> None:
    async with world().session() as client:
        await rev2(client)
        assert await client.ok(b"FETCH 1 (BINARY.PEEK[9] BINARY.SIZE[9])") == [
            b"* 1 FETCH (BINARY[9] NIL BINARY.SIZE[9] 0)"
        ]


@pytest.mark.parametrize("part", [b"4", b"5"])
async def test_what_cannot_be_decoded_is_unknown_cte(part: bytes) -> None:
    async with world().session() as client:
        await rev2(client)
        for item in (b"BINARY.PEEK[%b]", b"BINARY.SIZE[%b]"):
            [reply] = await client.cmd(b"FETCH 1 " + item % part)
            assert reply.startswith(b"NO [UNKNOWN-CTE] ")
        await client.ok(b"NOOP")


async def test_binary_sets_seen_and_peek_does_not() -> None:
    async with world().session() as client:
        await rev2(client)
        await client.ok(b"FETCH 1 (BINARY.PEEK[3] BINARY.SIZE[3])")
        assert await client.ok(b"FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS ())"]
        [line] = await client.ok(b"FETCH 1 BINARY[3]")
        assert line.startswith(b"* 1 FETCH (FLAGS (\\Seen) BINARY[3] {5}")


def test_a_range_over_pieces() -> None:
    for offset in range(12):
        for length in range(1, 12):
            inside = _Range((offset, length))
            cut = b"".join(inside.cut(piece) for piece in (b"abc", b"", b"d", b"efghij"))
            assert cut == b"abcdefghij"[offset : offset + length]
