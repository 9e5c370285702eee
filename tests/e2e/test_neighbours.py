"""While somebody misuses the relay, its other users notice next to nothing.

In turns of a second the hostile client rests and works. Meanwhile a neighbour asks NOOP and sends
itself mail, at this relay and at a second one that nobody attacks. Of each turn the slowest
hundredth counts, of all turns the median. That has to stay within twice what it was in the quiet
turns, or what the second relay showed at the same time. Time in which the relay's threads or this
one were ready to run but had no processor (proc(5), schedstat) is not counted. So a busy machine is
no failure, and an unfair relay is.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import wire
from tests.e2e.hostile import ATTACKS
from tests.e2e.raw import RawImap, Sender, client, fill, newcomer, running
from tests.e2e.relay import Relay, wait_until
from tests.e2e.stopwatch import Stopwatch
from tests.e2e.watch import forget_peak, peak_kib, resident_kib
from tests.pace import slowdown

pytestmark = pytest.mark.alone

ROUNDS = 5
TURN_S = 1.0
FACTOR = 2.0
# Below this nobody can tell. A NOOP that comes just behind the beginning of somebody's slice waits
# for its end, and two slices are more than twice what a NOOP takes when nobody works.
NOOP_FLOOR_S = 0.006
# A message takes four round trips and a commit, whose sync takes what the disk likes.
MAIL_FLOOR_S = 0.030
# A hundred handshakes at once are not slices of somebody's work: half the burst is the kernel's.
NOOP_FLOORS_S = {"many_sessions": 0.016}
MAILS_APART_S = 0.030  # more than one burst of EXISTS, spec mail 4.4

# MiB of resident memory above what the relay had before, with all hostile sessions open.
CEILINGS = {
    "slow_reader": 24,
    "endless_literal": 24,
    "pipelined_fetch": 24,
    "bomb": 24,
    "compressed_flood": 24,
    "many_sessions": 48,
    "search_bodies": 24,
}


@pytest.fixture(scope="module")
def relays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Relay, Relay]]:
    """The one that is attacked, and the one that is not."""
    folder = tmp_path_factory.mktemp("neighbours")
    with running(Relay(folder / "attacked")) as attacked, running(Relay(folder / "calm")) as calm:
        yield attacked, calm


@pytest.fixture(scope="module")
def victim(relays: tuple[Relay, Relay]) -> tuple[str, str]:
    """The hostile client's own account: 2,000 messages, and one of the largest size."""
    account = newcomer(relays[0])
    fill(relays[0], account, 2000, size=4000)
    with client(relays[0], account) as raw:
        raw.ok("CREATE Large")
        assert raw.append(wire.encrypted(account[0], 30_000_000)[1], "Large").is_ok
    return account


class Neighbour:
    """Somebody with mail to read and to send."""

    def __init__(self, relay: Relay) -> None:
        self._account = newcomer(relay)
        self._asking = client(relay, self._account, "INBOX")
        self._waiting: RawImap = client(relay, self._account, "INBOX")
        self._waiting.idle()
        self._sender = Sender(relay)
        self._sender.send(self._account[0])  # all threads have begun
        self._waiting.idle_line()
        self._watch = Stopwatch(relay)
        self.noop: list[float] = []
        self.mail: list[float] = []

    def close(self) -> None:
        """Leave."""
        for raw in (self._asking, self._waiting):
            raw.close()
        self._sender.__exit__()

    def ask(self) -> None:
        """One NOOP."""
        self._watch.start()
        self._asking.ok("NOOP")
        self.noop.append(self._watch.elapsed_s())

    def write(self) -> None:
        """One message, from the first octet to the EXISTS in IDLE."""
        self._watch.start()
        self._sender.send(self._account[0])
        assert self._waiting.idle_line().endswith(b" EXISTS")
        self.mail.append(self._watch.elapsed_s())

    def turn(self) -> tuple[float, float]:
        """The slowest hundredth of what was measured since the last call."""
        slowest = _slowest(self.noop), _slowest(self.mail)
        self.noop, self.mail = [], []
        return slowest


def _slowest(times: list[float]) -> float:
    return sorted(times)[math.ceil(len(times) * 0.99) - 1]


def live(neighbours: tuple[Neighbour, ...]) -> None:
    """One turn, both relays in alternation."""
    end = time.monotonic() + TURN_S
    next_mail = 0.0
    while time.monotonic() < end:
        for neighbour in neighbours:
            neighbour.ask()
        if time.monotonic() >= next_mail:
            for neighbour in neighbours:
                neighbour.write()
            next_mail = time.monotonic() + MAILS_APART_S
        time.sleep(0.002)


@contextlib.contextmanager
def attacker(
    relay: Relay, attack: str, account: tuple[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """The process that attacks when it is told to."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.hostile", attack, str(relay.ports["imaps"]), *account],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def tell(process: subprocess.Popen[str], command: str) -> None:
    """Give a command and wait until it is done."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{command}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


def rests(relay: Relay) -> bool:
    """Whether the relay has nothing to do."""
    before = relay.cpu_s()
    time.sleep(0.2)
    return relay.cpu_s() - before < 0.03


Median = dict[str, tuple[float, float]]
"""Who → NOOP and mail, s."""


@pytest.mark.parametrize("attack", ATTACKS)
def test_neighbours_are_served_as_ever(
    relays: tuple[Relay, Relay], victim: tuple[str, str], attack: str
) -> None:
    """The best of a few measurements: who else is on the machine can only make one worse."""
    for is_last in (False, False, True):
        late = too_late(attack, measured(relays, victim, attack))
        if not late or is_last:
            assert not late
            return


def too_late(attack: str, median: Median) -> list[str]:
    """What took neighbours of an attack longer than it may."""
    floors = NOOP_FLOORS_S.get(attack, NOOP_FLOOR_S), MAIL_FLOOR_S
    found = []
    for index, floor in enumerate(floors):
        usual = max(median["quiet"][index], median["other"][index], floor * slowdown() / FACTOR)
        if median["hostile"][index] > FACTOR * usual:
            found.append(("NOOP", "mail")[index])
    return found


def measured(relays: tuple[Relay, Relay], victim: tuple[str, str], attack: str) -> Median:
    """Attack one relay of two now and then; its memory has to stay within bounds."""
    attacked, calm = relays
    turns: dict[str, list[tuple[float, float]]] = {"quiet": [], "hostile": [], "other": []}
    with (
        contextlib.closing(Neighbour(attacked)) as near,
        contextlib.closing(Neighbour(calm)) as far,
        attacker(attacked, attack, victim) as process,
    ):
        tell(process, "stop")
        live((near, far))
        near.turn()
        far.turn()
        before = resident_kib(attacked)
        forget_peak(attacked)
        used = attacked.cpu_s()
        for _ in range(ROUNDS):
            wait_until("the relay rests", lambda: rests(attacked))
            live((near, far))
            turns["quiet"].append(near.turn())
            far.turn()
            tell(process, "go")
            live((near, far))
            turns["hostile"].append(near.turn())
            turns["other"].append(far.turn())
            tell(process, "stop")
        used = attacked.cpu_s() - used
        peak = peak_kib(attacked)
    print(f"{attack}: grown {(peak - before) / 1024:.1f} MiB, {used:.1f} s of CPU")
    assert peak - before < CEILINGS[attack] * 1024
    median: Median = {}
    for who, times in turns.items():
        noop, mail = (statistics.median(values) for values in zip(*times, strict=True))
        median[who] = noop, mail
        print(f"  {who:8} NOOP {noop * 1000:6.1f} ms, mail {mail * 1000:6.1f} ms")
    return median
