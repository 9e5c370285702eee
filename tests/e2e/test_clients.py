"""Generic clients: what any mail program may expect of the same server."""

from __future__ import annotations

import imaplib
import shutil
import smtplib
import subprocess
from pathlib import Path

import pytest
from imap_tools import MailBox, MailMessageFlags

from tests.e2e import wire
from tests.e2e.relay import Relay


def test_imaplib_reads_what_smtplib_sent(relay: Relay) -> None:
    alice, bob = relay.credentials(), relay.credentials()
    wire.imap(relay, *bob).logout()
    message_id, octets = wire.encrypted(alice[0], 30_000)
    client = wire.smtp(relay, *alice)
    assert client.sendmail(alice[0], [bob[0]], octets) == {}
    client.quit()

    reader = wire.imap(relay, *bob)
    assert reader.select("INBOX")[1] == [b"1"]
    _, rows = reader.fetch("1", "(FLAGS RFC822.SIZE BODY.PEEK[])")
    envelope, body = rows[0]
    assert b"FLAGS ()" in envelope
    assert f"RFC822.SIZE {len(body)}".encode() in envelope
    assert message_id.encode() in body
    assert octets.partition(b"\r\n\r\n")[2] == body.partition(b"\r\n\r\n")[2]
    assert b"\r\nSubject: [...]\r\n" in body
    reader.store("1", "+FLAGS", r"(\Deleted)")
    assert reader.expunge()[1] == [b"1"]
    reader.logout()


def test_starttls_is_demanded_and_works(relay: Relay) -> None:
    address, password = relay.credentials()
    with smtplib.SMTP("127.0.0.1", relay.ports["submission"], timeout=60) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        client.starttls(context=wire.tls())
        client.login(address, password)
    plain = imaplib.IMAP4("127.0.0.1", relay.ports["imap"], timeout=60)
    with pytest.raises(imaplib.IMAP4.error, match="PRIVACYREQUIRED"):
        plain.login(address, password)
    plain.starttls(wire.tls())
    plain.login(address, password)
    plain.logout()


def test_imap_tools_searches_flags_and_moves(relay: Relay) -> None:
    alice, bob = relay.credentials(), relay.credentials()
    wire.imap(relay, *bob).logout()
    client = wire.smtp(relay, *alice)
    for _ in range(3):
        client.sendmail(alice[0], [bob[0]], wire.encrypted(alice[0])[1])
    client.quit()
    box = MailBox("127.0.0.1", relay.ports["imaps"], ssl_context=wire.tls())
    with box.login(*bob) as mailbox:
        uids = mailbox.uids()
        assert len(uids) == 3
        mailbox.flag(uids[:1], MailMessageFlags.SEEN, True)
        assert mailbox.uids("SEEN") == uids[:1]
        assert [m.uid for m in mailbox.fetch("UNSEEN", mark_seen=False)] == uids[1:]
        mailbox.folder.create("Archive")
        mailbox.move(uids[1:2], "Archive")
        assert mailbox.uids() == [uids[0], uids[2]]
        mailbox.folder.set("Archive")
        assert len(mailbox.uids()) == 1
        mailbox.delete(mailbox.uids())
        assert mailbox.uids() == []


def test_cleartext_is_refused_at_every_door(relay: Relay) -> None:
    alice, bob = relay.credentials(), relay.credentials()
    wire.imap(relay, *bob).logout()
    text = f"From: <{alice[0]}>\r\nTo: <{bob[0]}>\r\nSubject: x\r\n\r\nhello\r\n".encode()
    client = wire.smtp(relay, *alice)
    with pytest.raises(smtplib.SMTPDataError) as refused:
        client.sendmail(alice[0], [bob[0]], text)
    assert refused.value.smtp_code == 523
    assert b"Invalid Unencrypted Mail" in refused.value.smtp_error
    client.quit()
    reader = wire.imap(relay, *alice)
    answer, data = reader.append("INBOX", "", "", text)
    assert answer == "NO"
    assert b"Invalid Unencrypted Mail" in data[0]
    answer, _ = reader.append("INBOX", r"(\Seen)", "", wire.encrypted(alice[0])[1])
    assert answer == "OK"
    reader.logout()


@pytest.mark.skipif(shutil.which("mbsync") is None, reason="isync is not installed")
def test_mbsync_copies_an_inbox_one_way(relay: Relay, tmp_path: Path) -> None:
    alice, bob = relay.credentials(), relay.credentials()
    wire.imap(relay, *bob).logout()
    client = wire.smtp(relay, *alice)
    for _ in range(20):
        client.sendmail(alice[0], [bob[0]], wire.encrypted(alice[0], 5_000)[1])
    client.quit()
    certificate = relay.folder / "state" / "tls" / "fullchain.pem"
    maildir = tmp_path / "mail"
    maildir.mkdir()
    config = tmp_path / "mbsyncrc"
    config.write_text(
        f"""\
IMAPAccount relay
Host 127.0.0.1
Port {relay.ports["imaps"]}
User {bob[0]}
Pass "{bob[1]}"
SSLType IMAPS
CertificateFile {certificate}

IMAPStore far
Account relay

MaildirStore near
Path {maildir}/
Inbox {maildir}/INBOX

Channel inbox
Far :far:
Near :near:
Patterns INBOX
Create Near
Sync Pull
SyncState *
"""
    )
    run = subprocess.run(
        ["mbsync", "-c", str(config), "inbox"], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert len(list((maildir / "INBOX" / "new").iterdir())) == 20
