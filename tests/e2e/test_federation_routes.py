"""Where mail goes: names, exchangers, the operator's word, and where nothing may go."""

from __future__ import annotations

import pytest

from tests.e2e.dns_zone import Trouble
from tests.e2e.federation import FederatedRelay, Network, await_empty_queue
from tests.e2e.federation_fixtures import alice as alice
from tests.e2e.federation_fixtures import net as net
from tests.e2e.federation_fixtures import peer as peer
from tests.e2e.federation_fixtures import relay as relay
from tests.e2e.hosts import Peer, relay_of, waiting, why
from tests.e2e.peers import Mute
from tests.e2e.relay import wait_until
from tests.e2e.users import User

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
    net.dns.zone.put("mx.loop2.test", "A", relay_of(alice).address)
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
            # Two recipients: nobody waits for a verdict, which here takes ten seconds.
            _, reply = alice.send(peer.user(), peer.user("carol"))
            assert reply.code == 250
            wait_until("it was asked", lambda: net.dns.zone.asked(peer.domain))
            assert not web.requests
        relay_of(alice).run("queue", "retry", peer.domain)
        web.await_posts(1)
        await_empty_queue(alice.relay)  # the other recipient may come after a probe


def test_a_name_that_does_not_exist_is_kept_for_a_while(net: Network, alice: User) -> None:
    """A2.5: flaky resolvers are common; an hour of patience."""
    _, reply = alice.send("bob@new.test")
    assert reply.code == 250
    wait_until("the reason is known", lambda: "4.1.2" in why(alice, "new.test"))
    assert waiting(alice, "new.test") == 1
    assert net.dns.zone.asked("new.test")
    relay_of(alice).run("queue", "purge", "--domain", "new.test", "-y")


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
    relay_of(alice).run("queue", "purge", "--domain", peer.domain, "-y", check=False)


def test_an_exchanger_that_is_an_address_is_no_exchanger(net: Network, alice: User) -> None:
    """RFC 5321 §5.1: the name of an MX is a name; whatever it is, nobody is harmed."""
    peer = Peer(net)
    net.dns.zone.put(peer.domain, "MX", f"10 {peer.address}.", f"20 {peer.domain}.")
    with peer.web() as web:
        alice.send(peer.user())
        web.await_posts(1)


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
            lambda: reply.code != 250 or ".4.4 " in why(strict, peer.domain),
        )
        assert (web.connections, mail.connections, own.connections) == (0, 0, 0)
    relay_of(strict).run("queue", "purge", "--domain", peer.domain, "-y", check=False)


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
        relay = relay_of(strict)
        wait_until("all were judged", lambda: _judged(relay))
        assert own.connections == 0
    relay.run("queue", "purge", "-y", check=False)


def _judged(relay: FederatedRelay) -> bool:
    with relay.rows() as db:
        query = "SELECT count(*) FROM outbound_recipients WHERE attempts = 0"
        return int(db.execute(query).fetchone()[0]) == 0
