"""How long we remember of other relays, and when mail for them is given up: hours in seconds.

libfaketime answers for the time of day, which a test moves forward.
"""

from __future__ import annotations

import pytest

from tests.e2e.dns_zone import Trouble
from tests.e2e.federation import Network
from tests.e2e.federation_fixtures import net as net
from tests.e2e.federation_fixtures import peer as peer
from tests.e2e.hosts import Peer, attempts, relay_of, waiting
from tests.e2e.peers import Answer
from tests.e2e.relay import wait_until
from tests.e2e.timepiece import Timepiece, later, user_by_clock
from tests.e2e.users import User


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Timepiece:
    return Timepiece(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def patient(net: Network, clock: Timepiece) -> User:
    """A user of the relay whose time of day a test sets, forward only."""
    return user_by_clock(net, "patient.test", clock.env)


def test_a_name_that_does_not_exist_is_given_up_after_an_hour(
    patient: User, clock: Timepiece
) -> None:
    """A2.5, H15: resolvers are flaky; after an hour the sender is told."""
    message_id, reply = patient.send("bob@nowhere.test")
    assert reply.code == 250
    later(clock, minutes=50)
    try_again(patient, "nowhere.test")
    assert waiting(patient, "nowhere.test") == 1
    later(clock, minutes=11)
    relay_of(patient).run("queue", "retry", "nowhere.test")
    report = patient.await_report(message_id)
    assert report.failed == {"bob@nowhere.test": "5.1.2"}
    assert waiting(patient, "nowhere.test") == 0


def try_again(user: User, domain: str) -> None:
    """Have what waits for a domain attempted, and wait until it was."""
    before = attempts(user, domain)
    relay_of(user).run("queue", "retry", domain)
    wait_until("it was tried again", lambda: attempts(user, domain) > before)


def test_a_name_whose_servers_fail_is_kept_for_two_days(
    net: Network, patient: User, clock: Timepiece
) -> None:
    """A2.5, A7.1: that is their trouble, not the address's."""
    with net.dns.zone.trouble(Trouble.SERVFAIL, "broken.test"):
        message_id, _ = patient.send("bob@broken.test")
        for _ in range(2):
            later(clock, hours=23)
            try_again(patient, "broken.test")
            assert waiting(patient, "broken.test") == 1
        later(clock, hours=3)
        patient.relay.restart()  # age is looked at once a minute, and at the start
        report = patient.await_report(message_id)
    assert "4.4.3" in report.diagnostics


def test_a_web_site_is_asked_again_after_a_day_and_then_after_two(
    patient: User, clock: Timepiece, peer: Peer
) -> None:
    """A8.1: the time doubles while it stays a web site."""
    with peer.web(Answer(404, b"not found")) as web, peer.smtp() as mail:
        asked = []
        for hours in (0, 23, 2, 25, 22, 2):
            later(clock, hours=hours)
            patient.send(peer.user())
            mail.await_deliveries(len(asked) + 1)
            asked.append(len(web.posts))
        assert asked == [1, 1, 2, 2, 2, 3]
        wait_until("nothing waits", lambda: waiting(patient, peer.domain) == 0)


def test_a_broken_web_server_is_asked_again_after_half_an_hour(
    patient: User, clock: Timepiece, peer: Peer
) -> None:
    """A8.2, and A8.4: once it takes a message it is the first to be asked."""
    with peer.web(Answer(500, b"oops")) as web, peer.smtp() as mail:
        asked = []
        for minutes in (0, 25, 6):
            later(clock, minutes=minutes)
            web.answer = Answer() if minutes == 6 else web.answer
            patient.send(peer.user())
            wait_until("it went", lambda: waiting(patient, peer.domain) == 0)
            asked.append((len(web.posts), len(mail.deliveries)))
        assert asked == [(1, 1), (1, 2), (2, 2)]
