"""Keys and trust change under a running relay: what leaves is signed, and checked, by the new ones.

libfaketime answers for all clocks of the relay here; a jump lets its tasks come due.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.federation import SELECTOR, Authority, FederatedRelay, Network, await_empty_queue
from tests.e2e.federation_fixtures import net as net
from tests.e2e.federation_fixtures import peer as peer
from tests.e2e.hosts import Peer, verifies, why
from tests.e2e.relay import wait_until
from tests.e2e.timepiece import Timepiece
from tests.e2e.users import User


def signed_by(net: Network, user: User) -> str:
    """Send a message abroad; returns the selector of its signature, which is valid."""
    peer = Peer(net)
    with peer.web() as web:
        user.send(peer.user())
        [request] = web.await_posts(1)
    assert verifies(net, request.body)
    found = re.search(rb"[;\s]s=([a-z0-9-]+)", request.body)
    assert found is not None
    return found[1].decode()


@pytest.fixture
def timepiece(tmp_path: Path) -> Timepiece:
    """The time of day and every other clock of a relay."""
    timepiece = Timepiece(tmp_path)
    del timepiece.env["FAKETIME_DONT_FAKE_MONOTONIC"]
    return timepiece


def test_a_key_is_renewed_without_a_message_that_nobody_can_check(
    net: Network, timepiece: Timepiece
) -> None:
    """A11.5: made when the old one is old enough, used once DNS has shown it for an hour."""
    relay = net.relay("keys.test", starts=False, dkim={"rotate_every": '"2h"'})
    relay.env = timepiece.env
    relay.start()
    net.publish_key(relay)
    alice = User.of(relay)
    assert signed_by(net, alice) == SELECTOR

    timepiece.jump(timedelta(hours=2))
    wait_until("the next key is made", lambda: relay.said("dkim_key_made"))
    [coming] = [one for one in keys_of(relay) if not one["in_use"]]
    look_again = Looks(net, timepiece, coming["name"])
    look_again()
    assert signed_by(net, alice) == SELECTOR, "nobody could find the new key"
    net.dns.zone.put_txt(coming["name"], coming["value"])
    look_again()
    assert signed_by(net, alice) == SELECTOR, "a server of the zone may have the old record"
    assert not relay.said("dkim_key_in_use")
    look_again()
    wait_until("the next key is in use", lambda: relay.said("dkim_key_in_use"))
    assert signed_by(net, alice) == coming["selector"]
    relay.restart()
    assert signed_by(net, alice) == coming["selector"]
    assert [one["selector"] for one in keys_of(relay)] == [coming["selector"]]


def keys_of(relay: FederatedRelay) -> list[dict[str, Any]]:
    """What the operator is shown of the keys."""
    found = relay.ask("dkim", "show")
    assert isinstance(found, dict)
    keys: list[dict[str, Any]] = found["data"]["keys"]
    return keys


@dataclass
class Looks:
    """An hour passes, and the relay looks for a key in DNS."""

    net: Network
    timepiece: Timepiece
    name: str

    def __call__(self) -> None:
        """Return when it has asked."""
        before = self.net.dns.zone.asked(self.name, "TXT")
        self.timepiece.jump(self.timepiece.distance + timedelta(hours=1))
        wait_until("it was looked for", lambda: self.net.dns.zone.asked(self.name, "TXT") > before)


def test_a_reload_changes_whom_we_trust(net: Network, peer: Peer) -> None:
    """Contract 2: `federation.ca_file`; no message goes to whom the new one does not know."""
    relay = net.relay("trust.test")
    alice = User.of(relay)
    foreign = Authority(net.folder / "foreign", name="foreign")
    with peer.smtp(tls=foreign.context(peer.host)) as mail:
        message_id, reply = alice.send(peer.user())
        assert reply.code == 250
        wait_until("the reason is known", lambda: "4.7." in why(alice, peer.domain))
        relay.reload(federation={"ca_file": f'"{foreign.certificate}"'} | ports(relay))
        [got] = mail.await_deliveries(1)
        assert message_id.encode() in got.octets
        await_empty_queue(relay)
    trusted_before = Peer(net)
    with trusted_before.smtp() as mail:
        assert alice.send(trusted_before.user())[1].code == 250
        wait_until("the reason is known", lambda: "4.7." in why(alice, trusted_before.domain))
        assert not mail.deliveries
        relay.reload(federation={"ca_file": f'"{net.authority.certificate}"'} | ports(relay))
        mail.await_deliveries(1)
        await_empty_queue(relay)


def ports(relay: FederatedRelay) -> dict[str, str]:
    """The keys of `federation` that a reload is to keep."""
    return {name: text for name, text in relay.tables["federation"].items() if name != "ca_file"}
