"""Measure what reading the IMAP commands of one received message costs.

Run:  python bench/imap_parser.py
Delta Chat sends these for each message: prefetch, body fetch, IDLE, DONE. Budget: 45 µs together.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable

from chatmail.domain.wire.imap.events import NEED_DATA
from chatmail.domain.wire.imap.server import ServerMachine

BUDGET_US = 45
ROUNDS = 5000
REPEATS = 7

PREFETCH = (
    b"A0005 UID FETCH 7:506 (UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID DATE"
    b" X-MICROSOFT-ORIGINAL-MESSAGE-ID FROM CONTENT-TYPE SECURE-JOIN CHAT-VERSION"
    b" CHAT-IS-POST-MESSAGE AUTOCRYPT-SETUP-MESSAGE)])\r\n"
)
BODY = b"A0006 UID FETCH 7 (FLAGS BODY.PEEK[])\r\n"
IDLE = b"A0010 IDLE\r\n"
DONE = b"DONE\r\n"
OTHERS = {
    "uid store": b"A0007 UID STORE 7,9:12 +FLAGS (\\Deleted)\r\n",
    "select": b'A0009 SELECT "INBOX"\r\n',
    "search": b"a UID SEARCH CHARSET UTF-8 UNSEEN SINCE 1-Feb-2024\r\n",
    "setmetadata": b'a SETMETADATA "INBOX" (/private/devicetoken {4+}\r\n1111)\r\n',
}


def microseconds(step: Callable[[], object]) -> float:
    """Return the best time of one step."""
    return min(timeit.repeat(step, number=ROUNDS, repeat=REPEATS)) / ROUNDS * 1e6


def main() -> None:
    """Print one line per command and the sum that has a budget."""
    machine = ServerMachine(tls_active=True, max_append_bytes=30 << 20)
    machine.authenticated()
    machine.selected()

    def command(octets: bytes) -> None:
        machine.receive_data(octets)
        while machine.next_event() is not NEED_DATA:
            pass

    def idle() -> None:
        machine.receive_data(IDLE)
        machine.next_event()
        machine.begin_idle(b"A0010")
        machine.next_event()
        command(DONE)

    costs = {
        "prefetch": microseconds(lambda: command(PREFETCH)),
        "body fetch": microseconds(lambda: command(BODY)),
        "idle, done": microseconds(idle),
    }
    for name, cost in costs.items():
        print(f"{name:12} {cost:6.1f} µs")
    print(f"{'sum':12} {sum(costs.values()):6.1f} µs (budget {BUDGET_US})")
    for name, octets in OTHERS.items():
        print(f"{name:12} {microseconds(lambda line=octets: command(line)):6.1f} µs")


if __name__ == "__main__":
    main()
