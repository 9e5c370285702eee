"""Port 25 as a stranger sees it: no login, no relaying, no oracle, TLS first."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from tests.builders import delivery_report, make_message
from tests.e2e import wire
from tests.e2e.configured import ConfiguredRelay, running
from tests.e2e.mailbox import count, newcomer
from tests.e2e.rawsmtp import RawSmtp
from tests.e2e.relay import Relay

REMOTE = "carol@example.net"
RELAYING = "550 5.7.1 Relaying denied"


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredRelay]:
    with running(tmp_path_factory.mktemp("inbound")) as relay:
        yield relay


@pytest.fixture(scope="module")
def bob(relay: Relay) -> tuple[str, str]:
    return newcomer(relay)


@pytest.fixture
def stranger(relay: Relay) -> Iterator[RawSmtp]:
    with RawSmtp(relay, "smtp").secure() as client:
        yield client


@pytest.mark.parametrize(
    "path",
    [
        "somebody@example.org",
        "somebody@[192.0.2.77]",
        "somebody@[IPv6:2001:db8::1]",
        "somebody@127.0.0.1.example.org",
        "somebody@localhost.example",
        "bob%example.org@example.net",
        "@[127.0.0.1]:somebody@example.org",
    ],
)
def test_nothing_is_relayed(stranger: RawSmtp, path: str) -> None:
    for sender in (REMOTE, ""):
        assert stranger.command(f"MAIL FROM:<{sender}>").code == 250
        assert stranger.command(f"RCPT TO:<{path}>").whole == RELAYING
        assert stranger.command("DATA").code == 554
        assert stranger.command("RSET").code == 250


def test_the_known_and_the_unknown_get_the_same_replies(
    relay: Relay, bob: tuple[str, str], stranger: RawSmtp
) -> None:
    assert stranger.command(f"MAIL FROM:<{REMOTE}>").code == 250
    names = (bob[0], relay.credentials()[0], "postmaster@[127.0.0.1]", "x@127.0.0.1")
    replies = {stranger.command(f"RCPT TO:<{name}>").whole for name in names}
    assert replies == {"250 2.1.5 Ok"}
    # A recipient elsewhere costs only itself.
    assert stranger.command("RCPT TO:<x@example.org>").whole == RELAYING
    assert stranger.command("DATA").code == 354
    assert (
        stranger.content(make_message(sender=REMOTE)).whole == "554 5.7.1 No DKIM signature found"
    )
    assert count(relay, bob) == 0


def test_no_account_is_made_by_mail(relay: Relay, stranger: RawSmtp) -> None:
    address, _ = relay.credentials()
    assert stranger.submit(REMOTE, [address], make_message(sender=REMOTE)).code == 554
    newcomer_account = (address, "a password of its own")
    assert count(relay, newcomer_account) == 0


@pytest.mark.parametrize("sender", ["anybody1@[127.0.0.1]", "x@127.0.0.1"])
def test_our_own_domain_is_refused_in_the_envelope(
    bob: tuple[str, str], stranger: RawSmtp, sender: str
) -> None:
    assert stranger.command(f"MAIL FROM:<{sender}>").whole == "250 2.1.0 Ok"
    assert stranger.command(f"RCPT TO:<{bob[0]}>").whole == "550 5.7.1 Sender domain is local"


@pytest.mark.parametrize("author", ["anybody1@[127.0.0.1]", "bob@127.0.0.1"])
def test_our_own_domain_is_refused_in_the_header(
    bob: tuple[str, str], stranger: RawSmtp, author: str
) -> None:
    for path in (REMOTE, ""):
        reply = stranger.submit(path, [bob[0]], make_message(sender=author))
        assert reply.whole == "550 5.7.1 Sender domain is local"


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (make_message(sender=REMOTE, encrypted=False), "523 5.7.1 Encryption Needed"),
        (make_message(sender=REMOTE, without=["From"]), "500 5.7.1 Invalid FROM"),
        (make_message(sender=REMOTE, fields=[("From", f"{REMOTE}, x@y.org")]), "500 5.7.1 Invalid"),
        (make_message(sender=REMOTE, fields=[("Date", "1"), ("date", "2")]), "554 5.6.0 Malformed"),
        (
            make_message(sender=REMOTE, fields=[("Received", "from a by b")] * 51),
            "554 5.4.6 Too many hops",
        ),
        (make_message(sender=REMOTE), "554 5.7.1 No DKIM signature found"),
        (delivery_report(), "554 5.7.1 No DKIM signature found"),
    ],
    ids=["plain", "no From", "two authors", "two dates", "loop", "unsigned", "report"],
)
def test_the_verdict_follows_the_order_of_checks(
    relay: Relay, bob: tuple[str, str], stranger: RawSmtp, octets: bytes, expected: str
) -> None:
    reply = stranger.submit("", [bob[0]], octets)
    assert reply.whole.startswith(expected)
    assert stranger.command("NOOP").code == 250
    assert count(relay, bob) == 0


def test_a_signature_that_proves_nothing_stores_nothing(
    relay: Relay, bob: tuple[str, str], stranger: RawSmtp
) -> None:
    for domain in ("example.net", "example.org"):
        fields = [("DKIM-Signature", f"v=1; a=rsa-sha256; d={domain}; s=x; h=from; bh=A=; b=A=")]
        reply = stranger.submit(REMOTE, [bob[0]], make_message(sender=REMOTE, fields=fields))
        assert reply.text.startswith(("4.7.5 DKIM", "5.7.1 No DKIM", "5.7.1 No valid DKIM"))
    assert count(relay, bob) == 0


def test_hundred_recipients_are_enough_here(stranger: RawSmtp) -> None:
    assert stranger.command(f"MAIL FROM:<{REMOTE}>").code == 250
    for at in range(100):
        assert stranger.command(f"RCPT TO:<someone{at:02}@[127.0.0.1]>").code == 250
    over = stranger.command("RCPT TO:<onemore12@[127.0.0.1]>")
    assert over.whole == "452 4.5.3 Too many recipients"


def test_the_peer_may_be_older_than_the_clients(relay: Relay) -> None:
    """TLS 1.2 on port 25, 1.3 alone where our own clients come."""
    for face, works in (("smtp", True), ("submission", False)):
        with RawSmtp(relay, face) as client:
            client.ehlo()
            assert client.command("STARTTLS").code == 220
            context = wire.tls()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            if works:
                client.socket = context.wrap_socket(client.socket)
                assert client.ehlo().code == 250
            else:
                with pytest.raises(ssl.SSLError):
                    context.wrap_socket(client.socket)
