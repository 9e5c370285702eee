"""How sessions of the client machine end, and how kept ones go on."""

from __future__ import annotations

import pytest

from chatmail.domain.model.errors import LocalProtocolError
from chatmail.domain.model.federation import HopFault
from chatmail.domain.wire.smtp.client import SmtpClient
from chatmail.domain.wire.smtp.client_events import SEND_CONTENT, Phase, SessionEnd, TlsUse
from tests.unit.domain.wire.smtp.client_dialogue import (
    PERMANENT,
    delivered,
    fates,
    pipelined,
    transaction,
)


@pytest.mark.parametrize("count", range(5))
def test_421_ends_the_session_wherever_it_comes(count: int) -> None:
    """A6.5."""
    replies = ["250 ok", "250 ok", "550 5.1.1 a", "354 go"][:count]
    dialogue = pipelined("bob", "carol")
    end = dialogue.hear(*replies, "421 4.3.2 bye")[-1]
    assert isinstance(end, SessionEnd)
    assert (end.fault, end.reply) == (HopFault.BUSY, "421 4.3.2 bye")
    assert fates(end) == ([("carol", PERMANENT, "550 5.1.1 a")] if count >= 3 else [])


def test_a_loss_before_the_content_is_not_ambiguous() -> None:
    dialogue = pipelined("bob", "carol")
    dialogue.hear("250 ok", "250 ok", "550 5.1.1 a")
    end = dialogue.lose()
    assert end.fault is HopFault.BROKEN
    assert fates(end) == [("carol", PERMANENT, "550 5.1.1 a")]
    assert dialogue.machine.next_event() == end


def test_a_loss_amid_the_content_is_not_ambiguous() -> None:
    dialogue = pipelined("bob")
    dialogue.hear("250 ok", "250 ok", "354 go")
    assert dialogue.lose().fault is HopFault.BROKEN


@pytest.mark.parametrize("how", ["eof", "timeout", "nonsense", "strange"])
def test_a_loss_after_the_content_is_ambiguous(how: str) -> None:
    """A3.4: the message may have arrived."""
    dialogue = pipelined("bob", "carol")
    dialogue.hear("250 ok", "250 ok", "550 5.1.1 a", "354 go")
    dialogue.machine.content_sent()
    match how:
        case "eof":
            dialogue.machine.receive_eof()
        case "timeout":
            dialogue.machine.time_out()
        case "nonsense":
            dialogue.machine.receive_data(b"HTTP/1.1 200 OK\r\n")
        case _:
            dialogue.machine.receive_data(b"354 again\r\n")
    (end,) = dialogue.hear()
    assert isinstance(end, SessionEnd)
    assert end.fault is HopFault.AMBIGUOUS
    assert fates(end) == [("carol", PERMANENT, "550 5.1.1 a")]


def test_silence_is_told_from_a_loss() -> None:
    dialogue = pipelined("bob")
    dialogue.machine.time_out()
    (end,) = dialogue.hear()
    assert isinstance(end, SessionEnd)
    assert (end.fault, end.reply) == (HopFault.BROKEN, "451 4.4.2 Timed out")


@pytest.mark.parametrize(
    "replies",
    [
        pytest.param(["354 go"], id="mail"),
        pytest.param(["250 ok", "354 go"], id="rcpt"),
        pytest.param(["250 ok", "550 no", "250 ok"], id="data"),
        pytest.param(["250 ok", "550 no", "503 no", "550 no"], id="reset"),
    ],
)
def test_replies_that_fit_no_command_end_the_session(replies: list[str]) -> None:
    end = pipelined("bob").hear(*replies)[-1]
    assert isinstance(end, SessionEnd)
    assert (end.fault, end.reply[:9]) == (HopFault.BROKEN, "451 4.5.0")


def test_a_kept_session_begins_with_a_reset() -> None:
    """A6.7."""
    dialogue = delivered()
    (sent,) = dialogue.begin(transaction("carol"), with_reset=True)
    assert isinstance(sent, list)
    assert [line.partition(" ")[0] for line in sent] == ["RSET", "MAIL", "RCPT", "DATA"]
    assert dialogue.hear("250 ok") == []
    assert dialogue.machine.is_pristine
    assert dialogue.hear("250 ok") == []
    assert not dialogue.machine.is_pristine
    assert dialogue.hear("250 ok", "354 go") == [SEND_CONTENT]
    assert dialogue.machine.transactions == 2


@pytest.mark.parametrize("how", ["eof", "421", "refused"])
def test_a_kept_session_that_is_over_says_so(how: str) -> None:
    dialogue = delivered()
    dialogue.begin(transaction("carol"), with_reset=True)
    if how == "eof":
        dialogue.lose()
    elif how == "refused":
        dialogue.hear("250 ok", "451 4.7.0 enough messages")
    else:
        dialogue.hear("421 4.4.2 idle for too long")
    assert dialogue.machine.is_pristine


def test_a_second_transaction_needs_no_reset() -> None:
    dialogue = delivered()
    (sent,) = dialogue.begin(transaction("carol"))
    assert isinstance(sent, list)
    assert sent[0].startswith("MAIL")


def test_goodbye() -> None:
    dialogue = delivered()
    assert dialogue.machine.quit() == b"QUIT\r\n"
    assert dialogue.machine.phase is Phase.CLOSED


def test_misuse_is_told() -> None:
    machine = SmtpClient("relay.example", TlsUse.NEVER)
    for call in (machine.tls_started, machine.content_sent, lambda: machine.begin(transaction())):
        with pytest.raises(LocalProtocolError):
            call()
