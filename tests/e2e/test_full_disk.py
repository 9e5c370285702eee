"""A full disk refuses for a while, loses nothing, and heals by itself."""

from __future__ import annotations

import smtplib
from pathlib import Path

import pytest

from tests.e2e import raw, wire
from tests.e2e.databases import sqlite_only
from tests.e2e.mailbox import append
from tests.e2e.relay import Relay, wait_until


def fill(file: Path) -> None:
    """Take all the room there is."""
    with file.open("wb") as out:
        try:
            while True:
                out.write(bytes(65536))
                out.flush()
        except OSError:
            pass
    # The last partial page, too: what is left must not hold a message.
    with file.open("ab", buffering=0) as out:
        try:
            while True:
                out.write(b"\0")
        except OSError:
            pass


@sqlite_only("the small disk holds the state directory, not the database server")
@pytest.mark.parametrize("size", [2_000, 600_000], ids=["in memory", "spooled"])
def test_a_full_disk_answers_4xx_and_heals(small_disk: Path, size: int) -> None:
    relay = Relay(small_disk / "relay").start()
    try:
        alice, bob = relay.credentials(), relay.credentials()
        wire.imap(relay, *bob).logout()
        with wire.smtp(relay, *alice) as client:
            client.sendmail(alice[0], [bob[0]], wire.encrypted(alice[0])[1])
            filler = small_disk / "filler"
            fill(filler)

            def send_many() -> None:
                for _ in range(40):
                    client.sendmail(alice[0], [bob[0]], wire.encrypted(alice[0], size)[1])

            with pytest.raises(smtplib.SMTPResponseException) as refused:
                send_many()
            assert refused.value.smtp_code in (451, 452)
            with wire.imap(relay, *bob) as reader:
                count = int(reader.select("INBOX")[1][0] or b"0")
                assert count >= 1, "what was acknowledged can still be read"
                refused = append(reader, wire.encrypted(bob[0], size)[1])
                assert refused.startswith((b"NO [UNAVAILABLE]", b"NO [OVERQUOTA]")), refused
            filler.unlink()

            def works() -> bool:
                try:
                    client.sendmail(alice[0], [bob[0]], wire.encrypted(alice[0], size)[1])
                except smtplib.SMTPResponseException:
                    return False
                return True

            wait_until("the disk's room is used again", works)
        with wire.imap(relay, *bob) as reader:
            assert int(reader.select("INBOX")[1][0] or b"0") == count + 1
    finally:
        assert relay.stop() == 0, "\n".join(relay.errors[-10:])


def test_a_relay_starts_and_serves_on_a_full_disk(small_disk: Path) -> None:
    """Who reads and deletes there makes the room that is missing."""
    relay = Relay(small_disk / "relay").start()
    try:
        bob = raw.newcomer(relay)
        with raw.client(relay, bob, "INBOX") as client:
            for _ in range(3):
                assert client.append(wire.encrypted(bob[0])[1]).is_ok
        relay.kill()
        filler = small_disk / "filler"
        fill(filler)
        relay.start()
        with raw.client(relay, bob, "INBOX") as client:
            assert len(client.ok("UID FETCH 1:* (BODY.PEEK[])").literals) == 3
            # Opening the database may have freed a page or two.
            for _ in range(40):
                answer = client.append(wire.encrypted(bob[0])[1])
                if not answer.is_ok:
                    break
            assert b"NO [UNAVAILABLE]" in answer.tagged, answer.tagged
        filler.unlink()

        def works() -> bool:
            with raw.client(relay, bob) as client:
                return client.append(wire.encrypted(bob[0])[1]).is_ok

        wait_until("the disk's room is used again", works)
        print("started on a full disk: mail could be read, new mail got NO [UNAVAILABLE], healed")
    finally:
        assert relay.stop() == 0, "\n".join(relay.errors[-10:])
