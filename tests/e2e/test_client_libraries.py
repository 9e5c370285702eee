"""imapclient, imap_tools and imaplib: what programs built on them do all day."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from imap_tools import AND, MailBox, MailboxFolderCreateError, MailMessageFlags
from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError

from tests.e2e import wire
from tests.e2e.mailbox import append
from tests.e2e.raw import Sender, newcomer, running
from tests.e2e.relay import Relay


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """One relay for the whole file."""
    with running(Relay(tmp_path_factory.mktemp("libraries"))) as relay:
        yield relay


@pytest.fixture
def account(relay: Relay) -> tuple[str, str]:
    """An account with three messages."""
    account = newcomer(relay)
    with wire.imap(relay, *account) as plain:
        for _ in range(3):
            append(plain, wire.encrypted(account[0])[1])
    return account


@pytest.fixture
def box(relay: Relay, account: tuple[str, str]) -> Iterator[IMAPClient]:
    """imapclient, logged in."""
    with IMAPClient("127.0.0.1", relay.ports["imaps"], ssl_context=wire.tls()) as client:
        client.login(*account)
        yield client


def test_imapclient_idles_and_hears_of_mail_and_flags(
    relay: Relay, account: tuple[str, str], box: IMAPClient
) -> None:
    box.select_folder("INBOX")
    box.idle()
    assert box.idle_check(timeout=0.1) == []
    with Sender(relay) as sender:
        sender.send(account[0])
    assert box.idle_check(timeout=60) == [(4, b"EXISTS")]
    with wire.imap(relay, *account) as other:
        other.select("INBOX")
        other.store("2", "+FLAGS", "(\\Flagged)")
    (told,) = box.idle_check(timeout=60)
    assert told[:2] == (2, b"FETCH")
    assert b"\\Flagged" in dict(zip(told[2][::2], told[2][1::2], strict=True))[b"FLAGS"]
    text, rest = box.idle_done()
    assert text == b"Idle completed"
    assert rest == []
    assert box.noop()[0] == b"Noop completed"


def test_imapclient_follows_changes_by_modseq(
    relay: Relay, account: tuple[str, str], box: IMAPClient
) -> None:
    assert box.enable("CONDSTORE", "QRESYNC") == [b"CONDSTORE", b"QRESYNC"]
    before = box.select_folder("INBOX")[b"HIGHESTMODSEQ"]
    with wire.imap(relay, *account) as other:
        other.select("INBOX")
        other.uid("STORE", "2", "+FLAGS", "(\\Seen $mark)")
    changed = box.fetch([1, 2, 3], ["FLAGS", "MODSEQ"], modifiers=[f"CHANGEDSINCE {before}"])
    assert list(changed) == [2]
    assert changed[2][b"FLAGS"] == (b"\\Seen", b"$mark")
    (modseq,) = changed[2][b"MODSEQ"]
    assert modseq > before
    assert box.search(["MODSEQ", str(modseq)]) == [2]
    assert box.fetch([1, 2, 3], ["FLAGS"], modifiers=[f"CHANGEDSINCE {modseq}"]) == {}
    assert box.folder_status("INBOX", ["HIGHESTMODSEQ"])[b"HIGHESTMODSEQ"] == modseq


def test_imapclient_makes_renames_subscribes_and_removes_folders(box: IMAPClient) -> None:
    names = ("Grüße/наши", "a & b")
    for name in names:
        box.create_folder(name)
        box.subscribe_folder(name)
    listed = {name: flags for flags, delimiter, name in box.list_folders() if delimiter == b"/"}
    assert {*names, "Grüße", "INBOX"} <= set(listed)
    assert b"\\HasChildren" in listed["Grüße"]
    assert set(names) <= {name for _, _, name in box.list_sub_folders()}
    assert box.folder_exists("a & b")
    box.rename_folder("a & b", "c")
    assert not box.folder_exists("a & b")
    with pytest.raises(IMAPClientError, match="ALREADYEXISTS"):
        box.create_folder("c")
    box.delete_folder("c")
    assert not box.folder_exists("c")
    assert box.namespace().personal == (("", "/"),)


def test_imapclient_copies_moves_flags_and_expunges(box: IMAPClient) -> None:
    box.create_folder("Kept")
    box.select_folder("INBOX")
    box.copy([1], "Kept")
    box.move([2], "Kept")
    assert box.search() == [1, 3]
    assert box.add_flags([1, 3], ["\\Seen", "$x"]) == {
        1: (b"\\Seen", b"$x"),
        3: (b"\\Seen", b"$x"),
    }
    assert box.remove_flags([3], "$x", silent=True) is None
    assert box.get_flags([1, 3]) == {1: (b"\\Seen", b"$x"), 3: (b"\\Seen",)}
    assert box.search("KEYWORD $x NOT FLAGGED") == [1]
    box.delete_messages([1, 3])
    box.uid_expunge([3])
    assert box.search() == [1]
    box.expunge()
    assert box.search() == []
    assert box.select_folder("Kept", readonly=True)[b"EXISTS"] == 2
    with pytest.raises(IMAPClientError, match="READ-ONLY"):
        box.add_flags([1], "\\Seen")


def test_imapclient_reads_envelopes_structure_and_quota(
    account: tuple[str, str], box: IMAPClient
) -> None:
    box.select_folder("INBOX", readonly=True)
    rows = box.fetch([1, 2], ["ENVELOPE", "BODYSTRUCTURE", "RFC822.SIZE", "INTERNALDATE", "BODY[]"])
    for row in rows.values():
        envelope = row[b"ENVELOPE"]
        assert str(envelope.from_[0]).endswith(account[0])
        assert row[b"BODYSTRUCTURE"].is_multipart
        assert row[b"RFC822.SIZE"] == len(row[b"BODY[]"])
        assert abs(row[b"INTERNALDATE"].timestamp() - time.time()) < 600
    (quota,) = box.get_quota_root("INBOX")[1]
    assert quota.resource == "STORAGE"
    assert 0 < quota.usage < quota.limit
    assert box.id_({"name": "test"})[0]


def test_imap_tools_idles_appends_and_manages_folders(
    relay: Relay, account: tuple[str, str]
) -> None:
    with MailBox("127.0.0.1", relay.ports["imaps"], ssl_context=wire.tls()).login(*account) as box:
        with Sender(relay) as sender:
            box.idle.start()
            sender.send(account[0])
            assert box.idle.poll(timeout=60) == [b"* 4 EXISTS"]
            box.idle.stop()
        octets = wire.encrypted(account[0])[1]
        box.append(octets, "INBOX", flag_set=[MailMessageFlags.SEEN, "$own"])
        (message,) = box.fetch(AND(keyword="$own"), mark_seen=False)
        body = octets.replace(b"\r\n", b"\n").partition(b"\n\n")[2]
        assert message.obj.as_bytes().partition(b"\n\n")[2] == body
        assert set(message.flags) == {"\\Seen", "$own"}
        box.folder.create("Grüße")
        with pytest.raises(MailboxFolderCreateError):
            box.folder.create("Grüße")
        box.folder.rename("Grüße", "Ärger")
        box.folder.subscribe("Ärger", True)
        subscribed = {info.name for info in box.folder.list(subscribed_only=True)}
        assert subscribed == {"INBOX", "Ärger"}
        box.copy(message.uid, "Ärger")
        assert box.folder.status("Ärger", ["MESSAGES", "UNSEEN"]) == {"MESSAGES": 1, "UNSEEN": 0}
        box.folder.delete("Ärger")
        assert not box.folder.exists("Ärger")
        assert len(list(box.fetch(bulk=True, headers_only=True, mark_seen=False))) == 5
        assert [len(list(box.fetch(bulk=2, mark_seen=False))), len(box.numbers())] == [5, 5]


def test_imaplib_does_what_its_manual_shows(relay: Relay, account: tuple[str, str]) -> None:
    with wire.imap(relay, *account) as plain:
        assert plain.select() == ("OK", [b"3"])
        assert plain.noop()[0] == plain.check()[0] == "OK"
        assert plain.search(None, "ALL")[1] == [b"1 2 3"]
        assert plain.fetch("1", "(RFC822)")[1][0][1].endswith(b"\r\n")
        assert plain.fetch("1", "(FLAGS)")[1] == [b"1 (FLAGS (\\Seen))"]
        assert plain.getquotaroot("INBOX")[0] == "OK"
        assert plain.namespace()[1] == [b'(("" "/")) NIL NIL']
        assert plain.copy("1:2", "Missing")[1][0].startswith(b"[TRYCREATE]")
        plain.create("Copy")
        assert plain.copy("1:2", "Copy")[0] == "OK"
        assert plain.response("COPYUID")[0] == "COPYUID"
        assert plain.status("Copy", "(MESSAGES UIDNEXT)")[1] == [b'"Copy" (MESSAGES 2 UIDNEXT 3)']
        assert plain.rename("Copy", "Other")[0] == "OK"
        assert plain.subscribe("Other")[0] == "OK"
        assert any(line.endswith(b'"/" "Other"') for line in plain.lsub()[1])
        assert plain.unsubscribe("Other")[0] == plain.delete("Other")[0] == "OK"
        plain.store("1:2", "FLAGS", "(\\Deleted)")
        assert plain.expunge()[1] == [b"2", b"1"]
        assert plain.close()[0] == "OK"
        assert plain.logout()[0] == "BYE"
