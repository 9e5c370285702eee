"""IMAP from the greeting on, core's recorded session, pipelining.

Numbers in docstrings are those of spec mail 11.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.e2e.raw import (
    RawImap,
    Sender,
    capabilities,
    client,
    newcomer,
    running,
)
from tests.e2e.relay import Relay


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """One relay for the whole file."""
    with running(Relay(tmp_path_factory.mktemp("session"))) as relay:
        yield relay


# --- 1, 2: greeting and capabilities ------------------------------------------------------------


def test_capabilities_before_login_name_what_core_looks_for(relay: Relay) -> None:
    """1."""
    with RawImap(relay) as raw:
        greeting = capabilities(raw.greet())
        [[listed]] = raw.ok("CAPABILITY").find(rb"^\* CAPABILITY (.+)")
    assert listed.decode().split(" ") == greeting
    core = {"ID", "IDLE", "MOVE", "QUOTA", "METADATA", "COMPRESS=DEFLATE"}
    assert {"IMAP4rev1", "LITERAL+", "XCHATMAIL", "XDELTAPUSH", "AUTH=PLAIN", *core} <= set(
        greeting
    )
    assert not {"STARTTLS", "LOGINDISABLED"} & set(greeting)


def test_cleartext_offers_starttls_and_takes_no_password(relay: Relay) -> None:
    """1; spec 1.4, 1.5: no second greeting, capabilities told anew."""
    account = relay.credentials()
    with RawImap(relay, "imap") as raw:
        names = capabilities(raw.greet())
        assert {"STARTTLS", "LOGINDISABLED", "XCHATMAIL"} <= set(names)
        assert not [name for name in names if name.startswith("AUTH=")]
        login = f"LOGIN {account[0]} {account[1]}"
        assert raw.refused(login).startswith(b"NO [PRIVACYREQUIRED] ")
        assert raw.refused("AUTHENTICATE PLAIN").startswith(b"NO [PRIVACYREQUIRED] ")
        raw.ok("STARTTLS")
        raw.start_tls()
        assert raw.is_silent(0.2), "a second greeting"
        raw.log_in(account)
        assert raw.refused("STARTTLS").startswith(b"BAD ")


def test_login_ok_carries_capabilities_and_nothing_before_it(relay: Relay) -> None:
    """2."""
    with RawImap(relay) as raw:
        raw.greet()
        account = relay.credentials()
        answer = raw.ok(f'LOGIN "{account[0]}" "{account[1]}"')
        assert answer.untagged == []
        names = capabilities(answer.tagged)
        assert answer.tagged.endswith(b"] Logged in\r\n")
        assert {"IMAP4rev1", "COMPRESS=DEFLATE", "XCHATMAIL", "XDELTAPUSH"} <= set(names)
        assert not [name for name in names if name.startswith("AUTH=")]
        raw.compress()
        [[listed]] = raw.ok("CAPABILITY").find(rb"^\* CAPABILITY (.+)")
        assert b"COMPRESS=DEFLATE" not in listed
        assert raw.refused("COMPRESS DEFLATE").startswith(b"NO [COMPRESSIONACTIVE]")


def test_every_reply_that_core_parses_at_once_comes_in_one_record(relay: Relay) -> None:
    """Spec 1.6, trap T19: a reply split over two reads is a parse error in core."""
    with client(relay, relay.credentials(), "INBOX") as raw:
        for command in (
            b'ID ("name" "Delta Chat")',
            b"CAPABILITY",
            b'GETQUOTAROOT "INBOX"',
            b'GETMETADATA "" (/shared/vendor/deltachat/maxsmtprecipients /shared/comment)',
            b"STATUS INBOX (UIDNEXT MESSAGES)",
            b'SELECT "INBOX"',
        ):
            raw.send(b"T1 " + command + b"\r\n")
            record = raw.socket.recv(65536)  # one record at most
            assert re.search(rb"^T1 OK [^\r\n]*\r\n\Z", record, re.MULTILINE), record


# --- 5: core's session, octet for octet ---------------------------------------------------------

METADATA = (
    b'GETMETADATA "" (/shared/comment /shared/admin /shared/vendor/deltachat/irohrelay'
    b" /shared/vendor/deltachat/turn /shared/vendor/deltachat/maxsmtprecipients"
    b" /shared/vendor/deltachat/appversions)\r\n"
)
PREFETCH = (
    b"(UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID DATE X-MICROSOFT-ORIGINAL-MESSAGE-ID"
    b" FROM CONTENT-TYPE SECURE-JOIN CHAT-VERSION CHAT-IS-POST-MESSAGE AUTOCRYPT-SETUP-MESSAGE)])"
)


@pytest.mark.parametrize("is_compressed", [False, True], ids=["plain", "COMPRESS"])
def test_core_session_is_replayed_octet_for_octet(relay: Relay, is_compressed: bool) -> None:
    """5: spec mail 3.2; every response is judged by the rules of core's parser."""
    account = newcomer(relay)
    with RawImap(relay) as raw, Sender(relay) as sender:
        message_id = sender.send(account[0], size=20_000)
        raw.greet()

        def say(octets: bytes) -> list[bytes]:
            """Send one recorded line; returns the octets of the responses."""
            raw.send(octets)
            tag = octets.split(b" ", 1)[0]
            responses = [response.octets for response in raw.until(tag + b" ")]
            assert responses[-1].startswith(tag + b" OK "), responses[-1]
            return responses

        login = b'A0001 LOGIN "%b" "%b"\r\n' % tuple(part.encode() for part in account)
        assert len(say(login)) == 1
        told = say(b'A0002 ID ("name" "Delta Chat")\r\n')
        assert len(told) == 2
        assert told[0].startswith(b'* ID ("name" ')
        number = 2
        if is_compressed:
            assert say(b"A0003 COMPRESS DEFLATE\r\n") == [b"A0003 OK DEFLATE active\r\n"]
            raw.start_deflate()
            assert raw.is_silent(0.2)
            number = 0  # tags restart (trap T13)

        def tag() -> bytes:
            nonlocal number
            number += 1
            return b"A%04d " % number

        root, quota, _ = say(tag() + b'GETQUOTAROOT "INBOX"\r\n')
        assert root == b'* QUOTAROOT "INBOX" "User quota"\r\n'
        assert re.fullmatch(rb'\* QUOTA "User quota" \(STORAGE \d+ 512000\)\r\n', quota)
        entries, _ = say(tag() + METADATA)
        assert entries.startswith(b'* METADATA "" (')
        assert b"/shared/vendor/deltachat/maxsmtprecipients {4}\r\n1000" in entries
        assert len(say(tag() + b'SETMETADATA "INBOX" (/private/devicetoken "openpgp:x")\r\n')) == 1
        selected = b"".join(say(tag() + b'SELECT "INBOX"\r\n'))
        assert b"* 1 EXISTS\r\n" in selected
        assert re.search(rb"\* OK \[UIDVALIDITY [1-9]\d*\] ", selected)
        assert b"* OK [UIDNEXT 2] " in selected
        fetched = say(tag() + b"UID FETCH 1:500 " + PREFETCH + b"\r\n")
        assert len(fetched) == 2
        assert message_id.encode() in fetched[0]
        size = re.search(rb"RFC822\.SIZE (\d+)", fetched[0])
        assert size is not None
        assert re.search(
            rb"BODY\[HEADER.FIELDS \(MESSAGE-ID DATE X-MICROSOFT-ORIGINAL-MESSAGE-ID FROM"
            rb" CONTENT-TYPE SECURE-JOIN CHAT-VERSION CHAT-IS-POST-MESSAGE"
            rb" AUTOCRYPT-SETUP-MESSAGE\)\] \{\d+\}\r\n",
            fetched[0],
        )
        body, _ = say(tag() + b"UID FETCH 1 (FLAGS BODY.PEEK[])\r\n")
        assert re.match(rb"\* 1 FETCH \([^{]*FLAGS \(\)", body)
        assert b"BODY[] {%b}\r\n" % size[1] in body
        say(tag() + b"UID STORE 1 +FLAGS (\\Deleted)\r\n")
        assert len(say(tag() + b"CLOSE\r\n")) == 1, "CLOSE expunges without EXPUNGE lines"
        selected = b"".join(say(tag() + b'SELECT "INBOX"\r\n'))
        assert b"* 0 EXISTS\r\n" in selected
        assert b"* OK [UIDNEXT 2] " in selected
        idle = tag()
        raw.send(idle + b"IDLE\r\n")
        assert raw.line() == b"+ idling\r\n"
        sender.send(account[0])
        assert raw.line() == b"* 1 EXISTS\r\n"
        raw.send(b"DONE\r\n")
        *_, last = raw.until(idle)
        assert last.octets.startswith(idle + b"OK ")
        if is_compressed:
            assert raw.sent.count(b"A0001 ") == 2


def test_other_commands_of_core_are_served(relay: Relay) -> None:
    """Spec mail 3.2 (below the transcript) and 3.8 (older releases)."""
    account = newcomer(relay)
    with client(relay, account) as raw, Sender(relay) as sender:
        for _ in range(3):
            sender.send(account[0])
        raw.ok('SELECT "INBOX" (CONDSTORE)')
        assert raw.ok('STATUS "INBOX" (UIDNEXT)').lines == [b'* STATUS "INBOX" (UIDNEXT 4)']
        resync = raw.ok(
            "UID FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID"
            " X-MICROSOFT-ORIGINAL-MESSAGE-ID)])"
        )
        assert len(resync.find(rb"UID \d+")) == 3
        raw.ok("UID STORE 1 +FLAGS (\\Seen)")
        assert len(raw.ok("UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1)").find(rb"MODSEQ \(\d+\)")) == 3
        assert raw.ok('LIST "" "*"').lines == [b'* LIST (\\HasNoChildren) "/" "INBOX"']
        assert raw.refused('UID MOVE 1 "DeltaChat"').startswith(b"NO [TRYCREATE]")
        raw.ok('CREATE "DeltaChat"')
        moved = raw.ok('UID MOVE 1 "DeltaChat"')
        assert moved.find(rb"COPYUID \d+ 1 1\]") == [()]
        assert raw.ok('SETMETADATA "INBOX" (/private/devicetoken {5+}\r\n12345)').is_ok


# --- 6: pipelining ------------------------------------------------------------------------------


def test_commands_in_one_segment_are_answered_in_order(relay: Relay) -> None:
    """6."""
    account = newcomer(relay)
    with Sender(relay) as sender:
        sender.send(account[0])
    with RawImap(relay) as raw:
        raw.greet()
        raw.send(
            b'A1 LOGIN "%b" "%b"\r\nA2 SELECT "INBOX"\r\n' % tuple(p.encode() for p in account)
            + b"A3 UID FETCH 1:* (FLAGS BODY.PEEK[])\r\nA4 NOOP\r\nA5 LOGOUT\r\n"
        )
        tags = re.findall(rb"^(A\d) OK ", raw.rest(), re.MULTILINE)
    assert tags == [b"A1", b"A2", b"A3", b"A4", b"A5"]


@pytest.mark.parametrize("is_compressed", [False, True], ids=["plain", "COMPRESS"])
def test_logout_says_bye_and_closes(relay: Relay, is_compressed: bool) -> None:
    """4.4: compressed too, and flushed."""
    with client(relay, relay.credentials(), "INBOX") as raw:
        if is_compressed:
            raw.compress()
        assert raw.ok("LOGOUT").lines == [b"* BYE Logging out"]
        assert raw.rest() == b""


def test_wrong_state_and_errors_do_not_end_a_session(relay: Relay) -> None:
    """Spec mail 4.1, trap T33: BAD, a bare LF, odd tags."""
    with RawImap(relay) as raw:
        raw.greet()
        assert raw.refused("SELECT INBOX").startswith(b"BAD ")
        assert raw.refused("FROBNICATE").startswith(b"BAD ")
        raw.log_in(relay.credentials())
        assert raw.refused("UID FETCH 1 FLAGS").startswith(b"BAD ")
        assert raw.refused("LOGIN a b").startswith(b"BAD ")
        raw.send(b"x1 NOOP\n")
        assert raw.answer(b"x1").is_ok
        raw.send(b"x2 NO\0OP\r\nx3 NO\rOP\r\nx3 NOOP\r\n")
        assert raw.answer(b"x2").tagged.startswith(b"x2 BAD ")
        assert raw.answer(b"x3").tagged.startswith(b"x3 BAD ")
        assert raw.answer(b"x3").is_ok
        for _ in range(49):
            assert raw.refused("FROBNICATE").startswith(b"BAD ")
        raw.send(b"x4 FROBNICATE\r\n")
        assert raw.rest().endswith(b"* BYE Too many errors\r\n")
