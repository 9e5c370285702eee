"""One self-signed certificate for the whole run, and listeners on loopback."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from trio.testing import MockClock

from chatmail.adapters.acme.selfsigned import ensure_self_signed
from chatmail.adapters.net.certificates import CertificatePair
from chatmail.adapters.net.tls import TlsKeeper
from tests.unit.adapters.net.rig import close_tracked

DELIVERY_S = 0.005


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> CertificatePair:
    directory: Path = tmp_path_factory.mktemp("tls")
    return ensure_self_signed(directory, ["127.0.0.1", "relay.test"], time.time())


@pytest.fixture(scope="session")
def other_pair(tmp_path_factory: pytest.TempPathFactory) -> CertificatePair:
    directory: Path = tmp_path_factory.mktemp("tls-other")
    return ensure_self_signed(directory, ["127.0.0.1", "relay.test"], time.time())


@pytest.fixture
def keeper(pair: CertificatePair) -> TlsKeeper:
    return TlsKeeper(pair, now_s=time.time)


@pytest.fixture
def autojump_clock() -> MockClock:
    """A clock that jumps when the kernel has had time to deliver what is on its way.

    That takes none as a rule: what is sent to this machine has arrived when the call returns. On a
    busy one a thread of the kernel may do it, a moment later.
    """
    return MockClock(autojump_threshold=DELIVERY_S)


@pytest.fixture(autouse=True)
def _closed_sockets() -> Iterator[None]:
    yield
    close_tracked()
