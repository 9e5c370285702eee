"""Too many connections: descriptors run out, or the caps are reached; who is in is served on.

CHATMAIL_TEST_SOCKETS=19000 makes the crowd as large as file descriptors allow, CHATMAIL_TEST_FILES
says how many the relay has left in the first test.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import smtplib
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e import raw, wire
from tests.e2e.raw import RawImap, TunedRelay
from tests.e2e.relay import Relay, wait_until
from tests.e2e.watch import Watch

pytestmark = pytest.mark.alone

FILES = int(os.environ.get("CHATMAIL_TEST_FILES", "200"))
SOCKETS = int(os.environ.get("CHATMAIL_TEST_SOCKETS", "2500"))


class Crowd:
    """Connections that say nothing."""

    def __init__(self, relay: Relay, face: str) -> None:
        self._address = ("127.0.0.1", relay.ports[face])
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def come(self, count: int) -> None:
        """Open more connections."""
        for _ in range(count):
            self._sockets.append(socket.create_connection(self._address, 60))

    def leave(self) -> None:
        """Close all of them."""
        for one in self._sockets:
            one.close()
        self._sockets.clear()

    def greetings(self, within_s: float) -> tuple[int, int, int]:
        """Read what each was told first; returns how many were greeted, refused, closed at once."""
        waiting = {one.fileno(): one for one in self._sockets}
        poll = select.poll()
        for number in waiting:
            poll.register(number, select.POLLIN)
        found = []
        end = time.monotonic() + within_s
        while waiting and time.monotonic() < end:
            for number, _ in poll.poll(1000):
                poll.unregister(number)
                octets = b""
                with contextlib.suppress(ConnectionError):
                    octets = waiting.pop(number).recv(4096)
                found.append(octets)
        refused = sum(one.startswith((b"* BYE", b"421")) for one in found)
        closed = sum(one == b"" for one in found)
        return len(found) - refused - closed, refused, closed


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[TunedRelay]:
    """A relay to be crowded."""
    with raw.running(TunedRelay(tmp_path / "relay")) as relay:
        yield relay


def serves(relay: Relay) -> bool:
    """Whether a new client gets in."""
    try:
        with RawImap(relay, "imap") as client:
            client.socket.settimeout(5)
            client.greet()
    except (OSError, raw.Closed, AssertionError):
        return False
    return True


def test_without_descriptors_sessions_go_on_and_newcomers_are_turned_away(
    relay: TunedRelay,
) -> None:
    bob, alice = raw.newcomer(relay), relay.credentials()
    with (
        raw.client(relay, bob, "INBOX") as idler,
        raw.client(relay, bob, "INBOX") as reader,
        wire.smtp(relay, *alice) as sender,
    ):

        def send() -> None:
            sender.sendmail(alice[0], [bob[0]], wire.encrypted(alice[0])[1])

        send()
        reader.ok("NOOP")
        assert reader.ok("UID FETCH 1 (BODY.PEEK[])").literals
        tag = idler.idle()
        assert relay.process is not None
        resource.prlimit(relay.process.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
        began = time.monotonic()
        with Crowd(relay, "imap") as crowd:
            crowd.come(FILES + 50)
            _, _, closed = crowd.greetings(within_s=10)
            assert closed, "whoever cannot be served is not left waiting"
            wait_until("it is told", lambda: told(relay) > 0)
            assert not serves(relay)
            # Who was there before is served as before.
            for number in range(2, 7):
                send()
                while f"* {number} EXISTS\r\n".encode() != idler.response().octets:
                    pass
            reader.ok("NOOP")
            assert len(reader.ok("UID FETCH 1:6 (BODY.PEEK[])").literals) == 6
            assert reader.append(wire.encrypted(bob[0])[1]).is_ok
            # What needs a descriptor of its own is refused for now: this one goes through a file.
            with pytest.raises(smtplib.SMTPResponseException) as refused:
                sender.sendmail(alice[0], [bob[0]], wire.encrypted(alice[0], 600_000)[1])
            assert refused.value.smtp_code in (451, 452)
            minutes = (time.monotonic() - began) // 60
            assert told(relay) <= 1 + minutes, "one line a minute is enough"
        wait_until("newcomers get in again", lambda: serves(relay))
        raw.newcomer(relay)
        send()
        assert idler.done(tag).is_ok
        assert reader.ok("STATUS INBOX (MESSAGES)").number(rb"MESSAGES (\d+)") == 8
    print(f"{FILES} descriptors used up: {closed} newcomers turned away, sessions went on, healed")


def told(relay: Relay) -> int:
    """How often the log speaks of descriptors."""
    return sum("out_of_file_descriptors" in line.split() for line in relay.errors)


def test_a_crowd_beyond_the_cap_is_refused_and_the_rest_served(tmp_path: Path) -> None:
    """Contract 2, `limits.max_imap_connections`; within a minute at any size."""
    cap = SOCKETS * 4 // 5
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < SOCKETS + 200:
        pytest.skip(f"only {hard} file descriptors here")
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        relay = stack.enter_context(
            raw.running(TunedRelay(tmp_path / "relay", limits=f"max_imap_connections = {cap}"))
        )
        bob = raw.newcomer(relay)
        began = time.monotonic()
        with (
            raw.client(relay, bob, "INBOX") as reader,
            Crowd(relay, "imap") as crowd,
            Watch(relay) as watch,
        ):
            crowd.come(SOCKETS)
            greeted, refused, closed = crowd.greetings(within_s=60)
            assert greeted == cap - 2, "the two that were here count as well"
            # Nobody is left hanging; in cleartext the refusal has words (RFC 5530).
            assert (refused, closed) == (SOCKETS - greeted, 0)
            reader.ok("NOOP")
            with raw.Sender(relay) as sender:  # another protocol, another crowd
                sender.send(bob[0])
            assert b"* 1 EXISTS" in reader.ok("NOOP").lines
        wait_until("there is room again", lambda: serves(relay))
        took = time.monotonic() - began
    print(
        f"{SOCKETS} connections: {greeted} greeted, {refused + closed} refused in {took:.0f} s,"
        f" {watch.grown_kib / greeted:.1f} KiB each, slowest answer {watch.slowest_s:.2f} s"
    )
