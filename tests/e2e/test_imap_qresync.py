"""QRESYNC against the program: sessions that watch, clients that come back, restarts."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest

from tests.e2e import wire
from tests.e2e.raw import Answer, RawImap, client, fill, newcomer, running
from tests.e2e.relay import Relay


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """One relay for the whole file."""
    with running(Relay(tmp_path_factory.mktemp("qresync"))) as relay:
        yield relay


def resyncing(relay: Relay, account: tuple[str, str]) -> RawImap:
    """A client with QRESYNC, in no mailbox."""
    raw = client(relay, account)
    assert raw.ok("ENABLE QRESYNC").lines == [b"* ENABLED QRESYNC"]
    return raw


def numbers(text: bytes) -> list[int]:
    """The numbers a compact set names."""
    found = []
    for item in text.split(b","):
        first, _, last = item.partition(b":")
        found += range(int(first), int(last or first) + 1)
    return found


def earlier(answer: Answer) -> list[int]:
    """What is gone, by VANISHED (EARLIER)."""
    sets = answer.find(rb"^\* VANISHED \(EARLIER\) ([\d:,]+)$")
    return [uid for (text,) in sets for uid in numbers(text)]


def changed(answer: Answer) -> dict[int, bytes]:
    """Flags by UID, of FETCH lines that have a MODSEQ."""
    return {
        int(uid): flags
        for uid, flags in answer.find(rb"FETCH \(UID (\d+) FLAGS \(([^)]*)\) MODSEQ \(\d+\)\)$")
    }


def point(answer: Answer) -> tuple[int, int]:
    """UIDVALIDITY and HIGHESTMODSEQ of a SELECT."""
    return answer.number(rb"UIDVALIDITY (\d+)"), answer.number(rb"HIGHESTMODSEQ (\d+)")


def test_a_client_comes_back_over_a_restart(relay: Relay) -> None:
    account = newcomer(relay)
    fill(relay, account, 8)
    with resyncing(relay, account) as raw:
        validity, modseq = point(raw.select())
    with client(relay, account, "INBOX") as other:
        other.ok("UID STORE 2:3,7 +FLAGS.SILENT (\\Deleted)")
        other.ok("EXPUNGE")
        other.ok("UID STORE 5 +FLAGS.SILENT (\\Seen)")
    fill(relay, account, 1)

    def check() -> None:
        with resyncing(relay, account) as raw:
            told = raw.ok(f"SELECT INBOX (QRESYNC ({validity} {modseq} 1:8))")
            assert earlier(told) == [2, 3, 7]
            assert changed(told) == {5: b"\\Seen"}
            told = raw.ok(f"SELECT INBOX (QRESYNC ({validity} {modseq}))")
            assert told.lines[0] == b"* OK [CLOSED] Previous mailbox is closed"
            assert changed(told) == {5: b"\\Seen", 9: b""}
            assert (
                raw.ok(f"SELECT INBOX (QRESYNC ({point(told)[0]} {point(told)[1]}))").find(
                    rb"VANISHED|FETCH"
                )
                == []
            )
            wrong = raw.ok(f"SELECT INBOX (QRESYNC ({validity + 1} {modseq}))")
            assert not earlier(wrong) + list(changed(wrong))
            fetched = raw.ok(f"UID FETCH 3:* (FLAGS) (CHANGEDSINCE {modseq} VANISHED)")
            assert earlier(fetched) == [3, 7]
            assert set(changed(fetched)) == {5, 9}

    check()  # from the journal in memory
    relay.restart()
    check()  # from the database


def test_expunges_that_were_forgotten_are_told_as_gaps(relay: Relay) -> None:
    """Spec mail 4.4 (QRESYNC): else answer with all gaps."""
    account = newcomer(relay)
    fill(relay, account, 10)
    with client(relay, account, "INBOX") as other:
        other.ok("UID STORE 1,4:6 +FLAGS.SILENT (\\Deleted)")
        other.ok("EXPUNGE")
        validity, modseq = point(other.select())
        other.ok("UID STORE 9 +FLAGS.SILENT (\\Deleted)")
        other.ok("EXPUNGE")
    relay.stop()
    with relay.rows() as rows:
        rows.execute("UPDATE mailboxes SET expunged_floor = ?", (modseq,))
        rows.execute("DELETE FROM expunged WHERE modseq <= ?", (modseq,))
    relay.start()
    with resyncing(relay, account) as raw:
        known = raw.ok(f"SELECT INBOX (QRESYNC ({validity} {modseq}))")
        assert earlier(known) == [9]
        old = raw.ok(f"SELECT INBOX (QRESYNC ({validity} 2))")
        assert earlier(old) == [1, 4, 5, 6, 9]
        matched = raw.ok(f"SELECT INBOX (QRESYNC ({validity} 2 1:10 (1:2,4 2:3,9)))")
        assert earlier(matched) == [4, 5, 6, 9]


def test_an_idle_session_reads_vanished_and_others_expunge(relay: Relay) -> None:
    account = newcomer(relay)
    fill(relay, account, 4)
    with (
        resyncing(relay, account) as raw,
        client(relay, account, "INBOX") as plain,
        client(relay, account, "INBOX") as other,
    ):
        raw.select()
        tags = raw.idle(), plain.idle()
        other.ok("UID STORE 1,3 +FLAGS.SILENT (\\Deleted)")
        other.ok("CLOSE")
        assert raw.idle_line() == b"* VANISHED 1,3"
        assert [plain.idle_line(), plain.idle_line()] == [b"* 3 EXPUNGE", b"* 1 EXPUNGE"]
        raw.done(tags[0])
        plain.done(tags[1])


def test_two_sessions_with_random_histories_agree(relay: Relay) -> None:
    """Two clients that know only what they are told end with the same mailbox."""
    account = newcomer(relay)
    fill(relay, account, 12)
    rng = random.Random(7162)
    with resyncing(relay, account) as one, resyncing(relay, account) as two:
        views: dict[RawImap, list[int]] = {}
        for raw in (one, two):
            raw.select()
            views[raw] = [int(uid) for (uid,) in raw.ok("UID FETCH 1:* (UID)").find(rb"UID (\d+)")]

        def hear(raw: RawImap, answer: Answer) -> None:
            view = views[raw]
            for line in answer.lines:
                assert b"EXPUNGE" not in line
                if found := re.fullmatch(rb"\* VANISHED ([\d:,]+)", line):
                    for uid in numbers(found[1]):
                        view.remove(uid)
                elif found := re.fullmatch(rb"\* (\d+) EXISTS", line):
                    view += [0] * (int(found[1]) - len(view))
                elif found := re.match(rb"\* (\d+) FETCH \(UID (\d+)", line):
                    assert view[int(found[1]) - 1] in (0, int(found[2]))
                    view[int(found[1]) - 1] = int(found[2])

        for _ in range(60):
            raw = rng.choice((one, two))
            view = views[raw]
            uid = rng.choice(view) if view else 1
            command = rng.choice(
                (
                    f"UID STORE {uid or 1} +FLAGS (\\Deleted)",
                    "EXPUNGE",
                    f"UID EXPUNGE {uid or 1}",
                    f"UID MOVE {uid or 1} INBOX",
                    f"UID COPY {uid or 1} INBOX",
                    f"STORE {max(len(view), 1)} +FLAGS (\\Seen)",
                    "NOOP",
                    "UID FETCH 1:* (UID FLAGS)",
                )
            )
            hear(raw, raw.ok(command))
            if 0 in view:
                hear(raw, raw.ok(f"UID FETCH {max(view) + 1}:* (UID)"))
        for raw in (one, two):
            hear(raw, raw.ok("NOOP"))
            hear(raw, raw.ok("UID FETCH 1:* (UID)"))
        assert views[one] == views[two]
        assert views[one] == sorted(views[one])


def test_imaplib_enables_it(relay: Relay) -> None:
    account = newcomer(relay)
    fill(relay, account, 2)
    reader = wire.imap(relay, *account)
    assert "QRESYNC" in reader.capabilities
    assert reader.enable("QRESYNC")[0] == "OK"
    reader.select("INBOX")
    reader.store("1", "+FLAGS.SILENT", "(\\Deleted)")
    reader.expunge()
    assert reader.response("VANISHED")[1] == [b"1"]
    reader.logout()
