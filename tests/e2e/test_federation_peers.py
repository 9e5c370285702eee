"""What our relay makes of other people's servers: the dialects, the mishaps and the lies.

The peers are scripted. Each test has a domain of its own, so nothing that was learned of one peer
counts for the next.
"""

from __future__ import annotations

import itertools
import ssl

import pytest

from tests.builders import make_message
from tests.e2e.federation import (
    DEFAULT_WAIT,
    Authority,
    FederatedRelay,
    Network,
    await_empty_queue,
    queue_depth,
)
from tests.e2e.federation_fixtures import alice as alice
from tests.e2e.federation_fixtures import net as net
from tests.e2e.federation_fixtures import peer as peer
from tests.e2e.hosts import Peer, relay_of, verifies, waiting, why
from tests.e2e.peers import OK, REDIRECT, WEB_PAGE, Answer, HttpPeer, Mute, SmtpScript
from tests.e2e.relay import wait_until
from tests.e2e.stopwatch import Stopwatch
from tests.e2e.users import User

FREE_TEXT = "free.test"
"""Cleartext may go there: only so can a test choose the lines of a body."""


@pytest.fixture(scope="module")
def relay(net: Network) -> FederatedRelay:
    return net.relay(
        "a.test",
        gate={"passthrough_recipients": f'["@{FREE_TEXT}"]'},
        federation={"tls_optional": '["optional.test"]'},
    )


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
        message_id, _ = alice.send(peer.user(), alice.address)
        [request] = web.await_posts(1)
    head = request.body.partition(b"\r\n\r\n")[0]
    assert head.startswith(b"DKIM-Signature:")
    assert verifies(net, request.body)
    for word in (b"Received", b"127.0.0.1", b"X-Originating", b"User-Agent"):
        assert word not in head
    [copy] = alice.find(message_id)
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
        relay_of(alice).run("queue", "retry", peer.domain)
        web.await_posts(2)
    await_empty_queue(alice.relay)


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
        relay_of(alice).run("queue", "retry", peer.domain)
        web.await_posts(1)
    await_empty_queue(alice.relay)


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
    relay_of(alice).run("queue", "purge", "--domain", peer.domain, "-y", check=False)


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
            relay_of(alice).run("queue", "retry", peer.domain)
        [got] = mail.await_deliveries(1)
    assert message_id.encode() in got.octets
    await_empty_queue(alice.relay)


def peer_is_patient(script: dict[str, object]) -> bool:
    """A6.8: a 5xx on banner, EHLO or MAIL is asked again in an hour."""
    return any(str(script.get(word, "")).startswith("5") for word in ("greeting", "mail"))


def test_a_mute_peer_does_not_keep_the_client(net: Network, alice: User, peer: Peer) -> None:
    """Half open: the connection stands, and nothing comes."""
    relay = relay_of(alice)
    usual = relay.tables["queue"]
    relay.reload(queue={**usual, "reply_wait": DEFAULT_WAIT})
    with (
        Mute(peer.address, net.https_port) as web,
        Mute(peer.address, net.smtp_port),
    ):
        stopwatch = Stopwatch(alice.relay)
        stopwatch.start()
        _, reply = alice.send(peer.user())
        assert reply.code == 250
        assert stopwatch.elapsed_s() < 5
        wait_until("it was tried", lambda: web.connections)
        # Somebody else's mail passes meanwhile.
        other = Peer(net)
        with other.web() as well:
            alice.send(other.user())
            well.await_posts(1, 40)  # the mute one is waited for longer: 10 s, and 60 s by SMTP
    relay.reload(queue=usual)
    relay.run("queue", "purge", "--domain", peer.domain, "-y", check=False)


def test_a_slow_peer_gets_a_large_message_whole(alice: User, peer: Peer) -> None:
    """H18, as far as a test has time."""
    with peer.web() as web:
        web.octets_per_s = 1024 * 1024
        message_id, _ = alice.send(peer.user(), size=4_000_000)
        [request] = web.await_posts(1)
    assert message_id.encode() in request.body
    assert len(request.body) > 4_000_000


def test_nothing_is_left_behind(alice: User) -> None:
    """What no test purged has been delivered or reported."""
    assert queue_depth(relay_of(alice)) < 20
