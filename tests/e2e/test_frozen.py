"""SIGSTOP for a while, in the middle of everything: afterwards it is as if nothing had been.

A few seconds here; CHATMAIL_TEST_FROZEN_S=60 makes it a minute.
"""

from __future__ import annotations

import contextlib
import os
import signal
import smtplib
import threading
import time

import pytest

from tests.e2e import raw, wire
from tests.e2e.promises import SentMail, check_stored
from tests.e2e.rawsmtp import submitter
from tests.e2e.relay import Relay, wait_until
from tests.patience import PATIENCE_S

FROZEN_S = float(os.environ.get("CHATMAIL_TEST_FROZEN_S", "5"))
MESSAGES = 40
SIZES = (2_000, 2_000, 2_000, 2_000, 300_000)


@pytest.mark.timeout(300 + 3 * FROZEN_S)
def test_a_process_that_was_stopped_loses_and_doubles_nothing(relay: Relay) -> None:
    recipient = raw.newcomer(relay)
    senders = [relay.credentials() for _ in range(3)]
    sent = [SentMail() for _ in senders]
    refusals: list[str] = []

    def send(account: tuple[str, str], ledger: SentMail) -> None:
        """Send as core does: what was refused for now goes again, on a new connection."""
        pending = [wire.encrypted(account[0], SIZES[number % 5]) for number in range(MESSAGES)]
        while pending:
            with contextlib.suppress(smtplib.SMTPServerDisconnected):
                client = wire.smtp(relay, *account)
                client.sock.settimeout(PATIENCE_S + FROZEN_S)
                try:
                    while pending:
                        message_id, octets = pending[0]
                        ledger.attempted.add(message_id)
                        client.sendmail(account[0], [recipient[0]], octets)
                        ledger.acknowledged.add(message_id)
                        del pending[0]
                except smtplib.SMTPResponseException as refused:
                    refusals.append(f"{refused.smtp_code} {refused.smtp_error.decode()}")
                finally:
                    client.close()

    threads = [threading.Thread(target=send, args=one) for one in zip(senders, sent, strict=True)]
    half, octets = wire.encrypted(senders[0][0], 100_000)
    sent[0].attempted.add(half)
    with raw.client(relay, recipient, "INBOX") as idler, submitter(relay, senders[0]) as slow:
        tag = idler.idle()
        assert slow.envelope(senders[0][0], [recipient[0]]).code == 354
        slow.send(octets[:50_000])
        for thread in threads:
            thread.start()
        wait_until("mail flows", lambda: all(one.acknowledged for one in sent))
        assert relay.process is not None
        relay.process.send_signal(signal.SIGSTOP)
        slow.send(octets[50_000:90_000])
        with raw.RawImap(relay, "imap") as waiting:  # the kernel takes the connection
            waiting.socket.settimeout(PATIENCE_S + FROZEN_S)
            time.sleep(FROZEN_S)
            _go_on(relay)
            waiting.greet()
        assert slow.content(octets[90_000:]).code == 250
        sent[0].acknowledged.add(half)
        for thread in threads:
            thread.join(PATIENCE_S + FROZEN_S)
        assert not any(thread.is_alive() for thread in threads)
        total = MESSAGES * len(senders) + 1
        while f"* {total} EXISTS\r\n".encode() != idler.response().octets:
            pass
        assert idler.done(tag).is_ok
        assert idler.ok("NOOP").lines == []
    assert check_stored(relay, [recipient], sent) == (total, total)
    print(
        f"stopped for {FROZEN_S:.0f} s: clients saw {sorted(set(refusals)) or 'nothing'},"
        f" {total} messages, none lost or doubled"
    )


def _go_on(relay: Relay) -> None:
    assert relay.process is not None
    relay.process.send_signal(signal.SIGCONT)
