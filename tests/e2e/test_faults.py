"""Disks that fail under a running relay: clear answers, no loss, and it heals or ends clearly."""

from __future__ import annotations

import contextlib
import smtplib
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import raw, wire
from tests.e2e.databases import sqlite_only
from tests.e2e.promises import SentMail, check_stored, stored
from tests.e2e.raw import TunedRelay
from tests.e2e.relay import Relay, wait_until
from tests.e2e.strace import fault

pytestmark = sqlite_only("faults of the files that hold mail")

WRITES = "pwrite64,pwritev,pwritev2"
SYNCS = "fsync,fdatasync"
READS = "pread64,preadv,preadv2"


@pytest.fixture(scope="module")
def one_relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TunedRelay]:
    """The relay of all these tests: what each leaves behind, the next one has to live with."""
    relay = TunedRelay(tmp_path_factory.mktemp("faults") / "relay")
    relay.start()
    yield relay
    assert relay.stop() == 0, "\n".join(relay.errors[-20:])
    assert not [line for line in relay.errors if "Traceback" in line or "@" in line]


@pytest.fixture
def relay(one_relay: TunedRelay) -> Iterator[TunedRelay]:
    """A relay that a test may break; it runs again afterwards."""
    one_relay.errors.clear()
    yield one_relay
    assert not [line for line in one_relay.errors if "Traceback" in line], one_relay.errors[-20:]
    assert one_relay.process is not None
    if one_relay.process.poll() is not None:
        one_relay.stop()
        one_relay.start()


BEYOND_THE_JOURNAL = 60_000
"""A message whose segment is synced before its rows are written (docs/adr/0009)."""


class Post:
    """Somebody who sends to somebody else, one message at a time."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.sender, self.recipient = relay.credentials(), raw.newcomer(relay)
        self.sent = SentMail()
        self._client = wire.smtp(relay, *self.sender)
        # The first message makes the segment: what comes now is written to a file we know.
        assert self.send() == 250

    def send(self, size: int = 2000) -> int:
        """Send one message; returns the reply code, 0: the connection broke."""
        message_id, octets = wire.encrypted(self.sender[0], size)
        self.sent.attempted.add(message_id)
        try:
            self._client.sendmail(self.sender[0], [self.recipient[0]], octets)
        except smtplib.SMTPResponseException as refused:
            return refused.smtp_code
        except smtplib.SMTPRecipientsRefused as refused:
            return next(iter(refused.recipients.values()))[0]
        except OSError:  # smtplib's own errors are of this kind, too
            return 0
        self.sent.acknowledged.add(message_id)
        return 250

    def reconnect(self) -> None:
        """Open a new connection."""
        self._client.close()
        self._client = wire.smtp(self.relay, *self.sender)

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def check(self) -> tuple[int, int]:
        """Compare the mailbox with what was accepted; returns (accepted, stored)."""
        return check_stored(self.relay, [self.recipient], [self.sent])


@pytest.fixture
def post(relay: Relay) -> Iterator[Post]:
    """Mail under way."""
    with contextlib.closing(Post(relay)) as post:
        yield post


def segments(relay: Relay) -> list[Path]:
    """The segment files; the last one grows."""
    return sorted((relay.folder / "state" / "mail").glob("*.seg"))


def log(relay: Relay) -> Path:
    """The log file of the database: what a COMMIT writes and syncs."""
    return relay.folder / "state" / "chatmail.db-wal"


def told(relay: Relay, event: str) -> list[str]:
    """The lines of an event."""
    return [line for line in relay.errors if event in line.split()]


# --- a sync or a write fails for good -------------------------------------------------------------


@pytest.mark.parametrize("where", ["segment", "database"])
def test_a_failed_sync_answers_451_and_ends_the_process(
    relay: Relay, post: Post, where: str
) -> None:
    path = segments(relay)[-1] if where == "segment" else log(relay)
    idler = raw.client(relay, post.recipient, "INBOX")
    tag = idler.idle()
    with fault(relay, SYNCS, "error=EIO", [path]) as injected:
        assert post.send(BEYOND_THE_JOURNAL) == 451
        assert relay.process is not None
        assert relay.process.wait(60) == 1
        assert injected.happened
    said = idler.rest()
    idler.close()
    assert b"EXISTS" not in said, "nobody sees what is not durable"
    assert tag not in said
    relay.stop()
    assert told(relay, "store_failed"), relay.errors[-5:]
    relay.start()
    post.reconnect()
    assert post.send() == 250
    print(
        f"fsync of the {where} fails: client saw 451, process ended, {post.check()}, lost nothing"
    )


@pytest.mark.parametrize("where", ["segment", "database"])
def test_an_io_error_of_a_write_answers_451_and_ends_the_process(
    relay: Relay, post: Post, where: str
) -> None:
    path = segments(relay)[-1] if where == "segment" else log(relay)
    with fault(relay, WRITES, "error=EIO", [path]):
        assert post.send() == 451
        assert relay.process is not None
        assert relay.process.wait(60) == 1
    relay.stop()
    relay.start()
    post.reconnect()
    assert post.send() == 250
    assert len(stored(relay, post.recipient)) == 2, "what was refused is not there"
    print(f"write to the {where} fails: client saw 451, process ended, lost nothing")


# --- no room --------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["segment", "database"])
def test_no_room_refuses_reads_on_and_heals(relay: Relay, post: Post, where: str) -> None:
    path = segments(relay)[-1] if where == "segment" else log(relay)
    with (
        raw.client(relay, post.recipient, "INBOX") as owner,
        raw.client(relay, post.sender, "INBOX") as other,
    ):
        with fault(relay, WRITES, "error=ENOSPC", [path], when="1+"):
            assert [post.send() for _ in range(3)] == [452, 452, 452]
            refused = other.append(wire.encrypted(post.sender[0])[1])
            assert refused.tagged.split()[1:3] == [b"NO", b"[UNAVAILABLE]"], refused.tagged
            # Reading goes on.
            assert owner.ok("UID FETCH 1 (BODY.PEEK[])").literals[0]
            assert owner.ok("NOOP").lines == []
        assert post.send() == 250
        assert other.append(wire.encrypted(post.sender[0])[1]).is_ok
        assert b"* 2 EXISTS" in owner.ok("NOOP").lines
    print(f"no room for the {where}: clients saw 452 and NO [UNAVAILABLE], {post.check()}, healed")


# --- killed between two steps ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calls", "where", "when"),
    [
        pytest.param(WRITES, "segment", 3, id="before the content is written"),
        pytest.param(SYNCS, "segment", 3, id="before the content is synced"),
        pytest.param(WRITES, "database", 4, id="between the content's sync and the rows"),
        pytest.param(WRITES, "database", 17, id="between two pages of rows"),
        pytest.param(SYNCS, "database", 3, id="before the rows are synced"),
    ],
)
def test_a_kill_between_the_steps_of_a_commit_loses_nothing(
    relay: Relay, post: Post, calls: str, where: str, when: int
) -> None:
    path = segments(relay)[-1] if where == "segment" else log(relay)
    with fault(relay, calls, "signal=SIGKILL", [path], when=str(when)):
        codes = []
        while not codes or codes[-1]:
            codes.append(post.send(BEYOND_THE_JOURNAL if calls == SYNCS else 2000))
        assert relay.process is not None
        assert relay.process.wait(60) == -9
    assert set(codes[:-1]) <= {250}
    relay.stop()
    relay.start()
    post.reconnect()
    assert post.send() == 250
    print(f"killed in {calls} of the {where}: connection broke, {post.check()}, lost nothing")


@pytest.mark.parametrize(
    ("calls", "when"),
    [
        pytest.param("rename", 1, id="before it is renamed into the mail"),
        pytest.param(SYNCS, 1, id="before its name is synced"),
        pytest.param(SYNCS, 2, id="at its second message"),
    ],
)
def test_a_kill_while_a_spooled_message_is_adopted_loses_nothing(
    relay: Relay, post: Post, calls: str, when: int
) -> None:
    mail = relay.folder / "state" / "mail"
    with fault(relay, calls, "signal=SIGKILL", [mail] if calls == SYNCS else [], when=str(when)):
        codes = []
        while not codes or codes[-1]:
            codes.append(post.send(600_000))
        assert relay.process is not None
        assert relay.process.wait(60) == -9
    assert set(codes[:-1]) <= {250}
    relay.stop()
    relay.start()
    post.reconnect()
    assert post.send(600_000) == 250
    spool = list((relay.folder / "state" / "spool").iterdir())
    assert spool == [], "what was never acknowledged is not kept"
    print(f"killed in {calls} of a large message: connection broke, {post.check()}, lost nothing")


def test_a_kill_while_the_log_is_folded_into_the_database_loses_nothing(
    relay: Relay, post: Post
) -> None:
    for _ in range(20):
        assert post.send() == 250
    database = relay.folder / "state" / "chatmail.db"
    with fault(relay, WRITES, "signal=SIGKILL", [database], when="3"):
        relay.tell_to_stop()
        assert relay.process is not None
        assert relay.process.wait(60) == -9
    relay.stop()
    relay.start()
    post.reconnect()
    assert post.send() == 250
    print(f"killed while the log was folded: connection broke, {post.check()}, lost nothing")


def test_a_database_that_cannot_be_read_ends_connections_never_says_no(
    relay: Relay, post: Post
) -> None:
    """Traps T1 and T11; the database's own cache must not hide the fault, hence the restart."""
    relay.restart()
    database = relay.folder / "state" / "chatmail.db"
    client = raw.client(relay, post.recipient)
    with client, fault(relay, READS, "error=EIO", [database, log(relay)], when="1+") as injected:
        client.send(b"X1 SELECT INBOX\r\n")
        said = client.rest()
        assert injected.happened
        assert b"X1 OK" not in said
        assert b"X1 NO" not in said
    relay.restart()
    with raw.client(relay, post.recipient, "INBOX") as client:
        assert len(client.ok("UID FETCH 1:* (BODY.PEEK[])").literals) == 1
    print("database cannot be read: SELECT ended the connection, afterwards all is there")


# --- octets that are not what was written ---------------------------------------------------------


def flip(path: Path, offset: int) -> None:
    """Turn over one bit; the second time it is as it was."""
    with path.open("r+b") as file:
        file.seek(offset)
        octet = file.read(1)
        file.seek(offset)
        file.write(bytes([octet[0] ^ 0x10]))


RECORD_BYTES = 40  # in front of each message: its length, its checksums


def record_of(relay: Relay, message_id: str) -> tuple[Path, int, int]:
    """(segment, where the record begins, where its message ends) of a message."""
    for path in segments(relay):
        octets = path.read_bytes()
        place = octets.find(message_id.encode())
        if place >= 0:
            start = octets.rindex(b"CMsg\x01\x00", 0, place)
            header, body = struct.unpack_from("<IQ", octets, start + 16)
            return path, start, start + RECORD_BYTES + header + body
    raise AssertionError("the message is in no segment")


@pytest.mark.parametrize(
    ("size", "part"),
    [
        (2_000, "record header"),
        (2_000, "header block"),
        (2_000, "body"),
        (600_000, "record header"),
        (600_000, "header block"),
        (600_000, "body"),
    ],
)
def test_a_flipped_bit_is_told_and_never_served(
    relay: Relay, post: Post, size: int, part: str
) -> None:
    """Conformance check 26, traps T1 and T11."""
    assert post.send(size) == 250
    assert post.send() == 250
    message_id = [one for _, one in stored(relay, post.recipient)][1]
    path, start, end = record_of(relay, message_id)
    message = path.read_bytes()[start + RECORD_BYTES : end]
    offset = {
        "record header": start + 9,
        "header block": start + RECORD_BYTES + message.index(b"Message-ID") + 20,
        "body": end - len(message) // 4,
    }[part]
    flip(path, offset)
    for query in ("UID FETCH 2 (BODY.PEEK[])", "UID FETCH 1:3 (FLAGS BODY.PEEK[])"):
        with raw.client(relay, post.recipient, "INBOX") as client:
            client.send(b"X1 " + query.encode() + b"\r\n")
            said = client.rest()
            assert b"X1 " not in said, "a tagged answer would end the client's search (T1)"
            assert message[-200:] not in said, "the damaged message was served to its end"
    assert told(relay, "content_damaged"), relay.errors[-5:]
    # The other messages are served, and this one as soon as it is whole again.
    with raw.client(relay, post.recipient, "INBOX") as client:
        assert len(client.ok("UID FETCH 1,3 (BODY.PEEK[])").literals) == 2
        flip(path, offset)
        assert client.ok("UID FETCH 2 (BODY.PEEK[])").literals == [message]
    print(f"bit flipped in the {part} of {size} octets: connection ended, told in the log, mended")


def test_an_unreadable_body_ends_the_connection_and_is_there_after_repair(
    relay: Relay, post: Post
) -> None:
    with raw.client(relay, post.recipient, "INBOX") as client:
        path, *_ = record_of(relay, next(iter(post.sent.acknowledged)))
        with fault(relay, READS, "error=EIO", [path], when="1+") as injected:
            client.send(b"X1 UID FETCH 1 (BODY.PEEK[])\r\n")
            assert b"X1 " not in client.rest()
            assert injected.happened
    assert told(relay, "content_unreadable")
    with raw.client(relay, post.recipient, "INBOX") as client:
        assert client.ok("UID FETCH 1 (BODY.PEEK[])").literals[0]
    print("content cannot be read: client saw the connection end, then got the message")


@pytest.mark.parametrize("tail", ["junk", "half a record", "zeros"])
def test_a_torn_tail_is_never_built_upon(relay: Relay, post: Post, tail: str) -> None:
    for _ in range(3):
        assert post.send() == 250
    relay.kill()
    before = segments(relay)
    path = before[-1]
    octets = path.read_bytes()
    more = {"junk": b"\xff\x00junk" * 999, "half a record": octets[:1500], "zeros": bytes(9999)}
    with path.open("ab") as file:
        file.write(more[tail])
    relay.start()
    post.reconnect()
    assert post.send() == 250
    assert len(segments(relay)) == len(before) + 1, "a process appends to its own segments only"
    assert path.read_bytes() == octets + more[tail]
    print(f"torn tail ({tail}): nobody noticed, {post.check()}, lost nothing")


def test_a_segment_that_lost_its_end_is_told_at_start_and_the_rest_is_served(
    relay: Relay, post: Post
) -> None:
    for _ in range(2):
        assert post.send() == 250
    relay.stop()
    path = segments(relay)[-1]
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 700)
    relay.start()
    wait_until("the gap is told of", lambda: told(relay, "content_missing"))
    with raw.client(relay, post.recipient, "INBOX") as client:
        assert len(client.ok("UID FETCH 1:2 (BODY.PEEK[])").literals) == 2
        client.send(b"X1 UID FETCH 3 (BODY.PEEK[])\r\n")
        assert b"X1 " not in client.rest()
    post.reconnect()
    assert post.send() == 250
    with raw.client(relay, post.recipient, "INBOX") as client:
        assert len(client.ok("UID FETCH 4 (BODY.PEEK[])").literals) == 1
    print("segment cut short: told at start, the cut message ends connections, others are served")
