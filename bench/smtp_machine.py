"""CPU of the SMTP machine per 2 kB transaction: commands, values, addresses, content, replies.

Run:  python bench/smtp_machine.py [transactions]
"""

from __future__ import annotations

import sys
import time

from chatmail.domain.wire.smtp import replies
from chatmail.domain.wire.smtp.commands import Data, Hello, Mail, Rcpt
from chatmail.domain.wire.smtp.events import NEED_DATA, ContentEnd, Login
from chatmail.domain.wire.smtp.sequence import Role
from chatmail.domain.wire.smtp.server import SmtpServer

ENVELOPE = (
    b"MAIL FROM:<alice1234@relay.example> BODY=8BITMIME\r\n"
    b"RCPT TO:<bobby5678@relay.example>\r\nDATA\r\n"
)
CONTENT = b"Subject: [...]\r\n\r\n" + (b"x" * 76 + b"\r\n") * 26 + b".\r\n"


def drain(machine: SmtpServer) -> bytes:
    """Answer everything positively until the machine wants more."""
    out = []
    while (event := machine.next_event()) is not NEED_DATA:
        kind = type(event)
        if kind is Mail:
            out.append(machine.send(replies.MAIL_OK))
        elif kind is Rcpt:
            out.append(machine.send(replies.RCPT_OK))
        elif kind is Data:
            out.append(machine.accept_content(31457280))
        elif kind is ContentEnd:
            out.append(machine.send(replies.Reply(250, "2.0.0", "Ok: queued as 4711")))
        elif kind is Hello:
            out.append(machine.hello("relay.example", 31457280))
        elif kind is Login:
            out.append(machine.send(replies.LOGGED_IN))
    return b"".join(out)


def main(transactions: int) -> None:
    """Measure and print."""
    machine = SmtpServer(Role.SUBMISSION, is_tls=True)
    machine.receive_data(b"EHLO [127.0.0.1]\r\nAUTH PLAIN AGEAYg==\r\n")
    drain(machine)
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        for _ in range(transactions):
            machine.receive_data(ENVELOPE)
            drain(machine)
            machine.receive_data(CONTENT)
            drain(machine)
        best = min(best, time.process_time() - start)
    print(f"smtp machine: {best / transactions * 1e6:.1f} us CPU per {len(CONTENT)} B transaction")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
