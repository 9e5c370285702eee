"""Transactions of the client machine: the envelope, the content, a fate for each recipient."""

from __future__ import annotations

import attrs
import pytest

from chatmail.domain.model.federation import HopFault, RecipientFate
from chatmail.domain.wire.smtp.client_events import READY, SEND_CONTENT, SessionEnd
from tests.unit.domain.wire.smtp.client_dialogue import (
    DELIVERED,
    PERMANENT,
    PIPELINING,
    TEMPORARY,
    Dialogue,
    end_of,
    fates,
    pipelined,
    rcpt,
    transaction,
)


def test_pipelining_sends_the_envelope_at_once() -> None:
    dialogue = Dialogue().open(*PIPELINING)
    assert dialogue.begin(transaction("bob", "carol")) == [
        [
            "MAIL FROM:<alice@relay.example> SIZE=100 BODY=8BITMIME",
            "RCPT TO:<bob@peer.example>",
            "RCPT TO:<carol@peer.example>",
            "DATA",
        ]
    ]
    assert dialogue.hear("250 ok", "250 ok", "251 ok", "354 go") == [SEND_CONTENT]
    dialogue.machine.content_sent()
    happened = dialogue.hear("250 2.0.0 queued as 1")
    assert fates(end_of(happened)) == [
        ("bob", DELIVERED, "250 2.0.0 queued as 1"),
        ("carol", DELIVERED, "250 2.0.0 queued as 1"),
    ]
    assert happened[-1] is READY


def test_without_pipelining_each_command_waits_for_its_reply() -> None:
    dialogue = Dialogue().open()
    assert dialogue.begin(transaction("bob", "carol")) == [["MAIL FROM:<alice@relay.example>"]]
    assert dialogue.hear("250 ok") == [["RCPT TO:<bob@peer.example>"]]
    assert dialogue.hear("550 5.1.1 no") == [["RCPT TO:<carol@peer.example>"]]
    assert dialogue.hear("252 ok") == [["DATA"]]
    assert dialogue.hear("354 go") == [SEND_CONTENT]
    dialogue.machine.content_sent()
    assert fates(end_of(dialogue.hear("250 ok"))) == [
        ("bob", PERMANENT, "550 5.1.1 no"),
        ("carol", DELIVERED, "250 2.0.0 ok"),
    ]


def test_the_null_sender_and_seven_bit_content() -> None:
    dialogue = Dialogue().open(*PIPELINING)
    mail = attrs.evolve(transaction(is_eight_bit=False), reverse_path=None)
    (sent,) = dialogue.begin(mail)
    assert isinstance(sent, list)
    assert sent[0] == "MAIL FROM:<> SIZE=100"


def test_size_above_the_announced_limit_is_refused_here() -> None:
    """A6.2: 5.3.4, and nothing is sent."""
    dialogue = Dialogue().open(*PIPELINING)
    happened = dialogue.begin(transaction("bob", "carol", size=1001))
    assert [fate for _, fate, _ in fates(end_of(happened))] == [PERMANENT] * 2
    assert end_of(happened).outcomes[0].reply.startswith("552 5.3.4 ")
    assert happened[-1] is READY
    assert dialogue.begin(transaction(size=1000))


@pytest.mark.parametrize("size", ["SIZE", "SIZE 0", "SIZE x", "SIZE " + "9" * 30])
def test_no_usable_limit_is_no_limit(size: str) -> None:
    (sent,) = Dialogue().open(size).begin(transaction(size=10**9))
    assert sent == ["MAIL FROM:<alice@relay.example> SIZE=1000000000 BODY=8BITMIME"] or sent == [
        "MAIL FROM:<alice@relay.example> SIZE=1000000000"
    ]


def test_recipients_are_judged_one_by_one() -> None:
    """A6.4."""
    dialogue = pipelined("bob", "carol", "dave", "eve")
    happened = dialogue.hear(
        "250 ok", "250 ok", "550 5.1.1 unknown", "450 4.2.0 later", "252 ok", "354 go"
    )
    assert happened == [SEND_CONTENT]
    dialogue.machine.content_sent()
    assert sorted(fates(end_of(dialogue.hear("250 2.0.0 ok")))) == [
        ("bob", DELIVERED, "250 2.0.0 ok"),
        ("carol", PERMANENT, "550 5.1.1 unknown"),
        ("dave", TEMPORARY, "450 4.2.0 later"),
        ("eve", DELIVERED, "250 2.0.0 ok"),
    ]


@pytest.mark.parametrize(
    "reply", ["452 4.5.3 too many", "452 too many", "552 5.5.3 too many", "451 4.5.3 too many"]
)
def test_too_many_recipients_wait_for_another_transaction(reply: str) -> None:
    """A6.4."""
    dialogue = pipelined("bob", "carol", "dave")
    assert dialogue.hear("250 ok", "250 ok", reply, reply, "354 go") == [SEND_CONTENT]
    dialogue.machine.content_sent()
    end = end_of(dialogue.hear("250 ok"))
    assert [outcome.recipient.local for outcome in end.outcomes] == ["bob"]
    assert end.postponed == (rcpt("carol"), rcpt("dave"))


@pytest.mark.parametrize("reply", ["452 4.5.3 too many", "552 5.5.3 too many"])
def test_too_many_recipients_without_any_is_temporary(reply: str) -> None:
    """Else the same transaction would come again and again."""
    dialogue = pipelined("bob")
    assert dialogue.hear("250 ok", reply, "503 no") == [["RSET"]]
    end = end_of(dialogue.hear("250 ok"))
    assert end.postponed == ()
    assert fates(end) == [("bob", TEMPORARY, "452 4.5.3 too many")]


def test_a_full_mailbox_is_no_reason_for_another_transaction() -> None:
    dialogue = pipelined("bob", "carol")
    dialogue.hear("250 ok", "250 ok", "452 4.2.2 full", "354 go")
    dialogue.machine.content_sent()
    end = end_of(dialogue.hear("250 ok"))
    assert end.postponed == ()
    assert ("carol", TEMPORARY, "452 4.2.2 full") in fates(end)


def test_all_refused_and_data_accepted_all_the_same_gets_a_lone_dot() -> None:
    """A6.4, RFC 2920 §3.1: no content reaches a server without recipients."""
    dialogue = pipelined("bob", "carol")
    assert dialogue.hear("250 ok", "550 5.1.1 a", "450 4.2.0 b", "354 go") == [["."]]
    happened = dialogue.hear("250 2.0.0 queued nothing")
    assert fates(end_of(happened)) == [
        ("bob", PERMANENT, "550 5.1.1 a"),
        ("carol", TEMPORARY, "450 4.2.0 b"),
    ]
    assert happened[-1] is READY


def test_all_refused_without_pipelining_ends_in_a_reset() -> None:
    dialogue = Dialogue().open()
    dialogue.begin(transaction("bob", "carol"))
    dialogue.hear("250 ok")
    assert dialogue.hear("550 5.1.1 a") == [["RCPT TO:<carol@peer.example>"]]
    assert dialogue.hear("550 5.1.1 b") == [["RSET"]]
    happened = dialogue.hear("250 ok")
    assert [fate for _, fate, _ in fates(end_of(happened))] == [PERMANENT] * 2


@pytest.mark.parametrize(("reply", "fate"), [("554 5.7.1 no", PERMANENT), ("451 no", TEMPORARY)])
def test_data_refused_holds_for_those_accepted(reply: str, fate: RecipientFate) -> None:
    dialogue = pipelined("bob", "carol")
    assert dialogue.hear("250 ok", "250 ok", "550 5.1.1 a", reply) == [["RSET"]]
    end = end_of(dialogue.hear("250 ok"))
    assert sorted((name, kind) for name, kind, _ in fates(end)) == [
        ("bob", fate),
        ("carol", PERMANENT),
    ]


@pytest.mark.parametrize(
    ("reply", "fate"),
    [
        ("250 ok", DELIVERED),
        ("451 4.3.0 later", TEMPORARY),
        ("554 5.7.1 no", PERMANENT),
        ("421 4.3.2 closing", TEMPORARY),
    ],
)
def test_the_verdict_holds_for_those_accepted(reply: str, fate: RecipientFate) -> None:
    dialogue = pipelined("bob", "carol")
    dialogue.hear("250 ok", "250 ok", "550 5.1.1 a", "354 go")
    dialogue.machine.content_sent()
    end = end_of(dialogue.hear(reply))
    assert sorted((name, kind) for name, kind, _ in fates(end)) == [
        ("bob", fate),
        ("carol", PERMANENT),
    ]


@pytest.mark.parametrize(
    ("reply", "fault", "line"),
    [
        ("550 5.7.1 not you", HopFault.BROKEN, "550 5.7.1 not you"),
        ("552 5.2.2 full", HopFault.BROKEN, "552 5.2.2 full"),
    ],
)
def test_a_refused_sender_ends_the_session(reply: str, fault: HopFault, line: str) -> None:
    """A6.8."""
    (end,) = pipelined("bob").hear(reply, "503 no", "503 no")
    assert end == SessionEnd(fault, line)


def test_a_sender_to_come_again_is_a_word_on_the_message() -> None:
    """A6.8: the next host is tried; the peer is there all the same."""
    happened = pipelined("bob", "carol").hear("451 4.7.1 greylisted", "503 no", "503 no")
    assert fates(end_of(happened)) == [
        ("bob", TEMPORARY, "451 4.7.1 greylisted"),
        ("carol", TEMPORARY, "451 4.7.1 greylisted"),
    ]
    assert isinstance(happened[-1], SessionEnd)


@pytest.mark.parametrize("reply", ["552 5.3.4 too big", "552 Message size exceeds limit"])
def test_a_size_refused_at_mail_is_permanent(reply: str) -> None:
    happened = pipelined("bob").hear(reply, "503 no", "503 no")
    ((name, fate, line),) = fates(end_of(happened))
    assert (name, fate, line[:9]) == ("bob", PERMANENT, "552 5.3.4")
    assert isinstance(happened[-1], SessionEnd)
