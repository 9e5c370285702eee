"""IDLE: news come after the `+`, to the right sessions, and outlive SIGHUP and restarts.

Numbers in docstrings are those of spec mail 11.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest

from tests.e2e.raw import (
    Answer,
    Closed,
    RawImap,
    Sender,
    TunedRelay,
    client,
    fill,
    in_parallel,
    newcomer,
    running,
)
from tests.e2e.relay import Relay, wait_until
from tests.e2e.stopwatch import Stopwatch
from tests.e2e.watch import resident_kib
from tests.pace import slowdown

KEEPALIVE_S = 60
CROWD = 200
DEVICES = 5
BACK_S = 200
"""How long a machine that does much else may take; the relay's processor time is what is judged."""


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """One relay for the whole file, with the shortest keepalive there is."""
    keepalive = f'[imap]\nidle_keepalive = "{KEEPALIVE_S}s"'
    with running(TunedRelay(tmp_path_factory.mktemp("idle"), sections=keepalive)) as relay:
        yield relay


@dataclass
class Quiet:
    """A session in IDLE that nobody writes to; `first`: what it is told first, after how long."""

    raw: RawImap
    tag: bytes
    first: Future[tuple[bytes, float]]


@pytest.fixture(scope="module", autouse=True)
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quiet]:
    """A session of a relay of its own that is silent while the other tests run."""
    keepalive = f'[imap]\nidle_keepalive = "{KEEPALIVE_S}s"'
    with (
        running(TunedRelay(tmp_path_factory.mktemp("quiet"), sections=keepalive)) as relay,
        ThreadPoolExecutor(1) as pool,
        client(relay, newcomer(relay), "INBOX") as raw,
    ):
        raw.socket.settimeout(2 * KEEPALIVE_S)
        began = time.monotonic()
        tag = raw.idle()
        yield Quiet(
            raw, tag, pool.submit(lambda: (raw.response().octets, time.monotonic() - began))
        )


def has_news(raw: RawImap) -> bool:
    """Whether a session that idles was told of anything but keepalives."""
    while not raw.is_silent(0.01):
        if raw.response().octets != b"* OK Still here\r\n":
            return True
    return False


# --- 11: what others do -------------------------------------------------------------------------


def test_idle_hears_of_flags_and_of_expunges(relay: Relay) -> None:
    """11; numbers stay consistent."""
    account = newcomer(relay)
    fill(relay, account, 5)
    with client(relay, account, "INBOX") as a, client(relay, account, "INBOX") as b:
        tag = a.idle()
        b.ok("UID STORE 3 +FLAGS (\\Seen)")
        assert a.idle_line() == b"* 3 FETCH (UID 3 FLAGS (\\Seen))"
        b.ok("UID STORE 2,4 +FLAGS (\\Deleted)")
        told = {a.idle_line(), a.idle_line()}
        assert told == {b"* %d FETCH (UID %d FLAGS (\\Deleted))" % (n, n) for n in (2, 4)}
        b.ok("CLOSE")
        numbers = [int(a.idle_line().split()[1]) for _ in range(2)]
        assert sorted(numbers) == ([2, 4] if numbers[0] > numbers[1] else [2, 3])
        a.done(tag)
        rows = a.ok("FETCH 1:* (UID)").find(rb"^\* (\d+) FETCH \(UID (\d+)\)")
        assert rows == [(b"1", b"1"), (b"2", b"3"), (b"3", b"5")]


def test_numbers_stay_consistent_under_change(relay: Relay) -> None:
    """11: a view kept from EXISTS and EXPUNGE alone always equals what FETCH says."""
    account = newcomer(relay)
    view: list[int] = []

    def follow(answer: Answer) -> None:
        for line in answer.lines:
            number, what = int(line.split()[1]), line.split()[2]
            if what == b"EXPUNGE":
                del view[number - 1]
            elif what == b"EXISTS":
                assert number >= len(view)
                view.extend([0] * (number - len(view)))

    with (
        client(relay, account, "INBOX") as a,
        client(relay, account, "INBOX") as b,
        Sender(relay) as sender,
    ):
        for uid in range(1, 26):
            sender.send(account[0], size=300)
            if uid % 3 == 0:
                b.ok("NOOP")  # it stores what it was told of
                b.ok(f"UID STORE {uid - 1} +FLAGS.SILENT (\\Deleted)")
                b.ok("EXPUNGE")
            if uid % 4 == 0:
                tag = a.idle()
                b.ok("NOOP")
                follow(a.done(tag))
            else:
                follow(a.ok("NOOP"))
            rows = a.ok("FETCH 1:* (UID)").find(rb"^\* (\d+) FETCH \(UID (\d+)\)")
            assert [int(number) for number, _ in rows] == list(range(1, len(view) + 1))
            assert [int(found) for _, found in rows] == [
                there for there in range(1, uid + 1) if there % 3 != 2 or there == uid
            ]


def test_own_changes_are_not_echoed(relay: Relay) -> None:
    """Spec 4.6 rule 4."""
    account = newcomer(relay)
    fill(relay, account, 2)
    with client(relay, account, "INBOX") as raw:
        raw.ok("UID STORE 1 +FLAGS.SILENT (\\Seen)")
        assert raw.ok("NOOP").lines == []
        tag = raw.idle()
        assert raw.is_silent(1.3)
        assert raw.done(tag).lines == []


# --- 13: between SELECT and IDLE ----------------------------------------------------------------


@pytest.mark.parametrize("is_compressed", [False, True], ids=["plain", "COMPRESS"])
def test_mail_between_select_and_idle_is_told_after_the_plus(
    relay: Relay, is_compressed: bool
) -> None:
    """13, traps T7, T8: twice 100 times."""
    account = newcomer(relay)
    slowest = 0.0
    stopwatch = Stopwatch(relay)
    with client(relay, account) as raw, Sender(relay) as sender:
        if is_compressed:
            raw.compress()
        for turn in range(100):
            count = raw.select().number(rb"(\d+) EXISTS")
            assert count == turn
            if turn % 2:
                sender.send(account[0], size=300)
                tag = raw.idle()
            else:  # at the same time
                thread = threading.Thread(
                    target=sender.send, args=(account[0],), kwargs={"size": 300}
                )
                thread.start()
                tag = raw.idle()
            if not turn % 2:
                thread.join()
            stopwatch.start()
            assert raw.idle_line() == b"* %d EXISTS" % (turn + 1)
            slowest = max(slowest, stopwatch.elapsed_s())
            assert raw.done(tag).lines == []
    print(f"slowest EXISTS after + and 250: {slowest * 1000:.0f} ms")
    assert slowest < 1


def test_bursts_are_one_line_and_done_is_taken_in_every_spelling(relay: Relay) -> None:
    """14; spec 4.4 IDLE 3 and 5."""
    account = newcomer(relay)
    stopwatch = Stopwatch(relay)
    with client(relay, account, "INBOX") as raw, Sender(relay) as sender:
        for done in (b"DONE\r\n", b"done\r\n", b"DONE\n"):
            tag = raw.idle()
            stopwatch.start()
            raw.send(done)
            assert raw.answer(tag).is_ok
            assert stopwatch.elapsed_s() < 1
        tag = raw.idle()
        raw.send(b"NOOP\r\n")
        assert raw.answer(tag).tagged.startswith(tag + b" BAD ")
        tag = raw.idle()
        sender.send(account[0])
        first = raw.idle_line()
        assert first == b"* 1 EXISTS"
        for _ in range(20):
            sender.send(account[0], size=300)
        lines: list[bytes] = []
        while not lines or lines[-1] != b"* 21 EXISTS":
            lines.append(raw.idle_line())
        assert all(line.endswith(b" EXISTS") for line in lines)
        raw.done(tag)
        raw.ok("UNSELECT")
        raw.done(raw.idle())  # with no mailbox: keepalives only, no BAD


def test_a_session_that_idles_elsewhere_is_not_written_to(relay: Relay) -> None:
    """15, scaled down: one delivery writes to the sessions of its account and to no other."""
    rss = resident_kib(relay)
    accounts = [newcomer(relay) for _ in range(5)]
    with contextlib.ExitStack() as stack:
        sessions = [
            [stack.enter_context(client(relay, account, "INBOX")) for _ in range(10)]
            for account in accounts
        ]
        tags = [[raw.idle() for raw in group] for group in sessions]
        print(f"KiB per idle session: {(resident_kib(relay) - rss) / 50:.0f}")
        with Sender(relay) as sender:
            sender.send(accounts[3][0])
            stopwatch = Stopwatch(relay)
            stopwatch.start()
            for raw in sessions[3]:
                assert raw.idle_line() == b"* 1 EXISTS"
            took = stopwatch.elapsed_s()
        print(f"commit to the tenth EXISTS: {took * 1000:.0f} ms")
        assert took < 0.5
        others = [raw for group in sessions if group is not sessions[3] for raw in group]
        assert [raw for raw in others if has_news(raw)] == []
        assert sessions[0][0].done(tags[0][0]).lines == []


@pytest.mark.parametrize("word", ["CLOSE", "EXPUNGE"])
def test_an_expunge_wakes_all_who_idle_there_and_nobody_else(relay: Relay, word: str) -> None:
    """15 and 11, scaled down: three accounts, 20 sessions each."""
    accounts = [newcomer(relay) for _ in range(3)]
    for account in accounts:
        fill(relay, account, 3)
    with contextlib.ExitStack() as stack:
        sessions = [
            [stack.enter_context(client(relay, account, "INBOX")) for _ in range(20)]
            for account in accounts
        ]
        tags = [[raw.idle() for raw in group] for group in sessions]
        with client(relay, accounts[1], "INBOX") as device:
            device.ok("UID STORE 1,3 +FLAGS.SILENT (\\Deleted)")
            for raw in sessions[1]:
                told = {raw.idle_line(), raw.idle_line()}
                assert all(b"\\Deleted" in line for line in told)
            stopwatch = Stopwatch(relay)
            stopwatch.start()
            device.ok(word)
            for raw in sessions[1]:
                assert [raw.idle_line() for _ in range(2)] == [b"* 3 EXPUNGE", b"* 1 EXPUNGE"]
            took = stopwatch.elapsed_s()
        print(f"{word} to the last of 40 lines: {took * 1000:.0f} ms")
        assert took < 2
        others = [raw for group in sessions if group is not sessions[1] for raw in group]
        assert [raw for raw in others if has_news(raw)] == []
        for raw, tag in zip(sessions[1], tags[1], strict=True):
            assert raw.done(tag).lines == []
            assert raw.ok("FETCH 1:* (UID)").lines == [b"* 1 FETCH (UID 2)"]


def test_sighup_keeps_idle_and_its_news(relay: Relay) -> None:
    """Contract 1: a reload closes nothing, and what comes afterwards is told."""
    account = newcomer(relay)
    with client(relay, account, "INBOX") as raw, Sender(relay) as sender:
        tag = raw.idle()
        assert relay.process is not None
        for turn in range(1, 4):
            heard = len(relay.errors)
            relay.process.send_signal(signal.SIGHUP)
            wait_until("it reloaded", lambda at=heard: "reloaded" in str(relay.errors[at:]))
            sender.send(account[0])
            assert raw.idle_line() == b"* %d EXISTS" % turn
        assert raw.done(tag).lines == []


def test_compressed_idle_hears_news_and_holds_no_compressor(relay: Relay) -> None:
    """16: no octet before the client's first; spec 4.4: ≤ 80 KiB for an idle session with it."""
    account = newcomer(relay)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(RawImap(relay)))
        rss = resident_kib(relay)
        sessions = []
        for _ in range(25):
            raw = stack.enter_context(client(relay, account, "INBOX"))
            raw.compress()
            sessions.append(raw)
        with Sender(relay) as sender:
            sender.send(account[0])
            assert all(raw.is_silent(0.01) for raw in sessions)
            tags = [raw.idle() for raw in sessions]
            assert {raw.idle_line() for raw in sessions} == {b"* 1 EXISTS"}
            each = (resident_kib(relay) - rss) / len(sessions)
            print(f"KiB per compressed idle session: {each:.0f}")
            assert each < 160  # with what Python keeps for the next ones
            for raw, tag in zip(sessions, tags, strict=True):
                raw.done(tag)


# --- 44: the restart ----------------------------------------------------------------------------


def come_back(relay: Relay, account: tuple[str, str], refusals: list[bytes]) -> RawImap:
    """Connect, log in, select and idle; patient with `UNAVAILABLE`, as core is."""
    end = time.monotonic() + BACK_S
    while True:
        assert time.monotonic() < end, refusals[-3:]
        try:
            raw = RawImap(relay)
        except OSError:
            time.sleep(0.25)  # nobody listens yet
            continue
        try:
            raw.greet()
            answer = raw.run(f'LOGIN "{account[0]}" "{account[1]}"')
            if answer.is_ok:
                raw.select()
                raw.idle()
                return raw
            refusals.append(answer.tagged)
        except (Closed, OSError):
            pass
        raw.close()


def test_restart_brings_every_client_back_into_idle(relay: Relay) -> None:
    """44, scaled down to 200 clients of 40 accounts."""
    accounts = [newcomer(relay) for _ in range(CROWD // DEVICES)] * DEVICES
    refusals: list[bytes] = []
    clients = [come_back(relay, account, refusals) for account in accounts]
    others = [RawImap(relay), RawImap(relay, "imap"), client(relay, newcomer(relay), "INBOX")]
    others[0].greet()
    others[1].greet()
    others.append(client(relay, newcomer(relay), "INBOX"))
    others[3].compress()
    others[3].idle()
    stopper = threading.Thread(target=relay.stop)
    stopper.start()
    for raw in [*clients, *others]:
        assert raw.idle_line() == b"* BYE [UNAVAILABLE] Server restarting"
        assert raw.rest() == b""
        raw.close()
    stopper.join(60)
    back: list[tuple[str, RawImap]] = []

    def reconnect(account: tuple[str, str]) -> None:
        back.append((account[0], come_back(relay, account, refusals)))

    began = time.monotonic()
    starter = threading.Thread(target=relay.start)
    starter.start()
    try:
        in_parallel([partial(reconnect, account) for account in accounts])
        took = time.monotonic() - began
        starter.join(60)
        cpu = relay.cpu_s()
        print(f"{CROWD} clients back in {took:.1f} s, CPU {cpu:.1f} s with the start")
        assert not [line for line in refusals if b"authentication" in line.lower()]
        assert took < BACK_S
        assert cpu < 12 * slowdown()
        with Sender(relay) as sender:
            sender.send(accounts[0][0])
            devices = [raw for address, raw in back if address == accounts[0][0]]
            assert [raw.idle_line() for raw in devices] == [b"* 1 EXISTS"] * DEVICES
    finally:
        starter.join(60)
        for _, raw in back:
            raw.close()
    assert len(back) == CROWD


# --- 14: the keepalive (last: it has been waiting since the first test) -------------------------


def test_silent_idle_gets_nothing_but_keepalives(quiet: Quiet) -> None:
    """14, trap T9."""
    told, waited = quiet.first.result()
    assert told == b"* OK Still here\r\n"
    assert set(quiet.raw.done(quiet.tag).lines) <= {b"* OK Still here"}
    print(f"keepalive heard after {waited:.0f} s")
    assert 0.8 * KEEPALIVE_S < waited < KEEPALIVE_S + 60
