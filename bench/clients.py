"""What a crowd of idle clients costs: memory, start, notification among them, a restart.

    python -m bench.clients [--clients 1000] [--compress] [--per-account 25] [--messages 200]
        [--restart TERM|KILL] ...

A relay of its own on loopback, all clients with TLS. Memory is the relay's PSS (`smaps_rollup`)
less that before they came. Start: the relay's CPU seconds from connection to IDLE, with passwords
that were verified before. Notification: from the 250 of the sender to the first EXISTS, and to the
last one of the account's clients. Restart: all clients come back at once, by themselves; a refusal
is a connection that ended before IDLE; `command` is what another client waits for a NOOP meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.idlers import Crowds, Plan
from tests.e2e import raw
from tests.e2e.raw import Sender, TunedRelay, client, newcomer, running

PATIENCE_S = 240.0


def pss_kib(relay: TunedRelay) -> int:
    """Return the proportional set size of the relay."""
    assert relay.process is not None
    rollup = Path(f"/proc/{relay.process.pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the values lies; NaN: there is none."""
    if not values:
        return float("nan")
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def wait_for_all(crowds: Crowds, count: int) -> list[dict[str, Any]]:
    """Wait until everybody idles; returns the last reports, with all arrivals."""
    end = time.monotonic() + PATIENCE_S
    arrivals: list[float] = []
    while time.monotonic() < end:
        reports = crowds.order("report")
        for report in reports:
            arrivals += report["arrivals"]
        if sum(report["idle"] for report in reports) >= count:
            reports[0]["arrivals"] = arrivals
            return reports
        time.sleep(0.1)
    raise SystemExit(f"only {sum(report['idle'] for report in reports)} of {count} came: {reports}")


def measure_notification(
    relay: TunedRelay, crowds: Crowds, accounts: Sequence[tuple[str, str]], messages: int
) -> None:
    """Send messages to one account after another and print how soon its clients know."""
    whole, first, last = [], [], []
    with Sender(relay) as sender:
        sender.send(accounts[0][0])
        time.sleep(0.5)
        crowds.order("report")
        for number in range(messages):
            began_s = time.monotonic()
            sender.send(accounts[number % len(accounts)][0])
            accepted_s = time.monotonic()
            time.sleep(0.05)
            told = [at_s - accepted_s for one in crowds.order("report") for at_s, _ in one["told"]]
            if told:
                whole.append((min(told) + accepted_s - began_s) * 1000)
                first.append(min(told) * 1000)
                last.append(max(told) * 1000)
    print(
        f"send → first EXISTS, ms: p50 {statistics.median(whole):.2f} "
        f"p99 {quantile(whole, 0.99):.2f}; 250 → EXISTS, ms: first "
        f"p50 {statistics.median(first):.2f} p99 {quantile(first, 0.99):.2f}, "
        f"last p50 {statistics.median(last):.2f} p99 {quantile(last, 0.99):.2f} "
        f"({len(first)} of {messages})",
        flush=True,
    )


class Probe:
    """A client that wants in and gives commands all the time; `waits` in ms."""

    def __init__(self, relay: TunedRelay, account: tuple[str, str]) -> None:
        self.waits: list[float] = []
        self._over = threading.Event()
        self._relay, self._account = relay, account
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        while not self._over.is_set():
            with (
                contextlib.suppress(OSError, AssertionError, raw.Closed),
                client(self._relay, self._account) as other,
            ):
                while not self._over.is_set():
                    began_s = time.monotonic()
                    other.ok("NOOP")
                    self.waits.append((time.monotonic() - began_s) * 1000)
                    time.sleep(0.01)

    def end(self) -> list[float]:
        """Leave; returns all waits."""
        self._over.set()
        self._thread.join()
        return self.waits


def restart(relay: TunedRelay, crowds: Crowds, count: int, how: str) -> None:
    """Stop the relay one way or the other and print how its clients come back."""
    crowds.order("forget")
    crowds.order("report")
    began_s = time.monotonic()
    if how == "KILL":
        relay.kill()
    else:
        relay.stop()
    down_s = time.monotonic()
    relay.start()
    ready_s = time.monotonic()
    cpu_s = relay.cpu_s()
    probe = Probe(relay, relay.credentials())
    reports = wait_for_all(crowds, count)
    cpu_s = relay.cpu_s() - cpu_s
    waits = probe.end()
    after = sorted(at_s - ready_s for at_s in reports[0]["arrivals"])[-count:]
    refusals: Counter[int] = Counter()
    reasons: Counter[str] = Counter()
    for report in reports:
        reasons += report["reasons"]
        refusals += report["refusals"]
    twice = sum(clients for times, clients in refusals.items() if times > 1)
    once = refusals.get(1, 0)
    print(
        f"SIG{how}: down after {down_s - began_s:.1f} s, ready after {ready_s - began_s:.1f} s; "
        f"back after ready, s: p50 {quantile(after, 0.5):.1f} p99 {quantile(after, 0.99):.1f} "
        f"last {after[-1]:.1f}; {cpu_s / count * 1000:.2f} ms CPU each; "
        f"refused once {once}, more often {twice} {dict(reasons) or ''}; BYE heard by "
        f"{sum(report['byes'] for report in reports)}; {len(waits)} commands of another client, "
        f"ms: p50 {quantile(waits, 0.5):.0f} p99 {quantile(waits, 0.99):.0f}"
        f" longest {quantile(waits, 1.0):.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--per-account", type=int, default=25)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--compress", action="store_true")
    parser.add_argument("--program", help="another checkout whose program is to be measured")
    parser.add_argument("--messages", type=int, default=200)
    parser.add_argument("--restart", action="append", default=[], choices=("TERM", "KILL"))
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = arguments.clients
    with tempfile.TemporaryDirectory() as folder:
        environment = {"PYTHONPATH": arguments.program} if arguments.program else {}
        relay = TunedRelay(Path(folder), rate=0, env=environment)
        with running(relay):
            accounts = _accounts(relay, -(-count // arguments.per_account))
            before_kib, before_s = pss_kib(relay), relay.cpu_s()
            plan = Plan(
                port=relay.ports["imaps"],
                accounts=tuple(accounts),
                clients=count,
                compress=arguments.compress,
                at_once=64,
            )
            crowds = Crowds(plan, arguments.processes)
            wait_for_all(crowds, count)
            spent_s = relay.cpu_s() - before_s
            time.sleep(2)
            kib = pss_kib(relay) - before_kib
            print(
                f"{count} clients, {len(accounts)} accounts, compress={arguments.compress}: "
                f"{kib / count:.1f} KiB PSS each ({before_kib / 1024:.0f} MiB before), "
                f"start {spent_s / count * 1000:.2f} ms CPU each",
                flush=True,
            )
            if arguments.messages:
                measure_notification(relay, crowds, accounts, arguments.messages)
            for how in arguments.restart:
                restart(relay, crowds, count, how)
            crowds.end()


def _accounts(relay: TunedRelay, count: int) -> list[tuple[str, str]]:
    made: list[tuple[str, str]] = []

    for _ in range(count):
        made.append(newcomer(relay))
    return made


if __name__ == "__main__":
    main()
