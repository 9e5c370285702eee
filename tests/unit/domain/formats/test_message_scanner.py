"""The scanner as a whole: it never raises, cuts do not matter, a second parser agrees."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatmail.domain.formats.facts import MessageFacts
from chatmail.domain.formats.message_scanner import LineCheck, MessageScanner
from chatmail.domain.formats.openpgp import PacketWalker
from chatmail.domain.model.message import Door
from tests.builders import (
    BOUNDARY,
    CONTROL_PART,
    armor,
    delivery_report,
    encrypted_body,
    make_message,
    mpi,
    multipart,
    noise,
    old_packet,
    packet,
    packets,
    payload_part,
    pkesk,
    pkesk_body,
    rsa_data,
    securejoin_request,
    seipd,
    setup_message,
    skesk4_body,
    skesk6_body,
    wrap,
)
from tests.unit.domain.scanning import cut, scan
from tests.unit.domain.strict_packets import Bad, read_packets
from tests.unit.domain.strict_parser import accepts


def transferred(octets: bytes, encoding: str) -> bytes:
    fields = ("Content-Type: application/octet-stream", f"Content-Transfer-Encoding: {encoding}")
    return make_message(body=multipart(CONTROL_PART, payload_part(octets, *fields)))


ECDH = mpi(b"\x40" + noise(32)) + b"\x30" + noise(48)
SEEDS = (
    make_message(size=120),
    make_message(body=encrypted_body(armor(packet(3, skesk6_body()) + seipd(60, 2)))),
    make_message(
        body=encrypted_body(
            armor(
                packet(3, skesk4_body()) + seipd(5000, length="partial"),
                checksum=False,
                headers=b"Version: x\r\n",
            )
        )
    ),
    transferred(wrap(armor(packets(100)), 76), "base64"),
    transferred(armor(packets(100)).replace(b"=", b"=3D"), "quoted-printable"),
    make_message(
        body=encrypted_body(
            armor(old_packet(1, pkesk_body(3, 1, rsa_data())) + seipd(90), blank=b"")
        )
    ),
    make_message(
        body=encrypted_body(armor(pkesk(6) + pkesk(6, 18, ECDH) + seipd(60, 2), width=76))
    ),
)
FORMS = (securejoin_request(), securejoin_request(flat=True), delivery_report(), setup_message())
SCRAPS = (
    b"\r\n", b"--", b"=", b" ", b"\t", b"\r\n\r\n", b":", b";", b'"', b"A", b"=\r\n", b"\x80",
    b"--" + BOUNDARY.encode(), b"\r\n--" + BOUNDARY.encode() + b"--", b"\r", b"\n", b"\0",
    b"-----END PGP MESSAGE-----\r\n", b"X: y\r\n", b"AAAA\r\n", b"Content-Type: text/plain\r\n",
)  # fmt: skip
CUTS = (1, 1, 2, 3, 7, 64, 65, 66, 500)


def mutate(chance: random.Random, octets: bytes) -> bytes:
    """Change a few octets, lines or pieces."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at, what = chance.randrange(len(octets) + 1), chance.randrange(6)
        if what == 0:
            octets = octets[:at] + bytes([chance.randrange(256)]) + octets[at + 1 :]
        elif what == 1:
            octets = octets[:at] + octets[at + chance.choice((1, 1, 2, 4, 30)) :]
        elif what == 2:
            octets = octets[:at] + chance.choice(SCRAPS) + octets[at:]
        elif what == 3:
            octets = mutate_line(chance, octets)
        elif what == 4 and chance.random() < 0.2:
            octets = octets[:at]
        else:
            start = chance.randrange(len(octets) + 1)
            octets = octets[:at] + octets[start : start + chance.choice((4, 20, 66))] + octets[at:]
    return octets


def mutate_line(chance: random.Random, octets: bytes) -> bytes:
    lines = octets.split(b"\r\n")
    at, what = chance.randrange(len(lines)), chance.randrange(3)
    if what == 0:
        lines.insert(at, lines[at])
    elif what == 1:
        del lines[at]
    else:
        lines[at] += chance.choice((b" ", b"\t", b"=", b"x"))
    return b"\r\n".join(lines)


def is_accepted(facts: MessageFacts, door: Door) -> bool:
    return facts.structure.at(door) is None and facts.header_fault.at(door) is None


def random_cuts(chance: random.Random) -> list[int]:
    return [chance.choice(CUTS) for _ in range(300)]


@pytest.mark.parametrize("message", SEEDS)
def test_seeds_are_accepted_by_both_parsers(message: bytes) -> None:
    assert is_accepted(scan(message), Door.SMTP_INBOUND)
    assert accepts(message, inbound=True)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**64))
def test_mutated_messages_are_judged_as_the_second_parser_does(seed: int) -> None:
    chance = random.Random(seed)
    message = mutate(chance, chance.choice(SEEDS))
    facts = scan(message)
    assert scan(message, random_cuts(chance)) == facts
    assert is_accepted(facts, Door.SUBMISSION) == accepts(message, inbound=False)
    assert is_accepted(facts, Door.SMTP_INBOUND) == accepts(message, inbound=True)
    if is_accepted(facts, Door.SUBMISSION):
        assert is_accepted(facts, Door.SMTP_INBOUND)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**64))
def test_mutated_packets_are_judged_as_the_second_parser_does(seed: int) -> None:
    chance = random.Random(seed)
    octets = mutate(chance, chance.choice(PACKETS))
    walker = PacketWalker()
    walker.feed(octets)
    fault = walker.finish()
    try:
        read_packets(octets)
    except Bad:
        assert fault is not None
    else:
        assert fault is None
    pieces = PacketWalker()
    for piece in cut(octets, random_cuts(chance)):
        pieces.feed(piece)
    assert pieces.finish() == fault
    assert pieces.is_transparent() == walker.is_transparent()


PACKETS = (
    packets(50),
    packet(3, skesk6_body(b"\x04" + noise(19), aead=1), length="five") + seipd(40, 2),
    packet(3, skesk4_body()) + pkesk() + seipd(5000, length="partial"),
    old_packet(1, pkesk_body(3, 1, rsa_data(512))) + seipd(60, length="five"),
    pkesk(6) + pkesk(6, 18, ECDH) + seipd(60, 2),
    pkesk(3, 16, rsa_data(700) + rsa_data(701)) + seipd(60),
    pkesk() + b"\xd2\xea\x01" + noise(1023) + b"\xe3" + noise(8) + b"\xe0a\x05" + noise(5),
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**64))
def test_cuts_do_not_matter_for_the_plaintext_forms(seed: int) -> None:
    chance = random.Random(seed)
    message = chance.choice(FORMS)
    message = mutate(chance, message) if chance.random() < 0.8 else message
    assert scan(message, random_cuts(chance)) == scan(message)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 20), max_size=20))
def test_any_octets_give_facts(octets: bytes, sizes: list[int]) -> None:
    assert scan(octets, sizes) == scan(octets)


@pytest.mark.parametrize("message", [*SEEDS, *FORMS])
def test_octet_by_octet(message: bytes) -> None:
    assert scan(message, [1] * len(message)) == scan(message)


def test_large_message_in_chunks() -> None:
    message = make_message(size=300_000)
    facts = scan(message, [65536] * 10)
    assert is_accepted(facts, Door.SUBMISSION)
    assert not facts.is_transparent
    assert facts == scan(message, [1000] * 500)


def test_nothing_large_is_kept() -> None:
    # Everything the scanner holds is bounded by what it may hold, whatever the size of the message.
    scanner = MessageScanner(max_bytes=2**30)
    message = make_message(size=3_000_000)
    for chunk in cut(message, [65536] * 80):
        scanner.feed(memoryview(chunk))
    assert retained(scanner) < 300_000
    assert is_accepted(scanner.finish(), Door.SUBMISSION)


def retained(thing: object, seen: set[int] | None = None) -> int:
    """Count the octets that are reachable from an object of ours."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if isinstance(thing, bytes | bytearray):
        return len(thing)
    if isinstance(thing, list | tuple | set | frozenset):
        return sum(retained(item, seen) for item in thing)
    return (
        sum(retained(item, seen) for item in vars(thing).values())
        if hasattr(thing, "__dict__")
        else 0
    )


def test_large_plain_text_is_not_kept() -> None:
    scanner = MessageScanner(max_bytes=2**30)
    scanner.feed(make_message(encrypted=False, text="hello"))
    for _ in range(10):
        scanner.feed(b"hello\r\n" * 8000)
    assert retained(scanner) < 10_000
    assert scanner.finish().structure.strict == "M-01"


def test_size_and_header_are_known_while_it_arrives() -> None:
    message = make_message()
    end = message.index(b"\r\n\r\n") + 4
    scanner = MessageScanner(max_bytes=10_000)
    scanner.feed(message[: end - 1])
    assert scanner.header is None
    assert scanner.size == end - 1
    scanner.feed(message[end - 1 :])
    assert scanner.header == message[:end]
    assert scanner.size == len(message)


def test_beyond_the_limit_octets_are_only_counted() -> None:
    facts = scan(b"\0\r\n" * 100, max_bytes=10)
    assert facts == MessageFacts(size=300, too_big=True, structure=facts.structure)


def test_message_that_is_only_a_header() -> None:
    facts = scan(make_message(body=b""))
    assert facts.structure.strict == "M-06"
    assert scan(b"\r\n").header == b"\r\n"


@given(st.text(alphabet="\r\n\0a", max_size=30), st.lists(st.integers(0, 3), max_size=30))
def test_lines_are_checked_across_cuts(text: str, sizes: list[int]) -> None:
    octets = text.encode()
    check = LineCheck()
    for chunk in cut(octets, sizes):
        if chunk:
            check.feed(chunk)
    check.finish()
    rest = octets.replace(b"\r\n", b"")
    assert check.is_bare == (b"\r" in rest or b"\n" in rest)
    assert check.has_nul == (b"\0" in octets)
