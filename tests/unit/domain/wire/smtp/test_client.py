from __future__ import annotations

import itertools
from collections.abc import Iterator

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import LocalProtocolError
from chatmail.domain.model.federation import HopFault, RecipientFate
from chatmail.domain.wire.smtp.client import SmtpClient
from chatmail.domain.wire.smtp.client_events import (
    NEED_DATA,
    READY,
    SEND_CONTENT,
    UPGRADE,
    ClientEvent,
    Phase,
    Send,
    SessionEnd,
    TlsUse,
    Transaction,
    TransactionEnd,
)

DELIVERED, TEMPORARY, PERMANENT = RecipientFate
ALICE = EmailAddress("alice", "relay.example")


def rcpt(name: str) -> EmailAddress:
    return EmailAddress(name, "peer.example")


def transaction(*names: str, size: int = 100, is_eight_bit: bool = True) -> Transaction:
    return Transaction(
        reverse_path=ALICE,
        recipients=tuple(map(rcpt, names or ("bob",))),
        size=size,
        is_eight_bit=is_eight_bit,
    )


class Dialogue:
    """A machine and what it did: `C:` lines sent, names of signals, ends."""

    def __init__(self, tls: TlsUse = TlsUse.NEVER) -> None:
        self.machine = SmtpClient("relay.example", tls)
        self.events: list[ClientEvent] = []

    def hear(self, *lines: str) -> list[object]:
        """Give the server's lines; return what happened, `Send` as lists of lines."""
        if lines:
            self.machine.receive_data("".join(line + "\r\n" for line in lines).encode("latin-1"))
        happened: list[object] = []
        for event in self.run():
            happened.append(
                event.octets.decode().splitlines() if isinstance(event, Send) else event
            )
        return happened

    def run(self) -> Iterator[ClientEvent]:
        while (event := self.machine.next_event()) is not NEED_DATA:
            yield event
            if isinstance(event, SessionEnd):
                return

    def open(self, *capabilities: str) -> Dialogue:
        self.hear("220 peer.example ready")
        last = ["250-peer.example", *(f"250-{name}" for name in capabilities), "250 HELP"]
        assert self.hear(*last)[-1] is READY
        return self

    def begin(self, what: Transaction, *, with_reset: bool = False) -> list[object]:
        self.machine.begin(what, with_reset=with_reset)
        return self.hear()

    def lose(self) -> SessionEnd:
        self.machine.receive_eof()
        end = self.machine.next_event()
        assert isinstance(end, SessionEnd)
        return end


PIPELINING = ("PIPELINING", "SIZE 1000", "8BITMIME")


def pipelined(*names: str) -> Dialogue:
    dialogue = Dialogue().open(*PIPELINING)
    dialogue.begin(transaction(*names))
    return dialogue


def end_of(happened: list[object]) -> TransactionEnd:
    (end,) = [event for event in happened if isinstance(event, TransactionEnd)]
    return end


def fates(end: TransactionEnd | SessionEnd) -> list[tuple[str, RecipientFate, str]]:
    return [(outcome.recipient.local, outcome.fate, outcome.reply) for outcome in end.outcomes]


# --- the opening ---------------------------------------------------------------------------------


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


# --- transactions --------------------------------------------------------------------------------


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


# --- ends ----------------------------------------------------------------------------------------


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


# --- kept sessions -------------------------------------------------------------------------------


def delivered() -> Dialogue:
    dialogue = pipelined("bob")
    dialogue.hear("250 ok", "250 ok", "354 go")
    dialogue.machine.content_sent()
    dialogue.hear("250 ok")
    return dialogue


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


# --- properties ----------------------------------------------------------------------------------

SERVER = (
    b"220 peer.example\r\n250-peer.example\r\n250-SIZE 10000\r\n250 PIPELINING\r\n"
    b"250 ok\r\n250 ok\r\n550-5.1.1 no\r\n550 5.1.1 user\r\n354 go\r\n250 2.0.0 done\r\n"
)


def play(pieces: list[bytes], tls: TlsUse = TlsUse.NEVER) -> list[object]:
    """Drive a machine like a shell would; content is sent as soon as it is asked for."""
    machine = SmtpClient("relay.example", tls)
    story: list[object] = []

    def run() -> bool:
        while (event := machine.next_event()) is not NEED_DATA:
            if isinstance(event, SessionEnd):
                story.append(event)
                return False
            story.append(event)
            if event is READY and machine.transactions < 2 and machine.phase is Phase.READY:
                machine.begin(transaction("bob", "carol"), with_reset=machine.transactions > 0)
            elif event is SEND_CONTENT:
                machine.content_sent()
            elif event is UPGRADE:
                machine.tls_started()
        return True

    if not run():
        return story
    for piece in pieces:
        machine.receive_data(piece)
        if not run():
            return story
    machine.receive_eof()
    run()
    return story


def cut(octets: bytes, where: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(octets) + 1) for place in where), len(octets)]
    return [octets[a:b] for a, b in itertools.pairwise(bounds) if a < b]


@given(st.lists(st.integers(0, 500), max_size=8))
def test_cuts_change_nothing(where: list[int]) -> None:
    assert play(cut(SERVER, where)) == play([SERVER])


LINES = st.sampled_from(
    [
        *(text.encode() + b" x\r\n" for text in ["220", "250", "354", "421", "450", "452", "550"]),
        *(b"250-x\r\n", b"250 PIPELINING\r\n", b"250 STARTTLS\r\n", b"x\r\n", b"\xff\0\n", SERVER),
    ]
)


@given(
    st.lists(LINES | st.binary(max_size=5), max_size=14),
    st.lists(st.integers(0, 500), max_size=4),
    st.sampled_from(TlsUse),
)
def test_any_server_leads_to_events_and_no_exception(
    parts: list[bytes], where: list[int], tls: TlsUse
) -> None:
    octets = b"".join(parts)
    story = play(cut(octets, where), tls)
    assert story == play([octets] if octets else [], tls) or tls is not TlsUse.NEVER
    assert isinstance(story[-1], SessionEnd)
    for event in story:
        if isinstance(event, TransactionEnd):
            named = {o.recipient for o in event.outcomes} | set(event.postponed)
            assert named == {rcpt("bob"), rcpt("carol")}
            assert len(event.outcomes) + len(event.postponed) == 2
        if isinstance(event, TransactionEnd | SessionEnd):
            delivered = [o for o in event.outcomes if o.fate is DELIVERED]
            assert all(o.reply.startswith("2") for o in delivered)
