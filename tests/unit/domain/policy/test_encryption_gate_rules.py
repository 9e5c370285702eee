"""Every rule of octets, header, MIME, armor, packets: messages that keep it or break it."""

from __future__ import annotations

import pytest

from chatmail.domain.model.message import Door
from chatmail.domain.model.verdict import RefusalReason, Refuse
from tests.builders import make_message, packet, pkesk
from tests.unit.domain.policy.rule_tables import ACCEPTED, REFUSED
from tests.unit.domain.policy.variants import TEXT, with_packets, with_raw
from tests.unit.domain.scanning import outcome, scan, verdict


def check(message: bytes, doors: tuple[Door, ...], expected: str) -> None:
    for door in doors:
        sender = "alice0001@example.org"
        if door.is_inbound:
            message = message.replace(sender.encode(), b"carol@example.net")
        assert outcome(message, door) == expected, door


def table(rows: list) -> list:  # type: ignore[type-arg]
    return [
        pytest.param(
            rule, doors if isinstance(doors, tuple) else (doors,), octets, id=f"{rule}-{at}"
        )
        for at, (rule, doors, octets) in enumerate(rows)
    ]


@pytest.mark.parametrize(("rule", "doors", "message"), table(ACCEPTED))
def test_a_message_that_keeps_the_rule_passes(
    rule: str, doors: tuple[Door, ...], message: bytes
) -> None:
    check(message, doors, "encrypted")


@pytest.mark.parametrize(("rule", "doors", "message"), table(REFUSED))
def test_a_message_that_breaks_the_rule_is_refused(
    rule: str, doors: tuple[Door, ...], message: bytes
) -> None:
    check(message, doors, rule)


def test_the_table_knows_every_rule() -> None:
    rules = [f"P-{n:02}" for n in range(2, 8)] + [f"H-{n:02}" for n in (1, 2, 3, 5, 6)]
    rules += [f"M-{n:02}" for n in range(1, 15)] + [f"A-{n:02}" for n in range(1, 11)]
    rules += [f"O-{n:02}" for n in (1, 2, 4, 5, 7, 8, *range(9, 21))]
    assert set(rules) <= {row[0] for row in REFUSED}


def test_p01_the_limit_itself_is_allowed() -> None:
    message = make_message()
    assert scan(message, max_bytes=len(message)).too_big is False
    facts = scan(message, max_bytes=len(message) - 1)
    assert facts.too_big
    assert facts.size == len(message)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (make_message().replace(b"\r\n", b"\n"), RefusalReason.BAD_LINE),
        (make_message() + b"\0", RefusalReason.BAD_LINE),
        (with_raw(before=b" x\r\n"), RefusalReason.BAD_HEADER),
        (b"From: a@b\r\n", RefusalReason.ENCRYPTION_NEEDED),
        (make_message(encrypted=False), RefusalReason.ENCRYPTION_NEEDED),
    ],
)
def test_reasons_of_the_first_rules(message: bytes, reason: RefusalReason) -> None:
    judged = verdict(message)
    assert isinstance(judged, Refuse)
    assert judged.reason is reason


def test_header_block_of_exactly_64_kib_passes() -> None:
    head = make_message(size=100)
    missing = 65536 - head.index(b"\r\n\r\n") - 4
    count, rest = divmod(missing, 900)
    filler = [f"X-{n:04}: " + "y" * 890 + "\r\n" for n in range(count - 1)]
    filler.append("X: " + "y" * 500 + "\r\n Y" + "z" * (900 + rest - 509) + "\r\n")
    message = "".join(filler).encode() + head
    assert message.index(b"\r\n\r\n") + 4 == 65536
    assert outcome(message) == "encrypted"
    assert outcome(b"X" + message) == "P-04"
    assert outcome(message.replace(b"\r\n\r\n", b"\r\nX:y\r\n\r\n", 1)) == "P-04"


def test_opacity_check_can_be_switched_off() -> None:
    message = with_packets(pkesk() + packet(18, b"\x01" + TEXT))
    assert outcome(message, settings={"opacity_check": False}) == "encrypted"
