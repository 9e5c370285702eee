"""Mail between two relays on one machine: latency, CPU and rate per transport, a dead peer beside.

    python -m bench.federation [--messages 400] [--octets 20000] [--dead 10000]

Two relays with names, certificates and DKIM keys on a private internet (`tests/e2e/federation.py`).
CPU is that of each relay's process; ours hands in on the one side and fetches nothing on the other.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path

from tests.e2e import wire
from tests.e2e.cores import Cores, await_text, introduce
from tests.e2e.federation import FederatedRelay, Network, await_empty_queue, free_ports
from tests.e2e.raw import Sender, client, newcomer
from tests.e2e.relay import wait_until

SENDERS = 8
ROUNDS = 150
CORE_ROUNDS = 40
APART_S = 0.04
"""A burst of news is told at once after 20 ms (spec mail 4.4): that is not what is measured."""


def latency(sending: FederatedRelay, receiving: FederatedRelay, rounds: int) -> list[float]:
    """Return seconds from the first octet to EXISTS in the recipient's IDLE."""
    account = newcomer(receiving)
    times = []
    with client(receiving, account, "INBOX") as box, Sender(sending) as sender:
        box.idle()
        for number in range(rounds + 5):
            began = time.perf_counter()
            sender.send(account[0], size=2000)
            while not box.idle_line().endswith(b" EXISTS"):
                pass
            if number >= 5:
                times.append(time.perf_counter() - began)
            time.sleep(APART_S)
    return times


def chat(folder: Path, first: FederatedRelay, second: FederatedRelay, rounds: int) -> list[float]:
    """Return seconds from a core's send to the other core's event, in turns."""
    cores = Cores(folder)
    try:
        alice, bob = cores.online(first), cores.online(second)
        there, back = introduce(alice, bob)
        times = []
        for number in range(rounds):
            for sending, receiver in ((there, bob), (back, alice)):
                began = time.perf_counter()
                sending.send_text(f"round {number}")
                await_text(receiver, f"round {number}")
                times.append(time.perf_counter() - began)
        return times
    finally:
        cores.close()


def throughput(
    a: FederatedRelay, b: FederatedRelay, messages: int, octets: int
) -> dict[str, float]:
    """Return what many senders at once get through, and what it costs each side."""
    accounts = [newcomer(b) for _ in range(SENDERS)]
    senders = [Sender(a) for _ in range(SENDERS)]
    for sender, account in zip(senders, accounts, strict=True):
        sender.send(account[0], size=octets)
    await_empty_queue(a)
    share = messages // SENDERS

    def work(sender: Sender, address: str) -> None:
        for _ in range(share):
            sender.send(address, size=octets)

    before = a.cpu_s(), b.cpu_s()
    began = time.perf_counter()
    threads = [
        threading.Thread(target=work, args=(sender, account[0]))
        for sender, account in zip(senders, accounts, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    accepted_s = time.perf_counter() - began
    wait_until("all has arrived", lambda: _held(b) >= (share + 1) * SENDERS, 120)
    took_s = time.perf_counter() - began
    count = share * SENDERS
    for sender in senders:
        sender.__exit__()
    _forget(b)
    return {
        "accepted/s": count / accepted_s,
        "delivered/s": count / took_s,
        "sending side, CPU ms/message": (a.cpu_s() - before[0]) / count * 1000,
        "receiving side, CPU ms/message": (b.cpu_s() - before[1]) / count * 1000,
    }


_forgotten: dict[str, int] = {}


def _held(relay: FederatedRelay) -> int:
    with relay.rows() as db:
        total = int(db.execute("SELECT count(*) FROM messages").fetchone()[0])
    return total - _forgotten.get(relay.name, 0)


def _forget(relay: FederatedRelay) -> None:
    _forgotten[relay.name] = _forgotten.get(relay.name, 0) + _held(relay)


def bury(relay: FederatedRelay, count: int) -> None:
    """Queue so many entries for a domain where nobody answers, 1000 from each account."""
    for start in range(0, count, 1000):
        names = [f"u{number}@dead.test" for number in range(start, min(start + 1000, count))]
        with Sender(relay) as sender:
            _, octets = wire.encrypted(sender.address, 2000)
            assert sender._smtp.sendmail(sender.address, names, octets) == {}


def told(name: str, times: list[float]) -> None:
    """Print what was seen of one series."""
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(f"{name:44} p50 {statistics.median(times) * 1000:6.1f}  p99 {p99 * 1000:6.1f} ms")


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=400)
    parser.add_argument("--octets", type=int, default=20_000)
    parser.add_argument("--dead", type=int, default=10_000)
    options = parser.parse_args()
    # The folder stays short: sockets live in it.
    with tempfile.TemporaryDirectory() as folder, Network(Path(folder)) as net:
        b = net.relay("b.test", queue={"reply_wait": '"0s"'})
        told("one relay, send → EXISTS", latency(b, b, ROUNDS))
        told("one relay, core to core", chat(net.folder / "one", b, b, CORE_ROUNDS))
        closed = free_ports(1)[0]
        kinds = {"/mxdeliv": {}, "SMTP": {"federation": {"https_port": str(closed)}}}
        for number, (kind, tables) in enumerate(kinds.items()):
            a = net.relay(f"a{number}.test", **tables)
            told(f"{kind}: relay to relay, send → EXISTS", latency(a, b, ROUNDS))
            told(f"{kind}: core to core", chat(net.folder / f"two{number}", a, b, CORE_ROUNDS))
            for name, value in throughput(a, b, options.messages, options.octets).items():
                print(f"{kind}: {name:38} {value:8.2f}")
            if number == 0 and options.dead:
                net.publish("dead.test", "127.0.1.250")
                bury(a, options.dead)
                resident = _resident_mib(a)
                told(f"{kind}: beside {options.dead} for a dead peer", latency(a, b, ROUNDS))
                print(f"resident before and after {resident:.0f}, {_resident_mib(a):.0f} MiB")
                a.run("queue", "purge", "--domain", "dead.test", "-y")


def _resident_mib(relay: FederatedRelay) -> float:
    assert relay.process is not None
    text = Path(f"/proc/{relay.process.pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
