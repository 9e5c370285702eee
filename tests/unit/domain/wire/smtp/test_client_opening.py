"""The client machine until the first transaction: greeting, hello, STARTTLS."""

from __future__ import annotations

import pytest

from chatmail.domain.model.federation import HopFault
from chatmail.domain.wire.smtp.client_events import READY, UPGRADE, Phase, SessionEnd, TlsUse
from tests.unit.domain.wire.smtp.client_dialogue import Dialogue, transaction


def test_greeting_and_hello() -> None:
    dialogue = Dialogue()
    assert dialogue.hear("220-peer.example", "220 ready") == [["EHLO relay.example"]]
    assert dialogue.hear("250-peer.example", "250 PIPELINING") == [READY]


def test_tls_is_begun_and_everything_said_before_is_forgotten() -> None:
    """A6.2: a second EHLO; capabilities of the first are void."""
    dialogue = Dialogue(TlsUse.REQUIRED)
    dialogue.hear("220 peer.example")
    assert dialogue.hear("250-peer.example", "250-SIZE 5", "250 STARTTLS") == [["STARTTLS"]]
    assert dialogue.hear("220 go") == [UPGRADE]
    dialogue.machine.tls_started()
    assert dialogue.hear() == [["EHLO relay.example"]]
    assert dialogue.hear("250 peer.example") == [READY]
    assert dialogue.begin(transaction(size=100)) == [["MAIL FROM:<alice@relay.example>"]]


def test_octets_in_clear_behind_starttls_are_thrown_away() -> None:
    """A6.1: response injection."""
    dialogue = Dialogue(TlsUse.REQUIRED)
    dialogue.hear("220 peer.example", "250-peer.example", "250 STARTTLS")
    assert dialogue.hear("220 go", "250-evil", "250 SIZE 1") == [UPGRADE]
    dialogue.machine.receive_data(b"250-more evil\r\n")
    dialogue.machine.tls_started()
    assert dialogue.hear() == [["EHLO relay.example"]]
    assert dialogue.hear("250 peer.example") == [READY]


def test_no_starttls_where_tls_is_required() -> None:
    """A6.1: temporary 4.7.4, and not a word of the message."""
    dialogue = Dialogue(TlsUse.REQUIRED)
    dialogue.hear("220 peer.example")
    (end,) = dialogue.hear("250 peer.example")
    assert isinstance(end, SessionEnd)
    assert (end.fault, end.reply[:9]) == (HopFault.TLS, "454 4.7.4")


@pytest.mark.parametrize("reply", ["454 4.7.0 TLS not available", "500 what", "250 fine"])
def test_refused_starttls_where_tls_is_required(reply: str) -> None:
    dialogue = Dialogue(TlsUse.REQUIRED)
    dialogue.hear("220 peer.example", "250-peer.example", "250 STARTTLS")
    (end,) = dialogue.hear(reply)
    assert isinstance(end, SessionEnd)
    assert (end.fault, end.reply[:9]) == (HopFault.TLS, "454 4.7.4")


def test_optional_tls_is_used_when_offered_and_else_not() -> None:
    assert Dialogue(TlsUse.WHEN_OFFERED).open().machine.phase is Phase.READY
    dialogue = Dialogue(TlsUse.WHEN_OFFERED)
    dialogue.hear("220 peer.example")
    assert dialogue.hear("250-peer.example", "250 STARTTLS") == [["STARTTLS"]]
    assert dialogue.hear("454 4.7.0 not now") == [READY]


def test_optional_tls_falls_back_to_helo() -> None:
    dialogue = Dialogue(TlsUse.WHEN_OFFERED)
    dialogue.hear("220 peer.example")
    assert dialogue.hear("502 5.5.1 what") == [["HELO relay.example"]]
    assert dialogue.hear("250 peer.example") == [READY]


@pytest.mark.parametrize(
    ("lines", "fault", "reply"),
    [
        pytest.param(["554 5.7.1 go away"], HopFault.BROKEN, "554 5.7.1 go away", id="banner"),
        pytest.param(["450 later"], HopFault.BUSY, "450 4.0.0 later", id="banner-later"),
        pytest.param(["421 4.3.2 busy"], HopFault.BUSY, "421 4.3.2 busy", id="banner-421"),
        pytest.param(["220 x", "550 no"], HopFault.BROKEN, "550 5.0.0 no", id="ehlo"),
        pytest.param(["220 x", "450 no"], HopFault.BUSY, "450 4.0.0 no", id="ehlo-later"),
        pytest.param(["220 x", "354 no"], HopFault.BROKEN, "451 4.5.0", id="ehlo-nonsense"),
        pytest.param(["SSH-2.0-x"], HopFault.BROKEN, "451 4.5.0", id="not-smtp"),
        pytest.param(["220 x", "250 x", "250 y"], HopFault.BROKEN, "451 4.5.0", id="unasked"),
    ],
)
def test_refused_sessions(lines: list[str], fault: HopFault, reply: str) -> None:
    """A6.8: who asks reads the code: 5xx of banner and EHLO is BROKEN with 5xx."""
    tls = TlsUse.NEVER if lines[-1] == "250 y" else TlsUse.REQUIRED
    dialogue = Dialogue(tls)
    end = dialogue.hear(*lines)[-1]
    assert isinstance(end, SessionEnd)
    assert end.fault is fault
    assert end.reply.startswith(reply)
