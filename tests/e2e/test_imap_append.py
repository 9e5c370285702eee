"""MULTIAPPEND: several messages in one command, all of them or none."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator

import pytest
from imapclient import IMAPClient

from tests.builders import make_message
from tests.e2e import wire
from tests.e2e.mailbox import count, messages, spooled
from tests.e2e.raw import Answer, Closed, RawImap, TunedRelay, client, newcomer, running
from tests.e2e.relay import Relay, wait_until

LIMITS = 'max_message_size = 1048576\nmax_mailbox_size = "8M"'


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """One relay for the whole file; messages of 1 MiB at most, mailboxes of 8 MiB."""
    with running(TunedRelay(tmp_path_factory.mktemp("append"), limits=LIMITS)) as relay:
        yield relay


def upload(raw: RawImap, octets: list[bytes], mailbox: str = "INBOX") -> Answer:
    """APPEND messages at once, nothing awaited."""
    literals = b" ".join(b"{%d+}\r\n%b" % (len(one), one) for one in octets)
    return raw.run(b"APPEND %b %b" % (mailbox.encode(), literals))


def refusal(answer: Answer) -> bytes:
    return answer.tagged.split(b" ", 1)[1]


def test_imapclient_uploads_several_at_once(relay: Relay) -> None:
    account = newcomer(relay)
    octets = [wire.encrypted(account[0], size)[1] for size in (500, 300_000, 2000)]
    with IMAPClient("127.0.0.1", relay.ports["imaps"], ssl_context=wire.tls()) as other:
        other.login(*account)
        assert other.has_capability("MULTIAPPEND")
        told = str(other.multiappend("INBOX", octets))
        assert re.search(r"\[APPENDUID \d+ 1:3\]", told), told
    assert messages(relay, account) == octets
    wait_until("the spool is empty", lambda: not spooled(relay))


def test_each_literal_is_judged_before_it_is_sent(relay: Relay) -> None:
    account = newcomer(relay)
    message = wire.encrypted(account[0])[1]
    with client(relay, account, "INBOX") as raw:
        for announced, code in ((1 << 20) + 1, b"NO [TOOBIG]"), (1 << 20, b"NO [OVERQUOTA]"):
            for _ in range(8 if code == b"NO [OVERQUOTA]" else 0):
                assert raw.append(wire.encrypted(account[0], 1_000_000)[1]).is_ok
            raw.send(b"M1 APPEND INBOX {%d}\r\n" % len(message))
            assert raw.response().octets.startswith(b"+ ")
            raw.send(message + b' (\\Seen) "15-Jan-2026 12:00:00 +0000" {%d}\r\n' % announced)
            assert refusal(raw.answer(b"M1")).startswith(code)
            raw.ok("NOOP")
        assert raw.ok("STATUS INBOX (MESSAGES)").number(rb"MESSAGES (\d+)") == 8


def test_one_refused_message_refuses_all(relay: Relay) -> None:
    account = newcomer(relay)
    good = wire.encrypted(account[0])[1]
    cleartext = make_message(sender=account[0], encrypted=False)
    with client(relay, account, "INBOX") as raw:
        for octets in ([good, cleartext], [cleartext, good], [good, b"", good], [good, b"\0" * 9]):
            assert refusal(upload(raw, octets)).startswith(b"NO [CANNOT]")
        assert refusal(upload(raw, [good, good], "Missing")).startswith(b"NO [TRYCREATE]")
        assert raw.ok("NOOP").lines == []
        answer = upload(raw, [good] * 5)
        assert answer.lines == [b"* 5 EXISTS"]
        assert answer.find(rb"\[APPENDUID \d+ 1:5\]") == [()]
    assert spooled(relay) == []


def test_other_sessions_hear_of_all_at_once(relay: Relay) -> None:
    account = newcomer(relay)
    good = wire.encrypted(account[0])[1]
    with client(relay, account, "INBOX") as idle, client(relay, account) as raw:
        tag = idle.idle()
        assert upload(raw, [good] * 4).is_ok
        assert idle.idle_line() == b"* 4 EXISTS"
        idle.done(tag)


def test_a_client_that_leaves_in_the_middle_stores_nothing(relay: Relay) -> None:
    account = newcomer(relay)
    large = wire.encrypted(account[0], 700_000)[1]
    with client(relay, account) as raw:
        raw.send(b"X APPEND INBOX {%d+}\r\n%b {%d+}\r\n" % (len(large), large, len(large)))
        raw.send(large[:400_000])
        wait_until("both are on their way to disk", lambda: len(spooled(relay)) == 2)
    wait_until("the spool is empty", lambda: not spooled(relay))
    assert count(relay, account) == 0


def test_kills_leave_all_messages_of_a_command_or_none(tmp_path_factory: object) -> None:
    assert isinstance(tmp_path_factory, pytest.TempPathFactory)
    with running(TunedRelay(tmp_path_factory.mktemp("killed"), limits=LIMITS)) as relay:
        account = newcomer(relay)
        octets = [wire.encrypted(account[0], size)[1] for size in (300, 300_000, 300)]
        acknowledged = 0
        for _ in range(3):
            with client(relay, account, "INBOX") as raw:
                killer = threading.Timer(0.3, relay.kill)
                killer.start()
                with contextlib.suppress(Closed, OSError):
                    while True:
                        if upload(raw, octets).is_ok:
                            acknowledged += 1
                        raw.ok("STORE 1:* +FLAGS.SILENT (\\Flagged)")
                        if acknowledged >= 7:
                            time.sleep(0.5)
                            break
                killer.join()
            relay.start()
            found = messages(relay, account)
            assert len(found) % 3 == 0
            assert len(found) >= 3 * acknowledged
            assert found == octets * (len(found) // 3)
