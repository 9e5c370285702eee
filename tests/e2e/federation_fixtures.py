"""What most modules of federation start with: a private internet, our relay in it, its users."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.federation import FederatedRelay, Network, network
from tests.e2e.hosts import Peer
from tests.e2e.users import User


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """The hosts of one module."""
    with network(tmp_path_factory.mktemp("net")) as net:
        yield net


@pytest.fixture(scope="module")
def relay(net: Network) -> FederatedRelay:
    """Ours."""
    return net.relay("a.test")


@pytest.fixture(scope="module")
def alice(relay: FederatedRelay) -> User:
    """Who writes to others."""
    return User.of(relay)


@pytest.fixture(scope="module")
def bob(relay: FederatedRelay) -> User:
    """Whom others write to."""
    return User.of(relay)


@pytest.fixture
def peer(net: Network) -> Peer:
    """A host with names of its own."""
    return Peer(net)
