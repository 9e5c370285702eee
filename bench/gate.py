"""What the gate costs: µs per message of 2 kB, 20 kB and 500 kB, and the worst cases known.

Run from the root of the tree: `python bench/gate.py`. Budget: 240 µs for 2 kB, 6 ms for 500 kB.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chatmail.domain.formats.message_scanner import MessageScanner
from chatmail.domain.model.message import Door
from chatmail.domain.model.settings import GateSettings
from chatmail.domain.policy.encryption_gate import GateContext, judge
from tests import builders

CHUNK_OCTETS = 64 * 1024
CONTEXT = GateContext(
    envelope=builders.envelope(builders.ALICE, builders.BOB),
    identity=builders.address(builders.ALICE),
    settings=GateSettings(),
    local_domains=frozenset({"example.org"}),
)


def pass_gate(message: bytes, chunk_octets: int = CHUNK_OCTETS) -> str:
    """Scan and judge one message as a submission; return the verdict in a word."""
    scanner = MessageScanner(max_bytes=100 * 1024 * 1024)
    if len(message) <= chunk_octets:
        scanner.feed(message)
    else:
        view = memoryview(message)
        for start in range(0, len(message), chunk_octets):
            scanner.feed(bytes(view[start : start + chunk_octets]))
    verdict = judge(scanner.finish(), Door.SUBMISSION, CONTEXT)
    return getattr(verdict, "rule", "accepted")


def best_us(action: Callable[[], object], seconds: float = 0.4) -> float:
    """Return the shortest time one call takes, in µs."""
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        start = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - start)
    return best * 1e6


def messages() -> dict[str, bytes]:
    """Return what is measured, by name."""
    keys = builders.packet(1, builders.pkesk_body(data=builders.noise(32) + b"\x01a"))
    small = b"".join(b"\xe0" + bytes([n % 251]) for n in range(4000))
    partials = b"\xd2\xe9\x01" + builders.noise(511) + small + b"\x20" + builders.noise(32)
    chunked = builders.pkesk() + builders.seipd(1_000_000, length="partial")
    made = {
        "2 kB": builders.make_message(size=640),
        "20 kB": builders.make_message(size=13_000),
        "500 kB": builders.make_message(size=362_000),
        "30 MB": builders.make_message(size=21_700_000),
        "5000 session keys": builders.encrypted_body(
            builders.armor(keys * 5000 + builders.seipd())
        ),
        "small partials": builders.encrypted_body(builders.armor(keys + partials)),
        "4 kB partials": builders.encrypted_body(builders.armor(chunked)),
        "lines of 4": builders.encrypted_body(builders.armor(builders.packets(300_000), width=4)),
        "plain text": builders.make_message(encrypted=False, text="Hello, world.\r\n" * 60_000),
        "delimiters": b"--" + builders.BOUNDARY.encode() + b" x\r\n",
        "header 60 kB": builders.make_message(fields=[(f"X-{n}", "y" * 220) for n in range(240)]),
        "mailboxes": builders.make_message(fields=[("From", ",\r\n ".join(["a@b"] * 4000))]),
    }
    made["delimiters"] = builders.CONTROL_PART[:0] + made["delimiters"] * 20_000
    head = builders.make_message(body=b"")
    for name in ("5000 session keys", "small partials", "4 kB partials", "lines of 4"):
        made[name] = head + made[name]
    made["delimiters"] = (
        head
        + b"\r\n--"
        + builders.BOUNDARY.encode()
        + b"\r\n"
        + (builders.CONTROL_PART + b"\r\n" + made["delimiters"])
    )
    return made


def main() -> None:
    """Print the table."""
    print(f"{'message':20s} {'octets':>10s} {'µs':>10s} {'ms/MiB':>8s}  verdict")
    for name, message in messages().items():
        used = best_us(lambda message=message: pass_gate(message))
        per_mib = used / 1000 / (len(message) / 1048576)
        print(f"{name:20s} {len(message):10d} {used:10.0f} {per_mib:8.1f}  {pass_gate(message)}")


if __name__ == "__main__":
    main()
