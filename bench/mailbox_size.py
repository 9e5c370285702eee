"""What depends on the size of a mailbox: SELECT, delivery, notification, flags, expunge.

    python -m bench.mailbox_size [--sizes 100,10000,100000] [--rounds 60]

A relay of its own on loopback; the mailbox is filled through the store while no server runs.
Times are medians in ms; what is called first comes after a restart, with nothing in memory.
`first SELECT, gaps`: after another restart, with every fiftieth message gone. A neighbour's longest
wait: of a client that sends NOOP all the time during a first SELECT and during `FLAGS of all`.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import trio

from bench.store import _Clock, _Hints, _Log
from chatmail.adapters.storage.store import open_store
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.message import Body
from chatmail.domain.ports.intake import Delivery, IntakeBatch
from tests.builders import make_message
from tests.e2e.raw import Sender, TunedRelay, client, newcomer, running

PER_COMMIT = 1000
MOST = 100_000 - 500
"""An account may hold 100,000; some are to come during the measurement."""


async def _fill(state_dir: Path, address: str, count: int) -> None:
    async with (
        open_store(state_dir, "sqlite", _Hints(), _Clock(), _Log()) as store,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(store.run)
        account = await store.accounts.get(EmailAddress.parse(address))
        assert account is not None
        header, _, content = make_message(size=600).partition(b"\r\n\r\n")
        body = Body(header + b"\r\n\r\n", (content,), len(content))
        while count > 0:
            some = min(count, PER_COMMIT)
            batch = IntakeBatch(
                body=body,
                internal_date_s=int(time.time()),
                deliveries=(Delivery(account.inbox),) * some,
            )
            await store.intake.commit(batch)
            count -= some
        nursery.cancel_scope.cancel()


def _timed(action: object) -> float:
    began = time.perf_counter()
    action()  # type: ignore[operator]
    return (time.perf_counter() - began) * 1000


def measure(size: int, rounds: int, folder: Path) -> dict[str, float]:
    """Return medians in ms by what was done."""
    relay = TunedRelay(folder, rate=0)
    with running(relay):
        account = newcomer(relay)
    trio.run(_fill, folder / "state", account[0], min(size, MOST))
    found = {}
    with running(relay), client(relay, account) as watcher:
        with _neighbour(relay, account) as waits:
            found["first SELECT"] = _timed(watcher.select)
        found["… neighbour's longest wait"] = max(waits)
        found["first FETCH of the last"] = _timed(lambda: watcher.ok("FETCH * (FLAGS)"))
        with _neighbour(relay, account) as waits:
            found["first FLAGS of all"] = _timed(lambda: watcher.ok("FETCH 1:* (FLAGS)"))
        found["… neighbour's longest wait "] = max(waits)
        gaps = ",".join(map(str, range(3, min(size, 20_000), 50)))
        watcher.ok(f"UID STORE {gaps} +FLAGS.SILENT (\\Deleted)")
        watcher.ok("EXPUNGE")
    with running(relay), client(relay, account) as watcher, client(relay, account) as other:
        found["first SELECT, gaps"] = _timed(watcher.select)
        found["SELECT"] = statistics.median(_timed(watcher.select) for _ in range(rounds))
        other.select()
        number = size // 2
        flags = []
        for turn in range(rounds):
            sign = "+-"[turn % 2]
            command = f"UID STORE {number} {sign}FLAGS.SILENT (\\Flagged)"
            flags.append(_timed(lambda text=command: other.ok(text)))  # type: ignore[misc]
        found["flag change"] = statistics.median(flags)
        found.update(_deliveries(relay, account, rounds))
        uids = range(size // 2 + 1, size // 2 + 1 + rounds)
        other.ok("NOOP")
        found["expunge of one"] = statistics.median(
            _timed(lambda uid=uid: _expunge(other, uid))  # type: ignore[misc]
            for uid in uids
        )
        found["FLAGS of all"] = _timed(lambda: other.ok("UID FETCH 1:* (FLAGS)"))
        return found


@contextlib.contextmanager
def _neighbour(relay: TunedRelay, account: tuple[str, str]) -> Iterator[list[float]]:
    """Keep another client busy, in a process of its own; at the end its longest wait in ms."""
    longest: list[float] = []
    fork = multiprocessing.get_context("fork")
    ready, over, (told, tell) = fork.Event(), fork.Event(), fork.Pipe(duplex=False)

    def work() -> None:
        waits = [0.0]
        with client(relay, account) as other:
            other.ok("NOOP")
            ready.set()
            while not over.is_set():
                waits.append(_timed(lambda: other.ok("NOOP")))
        tell.send(max(waits))

    child = fork.Process(target=work)
    child.start()
    ready.wait()
    try:
        yield longest
    finally:
        over.set()
        longest.append(told.recv())
        child.join()


def _expunge(session: object, uid: int) -> None:
    session.ok(f"UID STORE {uid} +FLAGS.SILENT (\\Deleted)")  # type: ignore[attr-defined]
    session.ok(f"UID EXPUNGE {uid}")  # type: ignore[attr-defined]


def _deliveries(relay: TunedRelay, account: tuple[str, str], rounds: int) -> dict[str, float]:
    accepted, told = [], []
    with client(relay, account, "INBOX") as idler, Sender(relay) as sender:
        tag = idler.idle()
        for _ in range(rounds):
            began = time.perf_counter()
            sender.send(account[0])
            accepted.append((time.perf_counter() - began) * 1000)
            idler.idle_line()
            told.append((time.perf_counter() - began) * 1000)
            time.sleep(0.03)  # beyond the burst window
        idler.done(tag)
    return {
        "send → 250": statistics.median(accepted),
        "send → EXISTS": statistics.median(told),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="100,10000,100000")
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    columns = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            columns.append(measure(size, arguments.rounds, Path(folder)))
    print(f"{'messages':28}" + "".join(f"{size:>12,}" for size in sizes))
    for name in columns[0]:
        print(f"{name:28}" + "".join(f"{column[name]:12.2f}" for column in columns))


if __name__ == "__main__":
    main()
