"""What our relay makes of other people's servers: the dialects, the mishaps and the lies.

The peers are scripted. Each test has a domain of its own, so nothing that was learned of one peer
counts for the next.
"""

from __future__ import annotations

import itertools
import ssl
import time
from collections.abc import Iterator
from typing import Any

import dkim
import pytest

from tests.builders import make_message
from tests.e2e.dns_zone import Trouble
from tests.e2e.federation import (
    Authority,
    FederatedRelay,
    Network,
    await_empty_queue,
    network,
    queue_depth,
)
from tests.e2e.peers import OK, REDIRECT, WEB_PAGE, Answer, HttpPeer, Mute, SmtpPeer, SmtpScript
from tests.e2e.relay import wait_until
from tests.e2e.users import User

FREE_TEXT = "free.test"
"""Cleartext may go there: only so can a test choose the lines of a body."""


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with network(tmp_path_factory.mktemp("peers")) as net:
        yield net


@pytest.fixture(scope="module")
def relay(net: Network) -> FederatedRelay:
    return net.relay(
        "a.test",
        gate={"passthrough_recipients": f'["@{FREE_TEXT}"]'},
        federation={"tls_optional": '["optional.test"]'},
    )


@pytest.fixture(scope="module")
def alice(relay: FederatedRelay) -> User:
    return User.of(relay)


_numbers = itertools.count(1)


class Peer:
    """A domain of its own with an address; its servers are started as a test wants them."""

    def __init__(self, net: Network, domain: str = "", mx: str = "") -> None:
        self.net = net
        self.domain = domain or f"p{next(_numbers)}.test"
        self.host = mx or self.domain
        self.address = net.new_address()
        net.publish(self.domain, self.address, mx=self.host)
        net.dns.zone.put(self.host, "A", self.address)

    def user(self, name: str = "bob") -> str:
        return f"{name}@{self.domain}"

    @property
    def context(self) -> ssl.SSLContext:
        return self.net.authority.context(self.host)

    def smtp(self, **script: Any) -> SmtpPeer:
        """Start its SMTP server, with a valid certificate unless the script has another."""
        options: dict[str, Any] = {"tls": self.context, **script}
        return SmtpPeer(self.address, self.net.smtp_port, SmtpScript(**options))

    def web(self, answer: Answer = OK) -> HttpPeer:
        """Start its HTTPS server."""
        return HttpPeer(self.address, self.net.https_port, self.context, answer)


@pytest.fixture
def peer(net: Network) -> Peer:
    return Peer(net)


def verifies(net: Network, octets: bytes) -> bool:
    """Have a library that is not ours look at the DKIM signature, with the key from our DNS."""

    def txt(name: bytes, timeout: int = 5) -> bytes:
        texts = net.dns.zone.records[(name.decode().rstrip("."), "TXT")]
        return b"".join(piece.encode() for piece in texts[0].split('"')[1::2])

    return bool(dkim.verify(octets, dnsfunc=txt))


# --- HTTPS ---------------------------------------------------------------------------------------


def test_a_post_goes_to_the_exchanger_with_all_recipients(net: Network, alice: User) -> None:
    """H1: the request of A4, to the MX host and not to the domain."""
    peer = Peer(net, mx="mx.first.test")
    with peer.web() as web, peer.smtp() as mail:
        message_id, reply = alice.send(*(peer.user(name) for name in ("bob", "carol", "dave")))
        assert reply.code == 250
        [request] = web.await_posts(1)
        await_empty_queue(alice.relay)
        assert not mail.deliveries
    assert (request.method, request.path) == ("POST", "/mxdeliv")
    assert request.server_name == "mx.first.test"
    assert request.all("x-mail-from") == [alice.address]
    assert request.all("x-mail-to") == [peer.user(name) for name in ("bob", "carol", "dave")]
    assert request.all("content-type") == ["message/rfc822"]
    assert request.all("content-length") == [str(len(request.body))]
    assert request.all("transfer-encoding") == []
    assert request.all("host")[0].split(":")[0] == "mx.first.test"
    assert message_id.encode() in request.body


def test_what_leaves_is_signed_and_says_nothing_of_the_client(
    net: Network, alice: User, peer: Peer
) -> None:
    with peer.web() as web:
        alice.send(peer.user(), alice.address)
        [request] = web.await_posts(1)
    head = request.body.partition(b"\r\n\r\n")[0]
    assert head.startswith(b"DKIM-Signature:")
    assert verifies(net, request.body)
    for word in (b"Received", b"127.0.0.1", b"X-Originating", b"User-Agent"):
        assert word not in head
    copy = alice.inbox()[-1]
    assert b"DKIM-Signature" not in copy
    assert request.body.endswith(copy), "the local copy is what was signed"
    assert not verifies(net, request.body.replace(b"\r\nSubject: [...]", b"\r\nSubject: [...!]"))
    assert not verifies(net, b"From: x@example.org\r\n" + request.body), "From is oversigned"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(REDIRECT, id="301"),
        pytest.param(Answer(307, b"", (("Location", "/elsewhere"),)), id="307"),
        pytest.param(WEB_PAGE, id="web-page"),
        pytest.param(Answer(200, b"  \n<html>it works</html>"), id="html-without-type"),
        pytest.param(Answer(404, b"not found"), id="404"),
        pytest.param(Answer(405, b"no"), id="405"),
        pytest.param(Answer(501, b"no"), id="501"),
    ],
)
def test_a_web_site_is_no_relay(alice: User, peer: Peer, answer: Answer) -> None:
    """H2, H3: no 2xx of a landing page counts; the next mail does not ask again (A8.1)."""
    with peer.web(answer) as web, peer.smtp() as mail:
        web.pages["/"] = web.pages["/elsewhere"] = WEB_PAGE
        for wanted in (1, 2):
            alice.send(peer.user())
            mail.await_deliveries(wanted)
            await_empty_queue(alice.relay)
        assert len(web.requests) == 1
        assert len(mail.deliveries) == 2


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_success_needs_no_words(alice: User, peer: Peer, status: int) -> None:
    with peer.web(Answer(status, b"")) as web, peer.smtp() as mail:
        alice.send(peer.user())
        web.await_posts(1)
        await_empty_queue(alice.relay)
        assert not mail.deliveries


def test_a_verdict_in_smtp_words_is_final(alice: User, peer: Peer) -> None:
    """H5: the reply of the submission for one recipient, a report in a group."""
    answer = Answer(400, b"554 5.7.1 No DKIM signature found\r\n")
    with peer.web(answer) as web, peer.smtp() as mail:
        _, reply = alice.send(peer.user())
        assert reply.whole == "554 5.7.1 No DKIM signature found"
        message_id, reply = alice.send(peer.user(), alice.address)
        assert reply.code == 250
        report = alice.await_report(message_id)
        assert report.failed == {peer.user(): "5.7.1"}
        assert "554 5.7.1 No DKIM signature found" in report.diagnostics
        assert peer.user() in report.text.splitlines()[0]
        assert len(web.posts) == 2
        assert not mail.connections
    await_empty_queue(alice.relay)


@pytest.mark.parametrize("status", [400, 401, 403, 418])
def test_a_refusal_without_words_is_checked_by_smtp(alice: User, peer: Peer, status: int) -> None:
    """H6."""
    with peer.web(Answer(status, b"Forbidden")), peer.smtp() as mail:
        alice.send(peer.user())
        mail.await_deliveries(1)
        mail.script.recipient = "550 5.1.1 no such user here"
        _, reply = alice.send(peer.user())
        assert reply.whole == "550 5.1.1 no such user here"
    await_empty_queue(alice.relay)


def test_forbidden_everywhere_is_a_refusal(alice: User, peer: Peer) -> None:
    with peer.web(Answer(403, b"Forbidden")):
        message_id, reply = alice.send(peer.user(), alice.address)
        assert reply.code == 250
        assert alice.await_report(message_id).failed == {peer.user(): "5.7.1"}


def test_too_large_for_the_peer_is_final(alice: User, peer: Peer) -> None:
    with peer.web(Answer(413, b"too large")), peer.smtp() as mail:
        _, reply = alice.send(peer.user())
        assert reply.text.startswith("5.3.4 ")
        assert not mail.connections


@pytest.mark.parametrize(
    ("status", "body"),
    [(507, b"full"), (429, b"busy"), (400, b"451 4.3.0 later\r\n")],
)
def test_a_busy_peer_keeps_the_mail_waiting(
    alice: User, peer: Peer, status: int, body: bytes
) -> None:
    with peer.web(Answer(status, body, (("Retry-After", "600"),))) as web, peer.smtp() as mail:
        _, reply = alice.send(peer.user())
        assert reply.code == 250
        web.await_posts(1)
        wait_until("it waits", lambda: waiting(alice, peer.domain) == 1)
        assert not mail.connections
        web.answer = OK
        cast_relay(alice).run("queue", "retry", peer.domain)
        web.await_posts(2)
    await_empty_queue(alice.relay)


def cast_relay(user: User) -> FederatedRelay:
    """The relay of a user of this module."""
    assert isinstance(user.relay, FederatedRelay)
    return user.relay


def waiting(user: User, domain: str) -> int:
    """How many deliveries wait for a domain."""
    with user.relay.rows() as db:
        query = "SELECT count(*) FROM outbound_recipients WHERE domain = ?"
        return int(db.execute(query, (domain,)).fetchone()[0])


def test_an_answer_that_was_lost_is_asked_for_again_there(alice: User, peer: Peer) -> None:
    """A3.4: the peer may have it; the same transport is tried again, and no other."""
    with peer.web(Answer(0)) as web, peer.smtp() as mail:
        message_id, reply = alice.send(peer.user())
        assert reply.code == 250
        web.await_posts(1)
        web.answer = OK
        posts = web.await_posts(2)
        await_empty_queue(alice.relay)
        assert not mail.deliveries
    assert all(message_id in post.body.decode() for post in posts)


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_broken_web_server_is_gone_around(alice: User, peer: Peer, status: int) -> None:
    with peer.web(Answer(status, b"oops")) as web, peer.smtp() as mail:
        alice.send(peer.user())
        mail.await_deliveries(1)
        alice.send(peer.user())
        mail.await_deliveries(2)
        assert len({request.at for request in web.requests}) <= 2
    await_empty_queue(alice.relay)


def test_https_comes_back_when_smtp_goes(alice: User, peer: Peer) -> None:
    """H4, A8.2, A8.3."""
    with peer.smtp() as mail:
        alice.send(peer.user())
        mail.await_deliveries(1)
    with peer.web() as web:
        alice.send(peer.user())
        web.await_posts(1)
    await_empty_queue(alice.relay)


def test_a_self_signed_name_gets_nothing_and_the_operator_sees_why(
    net: Network, alice: User, peer: Peer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """H11, A5.2."""
    stranger = Authority(tmp_path_factory.mktemp("ca"), name="other").context(peer.domain)
    with (
        HttpPeer(peer.address, net.https_port, stranger) as web,
        peer.smtp(tls=stranger) as mail,
    ):
        _, reply = alice.send(peer.user())
        assert reply.code == 250
        wait_until("both were tried", lambda: web.connections and mail.connections)
        wait_until("the reason is known", lambda: "4.7.5" in why(alice, peer.domain))
        assert not web.requests
        assert not any(command.startswith("MAIL") for command in mail.commands)
    with peer.web() as web:
        cast_relay(alice).run("queue", "retry", peer.domain)
        web.await_posts(1)
    await_empty_queue(alice.relay)


def why(user: User, domain: str) -> str:
    """What the operator is told of a destination."""
    done = cast_relay(user).run("queue", "why", domain, "--json", check=False)
    return done.stdout


@pytest.mark.parametrize("kind", ["wrong name", "expired"])
def test_a_certificate_has_to_fit(net: Network, alice: User, peer: Peer, kind: str) -> None:
    names = ("other.test",) if kind == "wrong name" else (peer.domain,)
    days = (-9, -1) if kind == "expired" else (-1, 9)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*net.authority.issue(*names, days=days))
    with (
        HttpPeer(peer.address, net.https_port, context) as web,
        peer.smtp(tls=context) as mail,
    ):
        alice.send(peer.user())
        wait_until("the reason is known", lambda: "4.7.5" in why(alice, peer.domain))
        assert not web.requests
        assert not mail.deliveries
    cast_relay(alice).run("queue", "purge", "--domain", peer.domain, "-y", check=False)


def test_an_underscore_name_is_encrypted_without_verification(
    net: Network, alice: User, tmp_path_factory: pytest.TempPathFactory
) -> None:
    peer = Peer(net, "_lab.test")
    stranger = Authority(tmp_path_factory.mktemp("ca"), name="lab").context(peer.domain)
    with HttpPeer(peer.address, net.https_port, stranger) as web:
        alice.send(peer.user())
        [request] = web.await_posts(1)
    assert request.server_name == peer.domain


@pytest.mark.parametrize("kind", ["rsa", "p384", "ed25519"])
def test_every_kind_of_key_works_with_tls_13_alone(
    net: Network, alice: User, peer: Peer, kind: str
) -> None:
    """H12, A5.5."""
    context = net.authority.context(peer.domain, kind=kind)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with HttpPeer(peer.address, net.https_port, context) as web:
        alice.send(peer.user())
        web.await_posts(1)
    with peer.smtp(tls=context) as mail:
        alice.send(peer.user())
        mail.await_deliveries(1)


def test_many_recipients_go_in_requests_of_fifty(alice: User, peer: Peer) -> None:
    """H17, A4.1."""
    recipients = [peer.user(f"member{at:03}") for at in range(120)]
    with peer.web() as web:
        _, reply = alice.send(*recipients)
        assert reply.code == 250
        await_empty_queue(alice.relay)
        named = [request.all("x-mail-to") for request in web.posts]
    assert sorted(itertools.chain(*named)) == recipients
    assert max(map(len, named)) <= 50
    assert len(named) == 3
    assert all(len("".join(names)) <= 6144 for names in named)


def test_a_connection_is_kept_for_the_next_message(alice: User, peer: Peer) -> None:
    """A4.9."""
    with peer.web() as web:
        for wanted in range(1, 6):
            alice.send(peer.user())
            web.await_posts(wanted)
        assert web.connections < 5


# --- SMTP ----------------------------------------------------------------------------------------


def test_lines_arrive_as_they_were_sent(net: Network, alice: User) -> None:
    """H7: dots, long lines and octets beyond ASCII; the signature holds at the other end."""
    peer = Peer(net, FREE_TEXT)
    lines = [b".", b"..", b".y", b"...z", b"x" * 3000, "Grüße".encode(), b" ", b"tail  "]
    body = b"\r\n".join(lines) + b"\r\n"
    fields = [("Content-Type", "text/plain; charset=utf-8")]
    octets = make_message(sender=alice.address, encrypted=False, fields=fields, body=body)
    with peer.smtp() as mail:
        assert alice.submit(octets, peer.user()).code == 250
        [got] = mail.await_deliveries(1)
    assert got.octets.partition(b"\r\n\r\n")[2] == body
    assert verifies(net, got.octets)
    assert any("BODY=8BITMIME" in command.upper() for command in mail.commands)


def test_each_recipient_has_a_fate_of_its_own(alice: User, peer: Peer) -> None:
    """H8: one report, one retry with the one that was deferred."""
    replies = {peer.user("later"): "450 4.2.1 not now", peer.user("never"): "550 5.1.1 who?"}
    with peer.smtp(recipients=replies) as mail:
        names = ("now", "later", "never")
        message_id, reply = alice.send(*(peer.user(name) for name in names))
        assert reply.code == 250
        report = alice.await_report(message_id)
        assert report.failed == {peer.user("never"): "5.1.1"}
        assert "550 5.1.1 who?" in report.diagnostics
        mail.script.recipients = {}
        await_empty_queue(alice.relay)
        assert [got.recipients for got in mail.deliveries] == [
            (peer.user("now"),),
            (peer.user("later"),),
        ]
        assert len(alice.reports()) == len({r.message["Message-ID"] for r in alice.reports()})


def test_a_refused_message_is_the_reply_of_the_submission(alice: User, peer: Peer) -> None:
    with peer.smtp(reply="552 5.2.2 mailbox is full"):
        _, reply = alice.send(peer.user())
    assert reply.whole == "552 5.2.2 mailbox is full"
    await_empty_queue(alice.relay)
    assert not [r for r in alice.reports() if peer.user() in r.failed]


def test_a_reply_core_would_misread_is_mended(alice: User, peer: Peer) -> None:
    """Policy 1.11: `5.5.0` as first word is transient to core; control octets are no text."""
    with peer.smtp(reply="550-5.5.0 first\r\n550 5.5.0 you\x07 are\x1b odd"):
        _, reply = alice.send(peer.user())
    assert reply.code == 550
    assert reply.text.startswith("5.0.0 ")


@pytest.mark.parametrize("how", ["absent", "stripped", "refused"])
def test_nothing_is_sent_in_clear(alice: User, peer: Peer, how: str) -> None:
    """H13."""
    script: dict[str, object] = {"tls": None}
    if how == "refused":
        script["strips_tls"] = True
    with peer.smtp(**script) as mail:
        _, reply = alice.send(peer.user())
        assert reply.code == 250
        wait_until("it was tried", lambda: mail.connections)
        wait_until("the reason is known", lambda: "4.7." in why(alice, peer.domain))
        assert not any(command.upper().startswith("MAIL") for command in mail.commands)
    with peer.smtp() as mail:
        mail.await_deliveries(1)
        assert mail.deliveries[0].is_encrypted


def test_a_peer_on_the_list_may_be_without_tls(net: Network, alice: User) -> None:
    peer = Peer(net, "optional.test")
    with peer.smtp(tls=None) as mail:
        alice.send(peer.user())
        [got] = mail.await_deliveries(1)
    assert not got.is_encrypted


def test_words_slipped_in_before_tls_are_ignored(alice: User, peer: Peer) -> None:
    """H14: the injected lines would be taken for the answers to EHLO, MAIL and RCPT."""
    injected = b"250-peer\r\n250 SIZE 1\r\n550 5.1.1 forged\r\n550 5.1.1 forged\r\n"
    with peer.smtp(injected=injected) as mail:
        alice.send(peer.user())
        [got] = mail.await_deliveries(1)
    assert got.is_encrypted
    await_empty_queue(alice.relay)


def test_a_message_beyond_the_peers_size_fails_at_once(alice: User, peer: Peer) -> None:
    with peer.smtp(keywords=("PIPELINING", "SIZE 1000")) as mail:
        _, reply = alice.send(peer.user())
        assert "5.3.4" in reply.text
        assert not mail.deliveries


def test_a_peer_without_extensions_is_served(alice: User, peer: Peer) -> None:
    with peer.smtp(keywords=()) as mail:
        alice.send(peer.user("one"), peer.user("two"))
        [got] = mail.await_deliveries(1)
    assert got.recipients == (peer.user("one"), peer.user("two"))


@pytest.mark.parametrize(
    "script",
    [
        pytest.param({"greeting": "421 4.3.2 closing"}, id="421-greeting"),
        pytest.param({"hello": "421 4.3.2 closing"}, id="421-hello"),
        pytest.param({"mail": "451 4.3.0 later"}, id="451-mail"),
        pytest.param({"recipient": "421 4.3.2 closing"}, id="421-rcpt"),
        pytest.param({"data": "451 4.3.0 later"}, id="451-data"),
        pytest.param({"reply": "451 4.3.0 later"}, id="451-dot"),
        pytest.param({"reply": ""}, id="lost-after-dot"),
        pytest.param({"recipient": ""}, id="lost-at-rcpt"),
        pytest.param({"greeting": "554 5.3.2 go away"}, id="554-greeting"),
        pytest.param({"mail": "550 5.7.1 bad day"}, id="550-mail"),
        pytest.param({"greeting": "HTTP/1.1 400 Bad Request"}, id="not-smtp"),
    ],
)
def test_a_hiccup_costs_a_retry(alice: User, peer: Peer, script: dict[str, object]) -> None:
    with peer.smtp(**script) as mail:
        message_id, reply = alice.send(peer.user())
        assert reply.code == 250
        wait_until("it was tried", lambda: mail.connections)
        mail.script = SmtpScript(tls=mail.script.tls)
        if peer_is_patient(script):
            cast_relay(alice).run("queue", "retry", peer.domain)
        [got] = mail.await_deliveries(1)
    assert message_id.encode() in got.octets
    await_empty_queue(alice.relay)


def peer_is_patient(script: dict[str, object]) -> bool:
    """A6.8: a 5xx on banner, EHLO or MAIL is asked again in an hour."""
    return any(str(script.get(word, "")).startswith("5") for word in ("greeting", "mail"))


def test_a_mute_peer_does_not_keep_the_client(net: Network, alice: User, peer: Peer) -> None:
    """Half open: the connection stands, and nothing comes."""
    with (
        Mute(peer.address, net.https_port) as web,
        Mute(peer.address, net.smtp_port),
    ):
        started = time.monotonic()
        _, reply = alice.send(peer.user())
        assert reply.code == 250
        assert time.monotonic() - started < 5
        wait_until("it was tried", lambda: web.connections)
        # Somebody else's mail passes meanwhile.
        other = Peer(net)
        with other.web() as well:
            alice.send(other.user())
            well.await_posts(1, 3)
    cast_relay(alice).run("queue", "purge", "--domain", peer.domain, "-y", check=False)


def test_a_slow_peer_gets_a_large_message_whole(alice: User, peer: Peer) -> None:
    """H18, as far as a test has time."""
    with peer.web() as web:
        web.octets_per_s = 1024 * 1024
        message_id, _ = alice.send(peer.user(), size=4_000_000)
        [request] = web.await_posts(1, 30)
    assert message_id.encode() in request.body
    assert len(request.body) > 4_000_000


# --- names ---------------------------------------------------------------------------------------


def test_a_domain_without_mail_says_so(net: Network, alice: User) -> None:
    """H15: null MX (RFC 7505)."""
    net.dns.zone.put("null.test", "MX", "0 .")
    _, reply = alice.send("bob@null.test")
    assert reply.whole.startswith("556 5.1.10 ")


def test_mail_that_would_come_back_is_refused(net: Network, alice: User) -> None:
    net.dns.zone.put("loop.test", "MX", "10 a.test.")
    _, reply = alice.send("bob@loop.test")
    assert "5.4.6" in reply.text
    net.dns.zone.put("loop2.test", "MX", "10 mx.loop2.test.")
    net.dns.zone.put("mx.loop2.test", "A", cast_relay(alice).address)
    _, reply = alice.send("bob@loop2.test")
    assert "5.4.6" in reply.text


def test_a_better_exchanger_than_us_is_used(net: Network, alice: User, peer: Peer) -> None:
    """A2.6: we are the backup; what is better than us remains."""
    net.dns.zone.put(peer.domain, "MX", f"10 {peer.domain}.", "20 a.test.")
    with peer.web() as web:
        alice.send(peer.user())
        web.await_posts(1)


def test_a_domain_without_mx_is_its_own_host(net: Network, alice: User, peer: Peer) -> None:
    net.dns.zone.put(peer.domain, "MX")
    with peer.web() as web:
        alice.send(peer.user())
        web.await_posts(1)


def test_aliases_are_followed(net: Network, alice: User, peer: Peer) -> None:
    zone = net.dns.zone
    zone.put("alias.test", "CNAME", f"{peer.domain}.")
    zone.put("alias2.test", "MX", "10 mx.alias2.test.")
    zone.put("mx.alias2.test", "CNAME", f"{peer.domain}.")
    with peer.smtp(tls=net.authority.context(peer.domain, "mx.alias2.test")) as mail:
        for at, domain in enumerate(("alias.test", "alias2.test"), 1):
            alice.send(f"bob@{domain}")
            mail.await_deliveries(at)


def test_the_next_exchanger_takes_over(net: Network, alice: User) -> None:
    first, second = Peer(net, mx="mx1.pair.test"), Peer(net, mx="mx2.pair.test")
    net.dns.zone.put("pair.test", "MX", "10 mx1.pair.test.", "20 mx2.pair.test.")
    with first.smtp(mail="451 4.3.0 not me") as one, second.smtp() as two:
        alice.send("bob@pair.test")
        two.await_deliveries(1)
        assert one.connections
        assert not one.deliveries


@pytest.mark.parametrize("trouble", [Trouble.SERVFAIL, Trouble.GARBAGE, Trouble.FORGED])
def test_broken_name_servers_keep_the_mail(
    net: Network, alice: User, peer: Peer, trouble: Trouble
) -> None:
    with peer.web() as web:
        with net.dns.zone.trouble(trouble, peer.domain):
            _, reply = alice.send(peer.user())
            assert reply.code == 250
            wait_until("it was asked", lambda: net.dns.zone.asked(peer.domain))
            assert not web.requests
        cast_relay(alice).run("queue", "retry", peer.domain)
        web.await_posts(1, 60)
    await_empty_queue(alice.relay)


def test_a_name_that_does_not_exist_is_kept_for_a_while(net: Network, alice: User) -> None:
    """A2.5: flaky resolvers are common; an hour of patience."""
    _, reply = alice.send("bob@new.test")
    assert reply.code == 250
    wait_until("it was asked", lambda: net.dns.zone.asked("new.test"))
    peer = Peer(net, "new.test")
    with peer.web() as web:
        cast_relay(alice).run("queue", "retry", "new.test")
        web.await_posts(1, 60)


def test_a_thousand_exchangers_cost_no_thousand_attempts(net: Network, alice: User) -> None:
    peer = Peer(net)
    zone = net.dns.zone
    zone.put(peer.domain, "MX", *(f"{at} m{at}.{peer.domain}." for at in range(1000)))
    for at in range(1000):
        zone.put(f"m{at}.{peer.domain}", "A", peer.address)
    with Mute("127.0.1.254", net.smtp_port):  # nobody listens at the peer's own address
        zone.forget_queries()
        _, reply = alice.send(peer.user())
        assert reply.code == 250
        wait_until("it was asked", lambda: zone.asked(peer.domain, "MX"))
        wait_until("it gave up for now", lambda: why(alice, peer.domain).strip())
    asked = {query.name for query in zone.queries if query.name.endswith(f".{peer.domain}")}
    assert len(asked) <= 40
    cast_relay(alice).run("queue", "purge", "--domain", peer.domain, "-y", check=False)


def test_an_exchanger_that_is_an_address_is_no_exchanger(net: Network, alice: User) -> None:
    """RFC 5321 §5.1: the name of an MX is a name; whatever it is, nobody is harmed."""
    peer = Peer(net)
    net.dns.zone.put(peer.domain, "MX", f"10 {peer.address}.", f"20 {peer.domain}.")
    with peer.web() as web:
        alice.send(peer.user())
        web.await_posts(1, 40)


# --- the operator's word -------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["url", "host", "address"])
def test_an_override_decides_where_mail_goes(
    net: Network, alice: User, form: str, relay: FederatedRelay
) -> None:
    """H19: effective without a restart."""
    there = Peer(net)
    targets: dict[str, str] = {
        "url": f"https://{there.domain}:{net.https_port}/custom",
        "host": there.domain,
        "address": there.address,
    }
    domain = f"moved-{form}.test"
    relay.run("endpoint-cache", "set", domain, targets[form])
    with there.web() as web:
        alice.send(f"bob@{domain}")
        [request] = web.await_posts(1)
    assert request.path == ("/custom" if form == "url" else "/mxdeliv")
    assert request.all("x-mail-to") == [f"bob@{domain}"]
    assert net.dns.zone.asked(domain) == 0


def test_a_literal_can_be_moved_too(net: Network, alice: User, relay: FederatedRelay) -> None:
    there = Peer(net)
    relay.run("endpoint-cache", "set", "[192.0.2.4]", there.domain)
    with there.web() as web:
        alice.send("bob@[192.0.2.4]")
        [request] = web.await_posts(1)
    assert request.all("x-mail-to") == ["bob@[192.0.2.4]"]


def test_a_blocked_domain_gets_nothing(alice: User, peer: Peer, relay: FederatedRelay) -> None:
    """H20."""
    relay.run("federation", "policy", "block", peer.domain)
    with peer.web() as web, peer.smtp() as mail:
        _, reply = alice.send(peer.user())
        assert reply.whole == "550 5.7.1 Policy Rejection"
        message_id, reply = alice.send(peer.user(), alice.address)
        assert reply.code == 250
        assert alice.await_report(message_id).failed == {peer.user(): "5.7.1"}
        relay.run("federation", "policy", "remove", peer.domain)
        alice.send(peer.user())
        web.await_posts(1)
        assert not mail.connections


def test_a_dismissed_domain_gets_nothing_and_nobody_is_told(
    alice: User, peer: Peer, relay: FederatedRelay
) -> None:
    relay.run("federation", "dismiss", peer.domain)
    before = len(alice.inbox())
    with peer.web() as web:
        _, reply = alice.send(peer.user())
        assert reply.code == 250
        await_empty_queue(relay)
        assert not web.connections
        relay.run("federation", "undismiss", peer.domain)
        alice.send(peer.user())
        web.await_posts(1)
    assert len(alice.inbox()) == before


def test_the_command_line_shows_the_key_that_signs(net: Network, relay: FederatedRelay) -> None:
    shown = relay.run("dkim", "show").stdout
    published = net.dns.zone.records[("opendkim._domainkey.a.test", "TXT")][0]
    key = "".join(published.split('"')[1::2]).partition("p=")[2].partition(";")[0]
    assert key in shown.replace('" "', "").replace("\n", "")


# --- MTA-STS -------------------------------------------------------------------------------------


def sts(peer: Peer, mode: str, mx: str) -> tuple[str, Answer]:
    """Publish a policy of a peer; returns what its host has to serve."""
    zone = peer.net.dns.zone
    zone.put_txt(f"_mta-sts.{peer.domain}", "v=STSv1; id=1;")
    zone.put(f"mta-sts.{peer.domain}", "A", peer.address)
    text = f"version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: 86400\r\n"
    return "/.well-known/mta-sts.txt", Answer(200, text.encode())


@pytest.mark.parametrize(
    ("mode", "mx", "arrives"),
    [
        ("enforce", "honest.test", False),
        ("testing", "honest.test", True),
        ("enforce", "self", True),
        ("none", "honest.test", True),
    ],
)
def test_an_exchanger_has_to_be_in_the_policy(
    net: Network, alice: User, peer: Peer, mode: str, mx: str, arrives: bool
) -> None:
    """H22, A12.1."""
    path, page = sts(peer, mode, peer.domain if mx == "self" else mx)
    context = net.authority.context(peer.domain, f"mta-sts.{peer.domain}")
    with (
        HttpPeer(peer.address, net.https_port, context, Answer(404, b"")) as web,
        peer.smtp() as mail,
    ):
        web.pages[path] = page
        alice.send(peer.user())
        wait_until("the policy was read", lambda: any(r.path == path for r in web.requests))
        if arrives:
            mail.await_deliveries(1)
        else:
            wait_until("the reason is known", lambda: "4.7.5" in why(alice, peer.domain))
            assert not mail.connections
            assert not web.posts
    cast_relay(alice).run("queue", "purge", "--domain", peer.domain, "-y", check=False)


def test_a_policy_that_is_elsewhere_is_no_policy(net: Network, alice: User, peer: Peer) -> None:
    """RFC 8461 §3.3: redirects are not followed; mail is not held up by it."""
    path, _ = sts(peer, "enforce", "honest.test")
    context = net.authority.context(peer.domain, f"mta-sts.{peer.domain}")
    with HttpPeer(peer.address, net.https_port, context) as web:
        web.pages[path] = Answer(302, b"", (("Location", "/elsewhere"),))
        alice.send(peer.user())
        web.await_posts(1)
        assert not [r for r in web.requests if r.path == "/elsewhere"]


# --- where nothing may go ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where", ["127.0.0.1", "peer", "10.255.255.1", "169.254.169.254", "0.0.0.0"]
)
def test_a_strict_relay_connects_to_no_private_address(
    net: Network, strict: User, where: str
) -> None:
    peer = Peer(net)
    address = peer.address if where == "peer" else where
    net.dns.zone.put(peer.domain, "A", address)
    with peer.web() as web, peer.smtp() as mail, Mute("127.0.0.1", net.smtp_port) as own:
        _, reply = strict.send(peer.user())
        assert reply.code in (250, 550, 554, 556)
        wait_until("it was looked up", lambda: net.dns.zone.asked(peer.domain))
        wait_until(
            "it has a reason",
            lambda: reply.code != 250 or "4.4." in why(strict, peer.domain),
        )
        assert (web.connections, mail.connections, own.connections) == (0, 0, 0)
    cast_relay(strict).run("queue", "purge", "--domain", peer.domain, "-y", check=False)


@pytest.fixture(scope="module")
def strict(net: Network) -> User:
    return User.of(net.relay("strict.test", federation={"private_peers": '"refuse"'}))


def test_a_literal_of_a_private_network_is_refused_by_a_strict_relay(
    net: Network, strict: User
) -> None:
    with Mute("127.0.0.1", net.smtp_port) as own:
        for literal in (
            "[127.0.0.1]",
            "[IPv6:::1]",
            "[169.254.169.254]",
            "[IPv6:::ffff:127.0.0.1]",
        ):
            strict.send(f"bob@{literal}")
        relay = cast_relay(strict)
        wait_until("all were judged", lambda: _judged(relay))
        assert own.connections == 0
    relay.run("queue", "purge", "-y", check=False)


def _judged(relay: FederatedRelay) -> bool:
    with relay.rows() as db:
        query = "SELECT count(*) FROM outbound_recipients WHERE attempts = 0"
        return int(db.execute(query).fetchone()[0]) == 0


def test_nothing_is_left_behind(alice: User) -> None:
    """What no test purged has been delivered or reported."""
    assert queue_depth(cast_relay(alice)) < 20
