"""Recipients are ours or another relay's."""

from __future__ import annotations

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.policy.routing import split


def test_order_is_kept_on_both_sides() -> None:
    ours = frozenset({"relay.test", "[127.0.0.1]"})
    texts = ["a@relay.test", "b@other.test", "c@127.0.0.1", "d@other.test"]
    local, remote = split([EmailAddress.parse(text) for text in texts], ours)
    assert [str(address) for address in local] == ["a@relay.test", "c@[127.0.0.1]"]
    assert [str(address) for address in remote] == ["b@other.test", "d@other.test"]
