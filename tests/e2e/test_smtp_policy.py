"""Who may send how much to whom: identity, rate, recipients, reports, quota."""

from __future__ import annotations

import imaplib
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from tests.builders import make_message
from tests.e2e import mailbox, wire
from tests.e2e.configured import ConfiguredRelay, running
from tests.e2e.databases import Rows
from tests.e2e.mailbox import await_messages, count, messages, newcomer, usage_kib
from tests.e2e.rawsmtp import RawSmtp, plain, submitter
from tests.e2e.relay import Relay, wait_until
from tests.e2e.stopwatch import Stopwatch
from tests.e2e.test_settings import said

QUOTA = 1024 * 1024
SMALL = {"max_mailbox_size": f'"{QUOTA}"', "max_message_size": f'"{QUOTA}"'}
OLD = '"01-Jan-2024 00:00:00 +0000" '
FULL = "552 5.2.2 Quota exceeded (mailbox for user is full)"


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredRelay]:
    with running(tmp_path_factory.mktemp("policy"), limits=SMALL) as relay:
        yield relay


@pytest.fixture
def alice(relay: Relay) -> tuple[str, str]:
    return newcomer(relay)


@pytest.fixture
def bob(relay: Relay) -> tuple[str, str]:
    return newcomer(relay)


# --- identity ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["", "other1234@[127.0.0.1]", "victim@example.net", "{local}+tag@[127.0.0.1]"]
)
def test_a_foreign_sender_is_refused_at_every_recipient(
    relay: Relay, alice: tuple[str, str], bob: tuple[str, str], path: str
) -> None:
    path = path.format(local=alice[0].partition("@")[0])
    refused = f"553 5.7.1 <{path}>: Sender address rejected: not owned by user {alice[0]}"
    with submitter(relay, alice) as client:
        assert client.command(f"MAIL FROM:<{path}>").whole == "250 2.1.0 Ok"
        assert client.command(f"RCPT TO:<{bob[0]}>").whole == refused
        assert client.command("RCPT TO:<x@example.net>").whole == refused
        assert client.command("DATA").whole == "554 5.5.1 No valid recipients"
        assert client.command("RSET").code == 250
        assert client.submit(alice[0], [bob[0]], wire.encrypted(alice[0])[1]).code == 250


@pytest.mark.parametrize("author", ["other1234@[127.0.0.1]", "victim@example.net"])
def test_a_forged_author_is_refused_and_nothing_is_stored(
    relay: Relay, alice: tuple[str, str], bob: tuple[str, str], author: str
) -> None:
    with submitter(relay, alice) as client:
        reply = client.submit(alice[0], [bob[0]], wire.encrypted(author)[1])
        assert reply.whole == f"500 5.7.1 Invalid FROM <{author}> for <{alice[0]}>"
        twice = make_message(sender=alice[0], fields=[("From", alice[0]), ("from", author)])
        reply = client.submit(alice[0], [bob[0]], twice)
        assert reply.whole == "554 5.6.0 Malformed or oversized header"
        sender = make_message(sender=alice[0]).replace(
            b"Date:", f"Sender: {author}\r\nDate:".encode()
        )
        assert client.submit(alice[0], [bob[0]], sender).code == 500
        assert client.submit(alice[0], [bob[0]], make_message(without=["From"])).code == 500
        # The session goes on, and case does not make another person of the owner.
        octets = wire.encrypted(alice[0].upper())[1]
        assert client.submit(alice[0].upper(), [bob[0]], octets).code == 250
    assert count(relay, bob) == 1


def test_reserved_names_are_nobody(relay: Relay, alice: tuple[str, str]) -> None:
    with submitter(relay, alice) as client:
        for name in ("postmaster", "mailer-daemon", "abuse"):
            reply = client.submit(alice[0], [f"{name}@[127.0.0.1]"], wire.encrypted(alice[0])[1])
            assert reply.code == 550


# --- recipients ----------------------------------------------------------------------------------


def test_brackets_of_the_domain_do_not_matter(relay: Relay, alice: tuple[str, str]) -> None:
    bare = alice[0].replace("[", "").replace("]", "")
    with RawSmtp(relay).secure() as client:
        assert client.command(b"AUTH PLAIN " + plain(bare, alice[1])).code == 235
        for sender, recipient in ((bare, bare), (bare, alice[0]), (alice[0], bare)):
            octets = wire.encrypted(sender)[1]
            assert client.submit(sender, [recipient], octets).code == 250
    wire.imap(relay, bare, alice[1]).logout()
    assert count(relay, alice) == 3


def test_an_unknown_recipient_alone_is_the_reply_and_leaves_no_mail_behind(
    relay: Relay, alice: tuple[str, str]
) -> None:
    stranger = relay.credentials()
    with submitter(relay, alice) as client:
        reply = client.submit(alice[0], [stranger[0]], wire.encrypted(alice[0])[1])
        assert reply.whole == (
            f"550 5.1.1 <{stranger[0]}>: Recipient address rejected: User unknown"
        )
        reply = client.submit(alice[0], [alice[0], stranger[0]], wire.encrypted(alice[0])[1])
        assert reply.code == 250
    wire.imap(relay, *stranger).logout()
    assert count(relay, stranger) == 0, "who takes the name later gets nothing of it"
    assert len(await_messages(relay, alice, 2)) == 2


def test_a_group_with_failing_members_is_served_and_reported_once(
    relay: Relay, alice: tuple[str, str], bob: tuple[str, str]
) -> None:
    carol, full, dead = newcomer(relay), newcomer(relay), relay.credentials()
    _fill(relay, full, 900_000)
    remote = "somebody@blocked.example"
    said(relay, "federation", "block", "blocked.example")
    message_id, octets = wire.encrypted(alice[0], 200_000)
    octets = octets.replace(b"\r\n\r\n", b"\r\nX-Original: kept\r\n\r\n", 1)
    everyone = [dead[0], bob[0], remote, full[0], carol[0]]
    with submitter(relay, alice) as client:
        assert client.submit(alice[0], everyone, octets).code == 250
    assert count(relay, bob) == count(relay, carol) == 1
    assert count(relay, full) == 1
    (report,) = await_messages(relay, alice, 1)
    late_s = _stored_at(relay, alice) - _stored_at(relay, bob)
    assert late_s >= 2, "the report comes after the reply"
    human, status, original = _parts(report)
    for address in (dead[0], remote, full[0]):
        assert f"Could not deliver to {address}: " in human
    assert "Undelivered Mail" in human
    assert bob[0] not in report.decode()
    assert carol[0] not in report.decode()
    blocks = [dict(part.items()) for part in status]
    assert blocks[0]["Reporting-MTA"] == "dns; 127.0.0.1"
    assert [block["Final-Recipient"] for block in blocks[1:]] == [
        f"rfc822; {address}" for address in (dead[0], remote, full[0])
    ]
    assert [block["Action"] for block in blocks[1:]] == ["failed"] * 3
    assert [block["Status"] for block in blocks[1:]] == ["5.1.1", "5.7.1", "5.2.2"]
    assert blocks[3]["Diagnostic-Code"] == f"smtp; {FULL}"
    quoted = message_from_bytes(original)
    assert quoted["Message-ID"] == message_id
    assert quoted["X-Original"] == "kept"
    assert b"PGP MESSAGE" not in report, "never the body"


def _stored_at(relay: Relay, account: tuple[str, str]) -> float:
    """When the relay took the first message of an INBOX, in whole seconds."""
    with wire.imap(relay, *account) as client:
        client.select("INBOX", readonly=True)
        told = client.fetch("1", "(INTERNALDATE)")[1][0]
    date = imaplib.Internaldate2tuple(told)
    assert date is not None
    return time.mktime(date)


def _parts(report: bytes) -> tuple[str, list[Message], bytes]:
    """Take a report apart, holding it to what Delta Chat core wants."""
    parsed = message_from_bytes(report)
    assert parsed["From"] == "Mail Delivery System <MAILER-DAEMON@[127.0.0.1]>"
    assert parsed["Subject"] == "Undelivered Mail Returned to Sender"
    assert parsed["Auto-Submitted"] == "auto-replied"
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "delivery-status"
    human, status, original = parsed.get_payload()
    assert human.get_content_type() == "text/plain"
    assert status.get_content_type() == "message/delivery-status"
    assert original.get_content_type() == "text/rfc822-headers"
    return human.get_payload(), status.get_payload(), original.get_payload().encode()


def test_a_recipient_named_to_break_lines_breaks_none(relay: Relay, alice: tuple[str, str]) -> None:
    fields = [("From", "evil\r\n 250 OK <y> \x7f\x01@example.org")]
    with submitter(relay, alice) as client:
        reply = client.submit(alice[0], [alice[0]], make_message(fields=fields))
        assert reply.code == 500
        assert len(reply.lines) == 1
        assert client.command("NOOP").code == 250


# --- rate ----------------------------------------------------------------------------------------


def test_ten_messages_at_once_then_one_a_second(
    relay: ConfiguredRelay, alice: tuple[str, str], bob: tuple[str, str]
) -> None:
    relay.reload(limits={**SMALL, "send_rate_per_minute": "60"})
    try:
        with submitter(relay, alice) as client, submitter(relay, alice) as other:
            began = time.monotonic()
            sent = _send_until_refused(client, alice[0], bob[0])
            for _ in range(2):
                wait_until("a second has passed", lambda: _may_send(client, alice[0], bob[0]))
                sent += 1
            assert sent >= 12
            assert sent - 10 <= time.monotonic() - began, "more than one a second"
            # Another connection and another spelling are the same account; one of its own would
            # have ten at once. Each time a second may pass until it is asked.
            for _ in range(9):
                sent += _may_send(client, alice[0], bob[0])
                assert other.command(f"MAIL FROM:<{alice[0].upper()}>").code == 250
                reply = other.command(f"RCPT TO:<{bob[0]}>")
                assert other.command("RSET").code == 250
                if reply.code == 450:
                    break
            assert reply.whole.startswith("450 4.7.1: Too much mail from <")
        with submitter(relay, bob) as unaffected:
            reply = unaffected.submit(bob[0], [alice[0]], wire.encrypted(bob[0])[1])
            assert reply.code == 250
    finally:
        relay.reload(limits=SMALL)
    assert count(relay, bob) == sent


def _send_until_refused(client: RawSmtp, sender: str, recipient: str) -> int:
    """Send ten, and as many more as tokens come back meanwhile; returns how many it were."""
    octets = wire.encrypted(sender)[1]
    for _ in range(10):
        assert client.submit(sender, [recipient], octets).code == 250
    sent = 10
    ask = f"MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nRCPT TO:<{sender}>\r\nDATA\r\n"
    while True:
        client.send(ask.encode())
        _, reply, again, data = client.replies(4)
        if data.code != 354:
            break
        assert client.content(octets).code == 250
        sent += reply.code == 250
    assert reply.whole == f"450 4.7.1: Too much mail from <{sender}>"
    assert again.whole == reply.whole
    assert data.code == 554
    assert client.command("RSET").code == 250
    return sent


def _may_send(client: RawSmtp, sender: str, recipient: str) -> bool:
    assert client.command(f"MAIL FROM:<{sender}>").code == 250
    if client.command(f"RCPT TO:<{recipient}>").code == 450:
        assert client.command("RSET").code == 250
        return False
    assert client.command("DATA").code == 354
    return client.content(wire.encrypted(sender)[1]).code == 250


# --- thousand recipients -------------------------------------------------------------------------


BEYOND = 1 << 20
"""Added to the ids that the relay gave, so that it does not give ours in the meantime."""


def _multiply(relay: Relay, account: tuple[str, str], number: int) -> list[tuple[str, str]]:
    """Give the stopped relay copies of an account with an empty INBOX, password and all."""
    new = [(f"clone{at:04}@[127.0.0.1]", account[1]) for at in range(number)]
    with relay.rows() as db:
        (old,) = db.execute("SELECT id FROM accounts WHERE address = ?", account[:1]).fetchone()
        (first,) = db.execute(f"SELECT max(id) + {BEYOND} FROM accounts").fetchone()
        (box,) = db.execute(f"SELECT max(id) + {BEYOND} FROM mailboxes").fetchone()
        for at, (address, _) in enumerate(new):
            changes = {"id": first + at, "address": address, "inbox": box + at}
            _copy_row(db, "accounts", f"id = {old}", changes)
            changes = {"id": box + at, "account": first + at}
            _copy_row(db, "mailboxes", f"account = {old} AND name = 'INBOX'", changes)
    return new


def _copy_row(db: Rows, table: str, where: str, changes: dict[str, object]) -> None:
    cursor = db.execute(f"SELECT * FROM {table} WHERE {where}")
    names = [column[0] for column in cursor.description]
    row = dict(zip(names, cursor.fetchone(), strict=True)) | changes
    marks = ", ".join("?" * len(row))
    db.execute(f"INSERT INTO {table} VALUES ({marks})", list(row.values()))


def test_a_thousand_recipients_share_one_copy(tmp_path: Path) -> None:
    with running(tmp_path / "relay") as relay:
        alice = newcomer(relay)
        relay.stop()
        clones = _multiply(relay, alice, 1000)
        relay.start()
        for size in (3_000, 1_000_000):
            _send_to_all(relay, alice, clones, size)
        with ThreadPoolExecutor(4) as pool:
            counts = pool.map(lambda clone: count(relay, clone), clones[::40])
            assert set(counts) == {2}
        with relay.rows() as db:
            rows = db.execute("SELECT count(*), count(DISTINCT mailbox) FROM messages").fetchone()
            assert rows == (2000, 1000)
            assert db.execute("SELECT refs FROM blobs").fetchall() == [(1000,), (1000,)]


def _send_to_all(
    relay: Relay, sender: tuple[str, str], recipients: list[tuple[str, str]], size: int
) -> None:
    octets = wire.encrypted(sender[0], size)[1]
    before = mailbox.state_bytes(relay)
    with submitter(relay, sender) as client:
        commands = [f"MAIL FROM:<{sender[0]}>", *(f"RCPT TO:<{to}>" for to, _ in recipients)]
        client.send("".join(f"{line}\r\n" for line in commands).encode())
        assert {reply.code for reply in client.replies(1001)} == {250}
        over = client.command(f"RCPT TO:<{sender[0]}>")
        assert over.whole == "452 4.5.3 Too many recipients"
        assert client.command(f"RCPT TO:<{recipients[5][0]}>").code == 250, "a known one costs none"
        assert client.command("DATA").code == 354
        stopwatch = Stopwatch(relay)
        stopwatch.start()
        assert client.content(octets).code == 250
        assert stopwatch.elapsed_s() < 5
    assert mailbox.state_bytes(relay) - before < 2 * len(octets) + 100_000


# --- quota ---------------------------------------------------------------------------------------


def _fill(relay: Relay, account: tuple[str, str], size: int, options: str = "") -> None:
    with wire.imap(relay, *account) as client:
        reply = mailbox.append(client, wire.encrypted(account[0], size)[1], options=options)
        assert reply.startswith(b"OK"), reply


def test_old_mail_makes_room_and_an_idling_session_sees_it_go(
    relay: Relay, alice: tuple[str, str], bob: tuple[str, str]
) -> None:
    for _ in range(7):
        _fill(relay, bob, 100_000, OLD)
    with wire.imap(relay, *bob) as idler:
        assert idler.select("INBOX")[1] == [b"7"]
        idler.send(b"I1 IDLE\r\n")
        assert idler.readline().startswith(b"+ ")
        with submitter(relay, alice) as client:
            octets = wire.encrypted(alice[0], 100_000)[1]
            assert client.submit(alice[0], [bob[0]], octets).code == 250
        seen = [idler.readline()]
        while b"EXPUNGE" not in seen[-1]:
            seen.append(idler.readline())
        assert seen[0] == b"* 8 EXISTS\r\n"
        assert seen[-1] == b"* 1 EXPUNGE\r\n", "oldest first"
        idler.send(b"DONE\r\n")
        while not (line := idler.readline()).startswith(b"I1 "):
            assert line == b"* 1 EXPUNGE\r\n"
        used, limit = usage_kib(idler)
        assert limit == QUOTA // 1024
        assert used <= limit * 0.70
        assert used > limit * 0.55, "no more than needed"


def test_a_full_mailbox_of_young_mail_refuses_until_something_is_deleted(
    relay: Relay, alice: tuple[str, str], bob: tuple[str, str]
) -> None:
    for _ in range(2):
        _fill(relay, bob, 500_000)
    octets = wire.encrypted(alice[0], 100_000)[1]
    with submitter(relay, alice) as client, wire.imap(relay, *bob) as owner:
        assert client.submit(alice[0], [bob[0]], octets).whole == FULL
        refused = mailbox.append(owner, wire.encrypted(bob[0], 100_000)[1])
        assert refused == b"NO [OVERQUOTA] Quota exceeded (mailbox for user is full)"
        owner.select("INBOX")
        refused_copy = owner.copy("1", "INBOX")
        assert refused_copy[0] == "NO"
        assert b"OVERQUOTA" in refused_copy[1][0]
        used, _ = usage_kib(owner)
        owner.store("1", "+FLAGS", r"(\Deleted)")
        owner.expunge()
        assert client.submit(alice[0], [bob[0]], octets).code == 250
        assert usage_kib(owner)[0] == pytest.approx(used / 2 + 101, abs=8)


def test_quota_is_the_sum_of_what_is_stored(
    relay: Relay, alice: tuple[str, str], bob: tuple[str, str]
) -> None:
    with submitter(relay, alice) as client:
        for size in (1_000, 50_000, 400_000):
            assert client.submit(alice[0], [bob[0]], wire.encrypted(alice[0], size)[1]).code == 250
    total = sum(len(octets) for octets in messages(relay, bob))
    with wire.imap(relay, *bob) as owner:
        assert usage_kib(owner) == (-(-total // 1024), QUOTA // 1024)
        sizes = re.findall(rb"RFC822.SIZE (\d+)", b"".join(_all_sizes(owner)))
        assert sum(map(int, sizes)) == total


def _all_sizes(owner: imaplib.IMAP4) -> list[bytes]:
    owner.select("INBOX")
    return [row for row in owner.fetch("1:*", "(RFC822.SIZE)")[1] if isinstance(row, bytes)]
