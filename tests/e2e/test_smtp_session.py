"""The SMTP dialogue on all faces: capabilities, TLS, login, sequence, pipelining, errors."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from tests.e2e import wire
from tests.e2e.configured import running
from tests.e2e.mailbox import await_messages, count, messages, newcomer
from tests.e2e.rawsmtp import RawSmtp, plain, submitter
from tests.e2e.relay import Relay

FACES = ("submissions", "submission", "https", "smtp")
SUBMISSION = FACES[:3]


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    with running(tmp_path_factory.mktemp("session")) as relay:
        yield relay


@pytest.fixture(scope="module")
def alice(relay: Relay) -> tuple[str, str]:
    return newcomer(relay)


@pytest.fixture(scope="module", autouse=True)
def patient(relay: Relay, alice: tuple[str, str]) -> Iterator[RawSmtp]:
    """A session that did one transaction before all other tests of this module."""
    with submitter(relay, alice) as client:
        reply = client.submit(alice[0], [alice[0]], wire.encrypted(alice[0])[1])
        assert reply.code == 250
        yield client


# --- greeting, EHLO, TLS -------------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
def test_capabilities_are_exact_before_and_after_tls(relay: Relay, face: str) -> None:
    with RawSmtp(relay, face, greeted=False) as client:
        greeting = client.reply()
        assert greeting.whole == "220 127.0.0.1 ESMTP"
        common = ("127.0.0.1", "PIPELINING", "SIZE 31457280")
        ending = ("ENHANCEDSTATUSCODES", "8BITMIME")
        if face in ("submission", "smtp"):
            assert client.ehlo().lines == (*common, "STARTTLS", *ending)
            client.starttls()
        login = () if face == "smtp" else ("AUTH PLAIN LOGIN",)
        assert client.ehlo().lines == (*common, *login, *ending)
        assert client.command("STARTTLS").whole == "503 5.5.1 TLS already active"
        assert client.command("QUIT").whole == "221 2.0.0 Bye"
        assert client.is_closed()


def test_secrets_and_mail_wait_for_tls(relay: Relay, alice: tuple[str, str]) -> None:
    tls_first = "530 5.7.0 Must issue a STARTTLS command first"
    with RawSmtp(relay, "submission") as client:
        client.ehlo()
        assert client.command(b"AUTH PLAIN " + plain(*alice)).whole == tls_first
        assert client.command(f"MAIL FROM:<{alice[0]}>").whole == tls_first
    with RawSmtp(relay, "smtp") as client:
        client.ehlo()
        assert client.command(b"AUTH PLAIN " + plain(*alice)).code == 502
        assert client.command("MAIL FROM:<x@example.net>").whole == tls_first
        client.starttls()
        client.ehlo()
        assert client.command(b"AUTH PLAIN " + plain(*alice)).code == 502
        assert client.command("STARTTLS now").whole == "501 5.5.4 Syntax error in argument"


@pytest.mark.parametrize("face", SUBMISSION)
def test_mail_waits_for_login(relay: Relay, alice: tuple[str, str], face: str) -> None:
    with RawSmtp(relay, face).secure() as client:
        assert client.command(f"MAIL FROM:<{alice[0]}>").code == 530
        assert client.command(b"AUTH PLAIN " + plain(*alice)).code == 235
        assert client.command(f"MAIL FROM:<{alice[0]}>").code == 250


@pytest.mark.parametrize("face", ["submission", "smtp"])
@pytest.mark.parametrize(
    "behind", [b"EHLO injected\r\n", b"RSET\r\n", b"MAIL FROM:<a@b.c>\r\n", b"x"]
)
def test_cleartext_behind_starttls_closes_without_a_word(
    relay: Relay, face: str, behind: bytes
) -> None:
    with RawSmtp(relay, face) as client:
        client.ehlo()
        client.send(b"STARTTLS\r\n" + behind)
        assert client.is_closed()


def test_login_behind_starttls_is_not_carried_over(relay: Relay, alice: tuple[str, str]) -> None:
    with RawSmtp(relay, "submission") as client:
        client.send(b"EHLO x\r\nSTARTTLS\r\nAUTH PLAIN " + plain(*alice) + b"\r\n")
        assert client.is_closed()


def test_tls_forgets_the_greeting_and_greets_no_second_time(relay: Relay) -> None:
    with RawSmtp(relay, "submission") as client:
        client.ehlo()
        client.starttls()
        assert client.command("NOOP").code == 250, "the first line after TLS is our own reply"
        assert client.command("AUTH PLAIN AAAA").whole == "503 5.5.1 Send EHLO first"


# --- login ---------------------------------------------------------------------------------------


def test_every_way_to_log_in(relay: Relay, alice: tuple[str, str]) -> None:
    user, secret = (base64.b64encode(text.encode()) for text in alice)
    with RawSmtp(relay).secure() as client:
        client.send(b"AUTH PLAIN\r\n")
        assert client.line() == b"334 \r\n"
        assert client.command(plain(*alice)).whole == "235 2.7.0 Authentication successful"
        assert client.command(b"AUTH PLAIN " + plain(*alice)).code == 503
    with RawSmtp(relay).secure() as client:
        assert client.command("AUTH LOGIN").whole == f"334 {_encoded('Username:')}"
        assert client.command(user).whole == f"334 {_encoded('Password:')}"
        assert client.command(secret).code == 235
    with RawSmtp(relay).secure() as client:
        assert client.command(b"AUTH LOGIN " + user).whole == f"334 {_encoded('Password:')}"
        assert client.command(secret).code == 235
    with RawSmtp(relay).secure() as client:
        assert client.command(b"AUTH PLAIN " + plain(*alice, authzid=alice[0])).code == 235


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_broken_logins_are_answered_and_leave_the_session(
    relay: Relay, alice: tuple[str, str]
) -> None:
    with RawSmtp(relay).secure() as client:
        assert client.command("AUTH PLAIN !!!").whole == "501 5.5.2 Cannot decode base64"
        assert client.command("AUTH XOAUTH2 abcd").code == 504
        client.send(b"AUTH PLAIN\r\n*\r\n")
        assert client.line() == b"334 \r\n"
        assert client.reply().code == 501
        client.send(b"AUTH PLAIN\r\n" + b"A" * 12300 + b"\r\n")
        assert client.line() == b"334 \r\n"
        assert client.reply().code == 500
        other = plain(*alice, authzid="somebody1@[127.0.0.1]")
        refused = "535 5.7.8 Error: authentication failed: Invalid credentials"
        assert client.command(b"AUTH PLAIN " + other).whole == refused
        assert client.command(b"AUTH PLAIN " + plain(*alice)).code == 235


# --- sequence and syntax -------------------------------------------------------------------------


def test_commands_out_of_place(relay: Relay, alice: tuple[str, str]) -> None:
    with submitter(relay, alice) as client:
        assert client.command(f"RCPT TO:<{alice[0]}>").code == 503
        assert client.command("DATA").code == 503
        assert client.command(f"MAIL FROM:<{alice[0]}>").code == 250
        assert client.command(f"MAIL FROM:<{alice[0]}>").code == 503
        assert client.command(b"AUTH PLAIN " + plain(*alice)).code == 503
        assert client.command("DATA").whole == "554 5.5.1 No valid recipients"
        assert client.command(f"RCPT TO:<{alice[0]}>").code == 250
        assert client.command("RSET").whole == "250 2.0.0 Ok"
        assert client.command("DATA").code == 503
        assert client.command(f"MAIL FROM:<{alice[0]}>").code == 250
        assert client.ehlo().code == 250
        assert client.command(f"RCPT TO:<{alice[0]}>").code == 503, "EHLO is RSET"
        assert client.command("HELP").code == 214
        assert client.command("EXPN list").code == 502
        assert client.command("FLY away").code == 500


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("<a@b", "501 5.1.7"),
        ("<noat>", "501 5.1.7"),
        (f"<{'x' * 65}@example.org>", "501 5.1.7"),
        (f"<x@{'y' * 250}.org>", "501 5.1.7"),
        ("<a@b.c> FUNNY=1", "555 5.5.4"),
        ("<a@b.c> SIZE=31457281", "552 5.3.4"),
        ("<a@b.c> SIZE=x", "501 5.5.4"),
        ("<a@b.c> SIZE=31457280 BODY=8BITMIME AUTH=<>", "250 2.1.0"),
        ("<> BODY=7BIT", "250 2.1.0"),
        ("<@one.example,@two.example:a@b.c>", "250 2.1.0"),
    ],
)
def test_forms_of_mail(relay: Relay, alice: tuple[str, str], path: str, expected: str) -> None:
    with submitter(relay, alice) as client:
        assert client.command(f"MAIL FROM:{path}").whole.startswith(expected)


def test_forms_of_rcpt(relay: Relay, alice: tuple[str, str]) -> None:
    local, _, _ = alice[0].partition("@")
    with submitter(relay, alice) as client:
        client.command(f"MAIL FROM:<{alice[0]}>")
        for bad in ("<>", "<noat>", f"<{'x' * 65}@a.org>", "<a b@c.org>", "<a@[1.2.3]>"):
            assert (
                client.command(f"RCPT TO:{bad}").whole == "501 5.1.3 Bad recipient address syntax"
            )
        good = (f"{local}@[127.0.0.1]", f"{local}@127.0.0.1", f"{local.upper()}@[127.0.0.1]")
        for address in (*good, f"{local}+any@[127.0.0.1]", f"@relay.example:{alice[0]}"):
            assert client.command(f"RCPT TO:<{address}>").whole == "250 2.1.5 Ok"
        before = count(relay, alice)
        assert client.command("DATA").code == 354
        assert client.content(wire.encrypted(alice[0])[1]).code == 250
    assert count(relay, alice) == before + 1, "one mailbox, one copy"


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("line", [b"NOOP\n", b"NO\rOP\r\n", b"NOOP \0\r\n", b"RSET\n.\r\n"])
def test_bare_line_ends_and_nul_in_a_command_close(relay: Relay, face: str, line: bytes) -> None:
    with RawSmtp(relay, face).secure() as client:
        client.send(line + b"NOOP\r\n")
        assert client.reply().whole == "500 5.5.2 Bare CR, LF or NUL not allowed"
        assert client.is_closed()


def test_a_long_command_line_is_refused_and_skipped(relay: Relay, alice: tuple[str, str]) -> None:
    with submitter(relay, alice) as client:
        assert client.command("NOOP " + "x" * 2041).code == 250
        assert client.command("NOOP " + "x" * 5000).whole == "500 5.5.2 Line too long"
        assert client.command("NOOP").code == 250


@pytest.mark.parametrize("greeted", [True, False], ids=["after EHLO", "before EHLO"])
def test_vrfy_never_tells(relay: Relay, alice: tuple[str, str], greeted: bool) -> None:
    for face in FACES:
        with RawSmtp(relay, face) as client:
            if greeted:
                client.secure()
            for name in (alice[0], "nobody123@[127.0.0.1]", "root"):
                assert client.command(f"VRFY {name}").whole == f"252 2.0.0 {name}"


def test_a_web_browser_is_turned_away(relay: Relay) -> None:
    with RawSmtp(relay, "smtp") as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\n")
        assert client.reply().code >= 400
        assert client.is_closed()


# --- counting ------------------------------------------------------------------------------------


def test_twenty_errors_end_the_session(relay: Relay) -> None:
    with RawSmtp(relay, "smtp").secure() as client:
        for _ in range(19):
            assert client.command("FLY").code == 500
        client.send(b"FLY\r\n")
        assert client.replies(2)[1].whole == "421 4.7.0 Too many errors"
        assert client.is_closed()


def test_hundred_idle_commands_end_the_session(relay: Relay) -> None:
    with RawSmtp(relay, "smtp").secure() as client:
        client.send(b"NOOP\r\nRSET\r\nVRFY x\r\nNOOP\r\n" * 25)
        replies = client.replies(101)
        assert all(reply.code in (250, 252) for reply in replies[:100])
        assert replies[100].whole == "421 4.7.0 Too many errors"
        assert client.is_closed()


def test_refusals_of_policy_are_no_errors(relay: Relay, alice: tuple[str, str]) -> None:
    with submitter(relay, alice) as client:
        client.command("MAIL FROM:<other@[127.0.0.1]>")
        for _ in range(40):
            assert client.command(f"RCPT TO:<{alice[0]}>").code == 553
        assert client.command("DATA").code == 554
        assert client.command("NOOP").code == 250


# --- pipelining ----------------------------------------------------------------------------------


def test_an_envelope_in_one_segment_is_answered_in_order(relay: Relay) -> None:
    sender, *others = [newcomer(relay) for _ in range(3)]
    with submitter(relay, sender) as client:
        for size in (2_000, 300_000):
            commands = [f"MAIL FROM:<{sender[0]}>"]
            commands += [f"RCPT TO:<{address}>" for address, _ in (sender, *others)]
            client.send("".join(f"{line}\r\n" for line in (*commands, "DATA")).encode())
            assert [reply.code for reply in client.replies(5)] == [250, 250, 250, 250, 354]
            assert client.content(wire.encrypted(sender[0], size)[1]).code == 250
    for account in (sender, *others):
        sizes = [len(octets) for octets in messages(relay, account)]
        assert len(sizes) == 2
        assert sizes[0] < sizes[1], "UIDs follow the order of the transactions"


def test_two_whole_transactions_in_one_segment(relay: Relay) -> None:
    account = newcomer(relay)
    with submitter(relay, account) as client:
        texts = [wire.encrypted(account[0]) for _ in range(2)]
        batch = b""
        for _, octets in texts:
            envelope = f"MAIL FROM:<{account[0]}>\r\nRCPT TO:<{account[0]}>\r\nDATA\r\n".encode()
            batch += envelope + octets + b".\r\n"
        client.send(batch + b"QUIT\r\n")
        codes = [reply.code for reply in client.replies(9)]
        assert codes == [250, 250, 354, 250] * 2 + [221]
        assert client.is_closed()
    arrived = await_messages(relay, account, 2)
    for (message_id, _), octets in zip(texts, arrived, strict=True):
        assert message_id.encode() in octets


def test_octets_may_come_one_by_one(relay: Relay, alice: tuple[str, str]) -> None:
    before = count(relay, alice)
    with submitter(relay, alice) as client:
        assert client.envelope(alice[0], [alice[0]]).code == 354
        content = wire.encrypted(alice[0], 400)[1]
        for at in range(len(content)):
            client.send(content[at : at + 1])
        for octet in (b".", b"\r", b"\n"):
            client.send(octet)
        assert client.reply().code == 250
    assert count(relay, alice) == before + 1


def test_a_session_may_pause_between_transactions(
    relay: Relay, alice: tuple[str, str], patient: RawSmtp
) -> None:
    before = count(relay, alice)
    assert patient.submit(alice[0], [alice[0]], wire.encrypted(alice[0])[1]).code == 250
    assert count(relay, alice) == before + 1
