"""mbsync keeps an account and a tree of maildirs equal, whichever side changes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from imap_tools import MailBox

from tests.e2e import wire
from tests.e2e.mailbox import append, count
from tests.e2e.programs import Dam, Mbsync, far_flags
from tests.e2e.raw import client, newcomer, running
from tests.e2e.relay import Relay, wait_until
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.skipif(shutil.which("mbsync") is None, reason="needs isync")


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """One relay for the whole file."""
    with running(Relay(tmp_path_factory.mktemp("mbsync"))) as relay:
        yield relay


@pytest.fixture
def pair(relay: Relay, tmp_path: Path) -> Mbsync:
    """An account of its own and the empty maildirs for it."""
    return Mbsync(relay, newcomer(relay), tmp_path / "near")


def put(pair: Mbsync, count: int, mailbox: str = "INBOX") -> list[str]:
    """Append messages on the relay; returns their Message-IDs."""
    names = []
    with wire.imap(pair.relay, *pair.account) as plain:
        for _ in range(count):
            name, octets = wire.encrypted(pair.account[0], 1_500)
            assert append(plain, octets, mailbox).startswith(b"OK"), mailbox
            names.append(name)
    return names


def change(pair: Mbsync, name: str, flags: str, mailbox: str = "INBOX") -> None:
    """Change flags of one message on the relay: `+FLAGS (\\Seen)` and the like."""
    with wire.imap(pair.relay, *pair.account) as plain:
        plain.select(mailbox)
        uid = plain.uid("SEARCH", "HEADER", "Message-ID", name)[1][0].decode()
        assert uid
        action, _, names = flags.partition(" ")
        assert plain.uid("STORE", uid, action, names)[0] == "OK"


def equal(pair: Mbsync, mailbox: str = "INBOX") -> dict[str, set[str]]:
    """Check that both sides have the same messages with the same flags; returns those."""
    letters = {"\\Seen": "S", "\\Flagged": "F", "\\Answered": "R", "\\Draft": "D"}
    far = far_flags(pair.relay, pair.account, mailbox)
    told = {name: "".join(sorted(letters[flag] for flag in flags)) for name, flags in far.items()}
    assert pair.flags(mailbox) == told
    return far


def test_new_mail_comes_down_and_what_was_put_here_goes_up(pair: Mbsync) -> None:
    first = put(pair, 5)
    pair.sync()
    assert sorted(pair.flags()) == sorted(first)
    own, octets = wire.encrypted(pair.account[0], 3_000)
    pair.add(octets, "S")
    later = put(pair, 2)
    pair.sync()
    far = equal(pair)
    assert set(far) == {*first, *later, own}
    assert far[own] == {"\\Seen"}
    with wire.imap(pair.relay, *pair.account) as plain:
        plain.select("INBOX", readonly=True)
        uid = plain.uid("SEARCH", "HEADER", "Message-ID", own)[1][0].decode()
        stored = plain.uid("FETCH", uid, "(BODY.PEEK[TEXT])")[1][0][1]
    assert stored == octets.partition(b"\r\n\r\n")[2], "line ends are CRLF again"


def test_flags_go_both_ways(pair: Mbsync) -> None:
    a, b, c, d = put(pair, 4)
    pair.sync()
    pair.mark({a: "S", b: "FS"})
    change(pair, c, "+FLAGS (\\Answered)")
    change(pair, d, "+FLAGS (\\Flagged \\Seen)")
    pair.sync()
    assert equal(pair) == {
        a: {"\\Seen"},
        b: {"\\Flagged", "\\Seen"},
        c: {"\\Answered"},
        d: {"\\Flagged", "\\Seen"},
    }
    pair.mark({b: "S"})
    change(pair, d, "-FLAGS (\\Flagged)")
    pair.sync()
    far = equal(pair)
    assert far[b] == far[d] == {"\\Seen"}


def test_flags_that_differ_on_both_sides_are_joined(pair: Mbsync) -> None:
    """Each side's change since the last run is carried over, to the very same message."""
    (name,) = put(pair, 1)
    pair.sync()
    pair.mark({name: "F"})
    change(pair, name, "+FLAGS (\\Answered)")
    pair.sync()
    pair.sync()
    assert equal(pair) == {name: {"\\Flagged", "\\Answered"}}
    pair.mark({name: "R"})
    change(pair, name, "-FLAGS (\\Answered)")
    pair.sync()
    pair.sync()
    assert equal(pair) == {name: set()}


def test_deletions_go_both_ways_and_leave_no_room_taken(pair: Mbsync) -> None:
    a, b, c, d, e = put(pair, 5)
    pair.sync()
    pair.mark({a: "ST", b: "T"})
    change(pair, c, "+FLAGS (\\Deleted)")
    with client(pair.relay, pair.account, "INBOX") as raw:  # one is gone without a trace
        uid = raw.ok(f"UID SEARCH HEADER Message-ID {d}").lines[-1].split()[-1].decode()
        raw.ok(f"UID STORE {uid} +FLAGS.SILENT (\\Deleted)")
        raw.ok(f"UID EXPUNGE {uid}")
    pair.sync()
    assert set(equal(pair)) == {e}
    assert len(pair.snapshot()) == 1


def test_deleted_there_and_read_here_at_once_ends_deleted(pair: Mbsync) -> None:
    a, b = put(pair, 2)
    pair.sync()
    pair.mark({a: "S"})
    change(pair, a, "+FLAGS (\\Deleted)")
    pair.mark({b: "T"})
    change(pair, b, "+FLAGS (\\Seen)")
    pair.sync()
    pair.sync()
    assert equal(pair) == {}


def test_folders_are_made_and_removed_both_ways(pair: Mbsync) -> None:
    put(pair, 1)
    pair.sync()
    with wire.imap(pair.relay, *pair.account) as plain:
        assert plain.create('"Far/deep"')[0] == "OK"
    below = put(pair, 2, '"Far/deep"')
    own, octets = wire.encrypted(pair.account[0])
    pair.add(octets, "S", "Near")
    # mbsync hands names on as they are, so a maildir has the name in modified UTF-7.
    named, octets = wire.encrypted(pair.account[0])
    pair.add(octets, "F", "Gr&APwA3w-e")
    pair.sync()
    assert set(equal(pair, "Far/deep")) == set(below)
    assert set(equal(pair, "Near")) == {own}
    assert set(equal(pair, "Gr&APwA3w-e")) == {named}
    with MailBox("127.0.0.1", pair.relay.ports["imaps"], ssl_context=wire.tls()).login(
        *pair.account
    ) as box:
        names = {folder.name for folder in box.folder.list()}
    assert {"INBOX", "Far/deep", "Near", "Grüße"} <= names

    pair.mark({own: "ST"}, "Near")
    for name in below:
        change(pair, name, "+FLAGS (\\Deleted)", "Far/deep")
    pair.sync()
    shutil.rmtree(pair.near / "Near")  # mbsync removes empty mailboxes alone
    with wire.imap(pair.relay, *pair.account) as plain:
        assert plain.delete("Far/deep")[0] == "OK"
    pair.sync()
    with wire.imap(pair.relay, *pair.account) as plain:
        listed = b"".join(plain.list()[1])
    assert b"Near" not in listed
    assert b"deep" not in listed
    assert not (pair.near / "Far" / "deep" / "cur").exists()


def test_a_second_run_does_nothing(pair: Mbsync) -> None:
    put(pair, 3)
    pair.add(wire.encrypted(pair.account[0])[1], "F", "Other")
    pair.sync()
    pair.sync()  # mail that was new here has lost its \\Recent by now
    files = pair.snapshot()

    def far() -> list[bytes]:
        with client(pair.relay, pair.account) as raw:
            items = "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)"
            return [raw.ok(f"STATUS {name} {items}").lines[0] for name in ("INBOX", "Other")]

    before = far()
    pair.sync()
    assert far() == before, "no flag was stored, nothing came"
    assert pair.snapshot() == files


def test_a_run_that_was_cut_off_is_completed_without_doubles(pair: Mbsync) -> None:
    """What the relay had taken before the cut is found again by its UID."""
    names = put(pair, 30)
    own = []
    for _ in range(30):
        name, octets = wire.encrypted(pair.account[0], 60_000)
        pair.add(octets, "S")
        own.append(name)
    # A look at the relay would come too late as often as not.
    with Dam(pair.relay, 900_000) as dam:
        began = pair.begin(dam.port)
        assert dam.is_full.wait(PATIENCE_S)
        wait_until("the relay has some", lambda: count(pair.relay, pair.account) > 32)
        began.kill()
        began.communicate()
        assert count(pair.relay, pair.account) < 60
    pair.sync()
    pair.sync()
    far = equal(pair)
    assert set(far) == {*names, *own}
    assert count(pair.relay, pair.account) == len(pair.snapshot()) == 60
