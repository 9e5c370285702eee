"""The policy in force follows the operator's list and the settings."""

from __future__ import annotations

from chatmail.domain.model.federation import Dismissal, PeerAction, PeerRule
from tests.unit.domain.usecases.abroad import PEER, RelayAbroad


async def test_changes_of_the_lists_are_followed_at_once() -> None:
    relay = RelayAbroad()
    assert relay.policy.allows(PEER)
    await relay.directory.put_rule(PeerRule(PEER, PeerAction.LISTED, 0))
    assert not relay.policy.allows(PEER)
    relay.federate(rejects_by_default=True)
    assert relay.policy.allows(PEER)
    assert not relay.policy.allows("other.test")
    assert not relay.policy.dismisses(PEER)
    await relay.directory.put_dismissal(Dismissal(PEER, 0))
    assert relay.policy.dismisses(PEER)


async def test_nobody_is_allowed_when_federation_is_off() -> None:
    relay = RelayAbroad()
    await relay.directory.put_rule(PeerRule(PEER, PeerAction.ALLOW, 0))
    relay.federate(is_enabled=False)
    assert not relay.policy.allows(PEER)


async def test_a_list_is_compiled_once() -> None:
    relay = RelayAbroad()
    await relay.directory.put_rule(PeerRule(PEER, PeerAction.LISTED, 0))
    relay.policy.allows(PEER)
    book = relay.policy._rules.of(relay.directory.rules())
    relay.policy.allows("other.test")
    assert relay.policy._rules.of(relay.directory.rules()) is book
