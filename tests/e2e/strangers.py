"""Mail of a peer that may be anybody, through both doors: port 25 and /mxdeliv."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.builders import make_message
from tests.e2e import wire
from tests.e2e.federation import FederatedRelay, Network, Signer
from tests.e2e.users import Said, User, by_https, by_smtp

PEER = "peer.test"
CAROL = f"carol@{PEER}"
DOORS = [pytest.param(by_smtp, id="smtp"), pytest.param(by_https, id="https")]
STATUS = {
    "250 2.0.0": (200,),
    "451 4.7.5": (503,),
    "554 5.7.1": (400,),
    "554 5.6.0": (400,),
    "500 5.7.1": (400,),
    "554 5.4.6": (400,),
    "550 5.7.1": (403, 404),
    "523 5.7.1": (403,),
    "552 5.3.4": (413,),
}
"""Replies in SMTP form with the HTTP statuses that carry them (policy.md 1.11)."""

both_doors = pytest.mark.parametrize("door", DOORS)


@pytest.fixture(scope="module")
def signer(net: Network) -> Signer:
    net.publish(PEER, net.new_address())
    return net.signer(PEER)


@pytest.fixture
def bob(relay: FederatedRelay) -> User:
    return User.of(relay)


def expect(said: Said, line: str) -> None:
    """See that a door said this, by the right status if it is the web's."""
    assert said.line.startswith(line), said
    if said.status:
        assert said.status in STATUS[said.line[:9]], said


def fresh(sender: str = CAROL, size: int = 1000, **options: object) -> tuple[str, bytes]:
    """A message with a Message-ID of its own."""
    message_id = wire.encrypted(sender, 10)[0]
    return message_id, make_message(sender=sender, size=size, message_id=message_id, **options)


def hand(
    door: object, relay: FederatedRelay, sender: str, recipients: Sequence[str], octets: bytes
) -> Said:
    assert callable(door)
    said = door(relay, sender, recipients, octets)
    assert isinstance(said, Said)
    return said
