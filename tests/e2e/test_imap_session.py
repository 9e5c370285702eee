"""IMAP from the greeting to the login, core's recorded session, ALPN.

Numbers in docstrings are those of spec mail 11.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.e2e import wire
from tests.e2e.raw import (
    Closed,
    RawImap,
    Sender,
    capabilities,
    client,
    in_parallel,
    newcomer,
    quoted,
    running,
    smtp_auth,
)
from tests.e2e.rawsmtp import Lost, RawSmtp, plain
from tests.e2e.relay import Relay, wait_until
from tests.e2e.stopwatch import Stopwatch
from tests.patience import PATIENCE_S

PASSWORDS = [
    pytest.param('a"b\\c d{}', id="quotes, backslash, space, braces"),
    pytest.param('"\\"\\\\ {5}', id="looks like a literal"),
    pytest.param("grüße-пароль-🔑", id="UTF-8"),
    pytest.param(" leading and trailing ", id="spaces"),
    pytest.param("%s\\0(*)[]<>&~`", id="punctuation"),
]


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


# --- 3: passwords -------------------------------------------------------------------------------


def by_login_quoted(relay: Relay, account: tuple[str, str]) -> bool:
    with RawImap(relay) as raw:
        raw.greet()
        return raw.run(f"LOGIN {quoted(account[0])} {quoted(account[1])}").is_ok


def by_login_literal(relay: Relay, account: tuple[str, str]) -> bool:
    with RawImap(relay) as raw:
        raw.greet()
        tag, password = raw.tag(), account[1].encode()
        raw.send(b"%b LOGIN {%d}\r\n" % (tag, len(account[0])))
        assert raw.response().octets.startswith(b"+ ")
        raw.send(b"%b {%d}\r\n" % (account[0].encode(), len(password)))
        assert raw.response().octets.startswith(b"+ ")
        raw.send(password + b"\r\n")
        return raw.answer(tag).is_ok


def by_login_literal_plus(relay: Relay, account: tuple[str, str]) -> bool:
    with RawImap(relay) as raw:
        raw.greet()
        password = account[1].encode()
        return raw.run(
            b'LOGIN "%b" {%d+}\r\n%b' % (account[0].encode(), len(password), password)
        ).is_ok


def by_authenticate_initial(relay: Relay, account: tuple[str, str]) -> bool:
    with RawImap(relay) as raw:
        raw.greet()
        return raw.run(b"AUTHENTICATE PLAIN " + sasl_plain(account)).is_ok


def by_authenticate_asked(relay: Relay, account: tuple[str, str]) -> bool:
    with RawImap(relay) as raw:
        raw.greet()
        tag = raw.tag()
        raw.send(tag + b" AUTHENTICATE PLAIN\r\n")
        assert raw.line() == b"+ \r\n"
        raw.send(sasl_plain(account) + b"\r\n")
        return raw.answer(tag).is_ok


def by_smtp_plain(relay: Relay, account: tuple[str, str]) -> bool:
    return smtp_auth(relay, account) == 235


def by_smtp_login(relay: Relay, account: tuple[str, str]) -> bool:
    return smtp_auth(relay, account, "LOGIN") == 235


def sasl_plain(account: tuple[str, str], authzid: str = "") -> bytes:
    return base64.b64encode("\0".join((authzid, *account)).encode())


WAYS: list[Callable[[Relay, tuple[str, str]], bool]] = [
    by_login_quoted,
    by_login_literal,
    by_login_literal_plus,
    by_authenticate_initial,
    by_authenticate_asked,
    by_smtp_plain,
    by_smtp_login,
]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("first", [by_login_quoted, by_smtp_plain, by_login_literal])
def test_password_made_one_way_opens_every_way(
    relay: Relay, first: Callable[[Relay, tuple[str, str]], bool], password: str
) -> None:
    """3, trap T23."""
    account = relay.credentials()[0], password
    assert first(relay, account)
    assert [way.__name__ for way in WAYS if not way(relay, account)] == []


def test_authenticate_is_cancelled_garbled_and_for_somebody_else(relay: Relay) -> None:
    """Spec 2.8."""
    account, other = newcomer(relay), newcomer(relay)
    with RawImap(relay) as raw:
        raw.greet()
        tag = raw.tag()
        raw.send(tag + b" AUTHENTICATE PLAIN\r\n")
        assert raw.line() == b"+ \r\n"
        raw.send(b"*\r\n")
        assert raw.answer(tag).tagged.startswith(tag + b" BAD ")
        assert raw.refused("AUTHENTICATE PLAIN !!!!").startswith(b"BAD ")
        assert raw.refused("AUTHENTICATE XOAUTH2 AAAA").startswith(b"NO ")
        began = time.monotonic()
        refusal = raw.refused(b"AUTHENTICATE PLAIN " + sasl_plain(account, other[0]))
        assert refusal == b"NO [AUTHENTICATIONFAILED] Authentication failed."
        assert time.monotonic() - began > 1.8, "failures are slow"
        raw.ok(b"AUTHENTICATE PLAIN " + sasl_plain(account, account[0]))
        assert raw.refused(b"AUTHENTICATE PLAIN " + sasl_plain(account)).startswith(b"BAD ")


@pytest.mark.parametrize(
    "login",
    [
        pytest.param("{name}@127.0.0.1", id="bare address"),
        pytest.param("{NAME}@[127.0.0.1]", id="capitals"),
    ],
)
def test_login_names_are_one_account_however_written(relay: Relay, login: str) -> None:
    """Spec 2.1."""
    account = newcomer(relay)
    with client(relay, account, "INBOX") as raw:
        validity = raw.select().number(rb"UIDVALIDITY (\d+)")
        name = account[0].split("@")[0]
        other = login.format(name=name, NAME=name.upper()), account[1]
        with client(relay, other, "INBOX") as same:
            assert same.select().number(rb"UIDVALIDITY (\d+)") == validity
            same.append(wire.encrypted(account[0])[1])
        assert raw.ok("NOOP").lines == [b"* 1 EXISTS"]


def test_unknown_refused_and_wrong_password_look_alike(relay: Relay) -> None:
    """Spec 2.2.4, 2.5, 2.6: the same words after the same time."""
    account = newcomer(relay)
    attempts = [
        (account[0], "not the password"),
        (f"short@{relay.domain}", "a password good enough"),
        (relay.credentials()[0], "tooshort"),
        ("somebody1@elsewhere.example", "a password good enough"),
        ("../../etc/passwd@[127.0.0.1]", "a password good enough"),
        ("no-at-sign", "a password good enough"),
    ]
    told: list[tuple[bytes, float, float]] = []

    def attempt(user: str, password: str) -> None:
        with RawImap(relay) as raw:
            raw.greet()
            stopwatch = Stopwatch(relay)
            began = time.monotonic()
            stopwatch.start()
            reply = raw.refused(f"LOGIN {quoted(user)} {quoted(password)}")
            told.append((reply, time.monotonic() - began, stopwatch.elapsed_s()))

    in_parallel([partial(attempt, *pair) for pair in attempts])
    assert {reply for reply, _, _ in told} == {b"NO [AUTHENTICATIONFAILED] Authentication failed."}
    assert len(told) == len(attempts)
    assert all(seconds >= 2.0 for _, seconds, _ in told), told
    assert all(undisturbed < 6.0 for _, _, undisturbed in told), told


# --- 4: parallel first logins -------------------------------------------------------------------


def test_fifty_first_logins_of_one_name_all_succeed(relay: Relay) -> None:
    """4, trap T22."""
    account = relay.credentials()
    outcomes: list[bool] = []

    def try_one(way: Callable[[Relay, tuple[str, str]], bool]) -> Callable[[], None]:
        return lambda: outcomes.append(way(relay, account))

    in_parallel([try_one(by_login_quoted), try_one(by_smtp_plain)] * 25)
    assert outcomes == [True] * 50
    with client(relay, account, "INBOX") as one, client(relay, account, "INBOX") as two:
        one.append(wire.encrypted(account[0])[1])
        assert two.ok("NOOP").lines == [b"* 1 EXISTS"]


def test_of_two_passwords_for_one_new_name_one_set_wins(relay: Relay) -> None:
    """4: losers are told so, or are still waiting for it; none of them is let in."""
    address, _ = relay.credentials()
    passwords = ["the first password", "the second password"]
    winners: list[str] = []
    refusals: list[bytes] = []
    waiting: list[socket.socket] = []
    told = b"[AUTHENTICATIONFAILED]"

    def over_imap(password: str) -> None:
        with RawImap(relay) as raw, contextlib.suppress(Closed, OSError):
            raw.greet()
            waiting.append(raw.socket)
            answer = raw.run(f"LOGIN {address} {quoted(password)}")
            if answer.is_ok:
                winners.append(password)
            else:
                refusals.append(answer.tagged)

    def over_smtp(password: str) -> None:
        with RawSmtp(relay) as raw, contextlib.suppress(Lost, OSError):
            raw.secure()
            waiting.append(raw.socket)
            if raw.command(b"AUTH PLAIN " + plain(address, password)).code == 235:
                winners.append(password)

    jobs = [
        partial(way, password)
        for way in (over_imap, over_smtp)
        for password in passwords
        for _ in range(10)
    ]
    with ThreadPoolExecutor(1) as pool:
        logins = pool.submit(in_parallel, jobs)
        try:
            wait_until("the winners are in", lambda: len(winners) == 20)
            wait_until("a loser was told", lambda: any(told in line for line in refusals))
        finally:  # the delay of a later loser is longer
            for one in waiting:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        logins.result()
    assert len(waiting) == 40
    assert len(set(winners)) == 1, "two passwords for one account"
    assert len(winners) == 20, "a holder of the right password was refused"
    assert by_login_quoted(relay, (address, winners[0]))


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


# --- 25: injection before TLS -------------------------------------------------------------------


@pytest.mark.parametrize("behind", ["A2 LOGIN {} {}\r\n", "A2", "\r\n"])
def test_cleartext_behind_starttls_closes_the_connection(relay: Relay, behind: str) -> None:
    """25: IMAP; nothing is answered and nothing of it is executed."""
    account = relay.credentials()
    with RawImap(relay, "imap") as raw:
        raw.greet()
        raw.send(b"A1 STARTTLS\r\n" + behind.format(*account).encode())
        assert raw.rest() == b""
    assert by_login_quoted(relay, (account[0], "another password")), "the account was made"


def test_cleartext_behind_smtp_starttls_closes_the_connection(relay: Relay) -> None:
    """25: SMTP."""
    account = relay.credentials()
    injected = f"EHLO x\r\nAUTH PLAIN {sasl_plain(account).decode()}\r\n"
    with socket.create_connection(("127.0.0.1", relay.ports["submission"]), PATIENCE_S) as raw:
        assert raw.recv(1000).startswith(b"220 ")
        raw.sendall(b"EHLO x\r\n")
        assert b"STARTTLS" in raw.recv(1000)
        raw.sendall(b"STARTTLS\r\n" + injected.encode())
        told = b""
        with contextlib.suppress(ConnectionError):
            while octets := raw.recv(1000):
                told += octets
    assert told == b""
    assert by_login_quoted(relay, (account[0], "another password"))


# --- 43: ALPN -----------------------------------------------------------------------------------


def certificate_at(relay: Relay, face: str, alpn: list[str], name: str | None = None) -> bytes:
    context = wire.tls()
    if alpn:
        context.set_alpn_protocols(alpn)
    with (
        socket.create_connection(("127.0.0.1", relay.ports[face]), PATIENCE_S) as raw,
        context.wrap_socket(raw, server_hostname=name) as tls,
    ):
        octets = tls.getpeercert(binary_form=True)
    assert octets is not None
    return octets


def test_alpn_on_443_chooses_the_face(relay: Relay) -> None:
    """43."""
    account = relay.credentials()
    for offered in (["imap"], ["imap", "http/1.1"]):
        with RawImap(relay, "https", alpn=offered) as raw:
            assert isinstance(raw.socket, ssl.SSLSocket)
            assert raw.socket.selected_alpn_protocol() == "imap"
            raw.greet()
            raw.log_in(account)
            raw.select()
    with RawImap(relay, "https", alpn=["smtp"]) as raw:
        assert raw.line().startswith(b"220 ")
        raw.send(b"EHLO [127.0.0.1]\r\n")
        while (line := raw.line()).startswith(b"250-"):
            assert b"STARTTLS" not in line
        raw.send(b"AUTH PLAIN " + sasl_plain(account) + b"\r\n")
        assert raw.line().startswith(b"235 ")
    for offered in ([], ["http/1.1"], ["something-else"]):
        context = wire.tls()
        if offered:
            context.set_alpn_protocols(offered)
        web = http.client.HTTPSConnection(
            "127.0.0.1", relay.ports["https"], timeout=60, context=context
        )
        with contextlib.closing(web):
            web.request("GET", "/")
            assert web.getresponse().status == 200, offered
    with RawImap(relay, "https", alpn=["h2"]) as raw:
        assert isinstance(raw.socket, ssl.SSLSocket)
        assert raw.socket.selected_alpn_protocol() == "h2"
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        assert raw.exactly(4)[3:] == b"\4", "no SETTINGS frame"


def test_every_tls_door_shows_one_certificate_with_and_without_sni(relay: Relay) -> None:
    """43; spec 1.3."""
    shown = {
        certificate_at(relay, face, alpn, name)
        for face, alpn in [
            ("https", ["imap"]),
            ("https", ["smtp"]),
            ("https", []),
            ("https", ["h2", "http/1.1"]),
            ("imaps", []),
            ("imaps", ["imap"]),
            ("submissions", []),
            ("submissions", ["smtp"]),
        ]
        for name in (None, "mail.elsewhere.example")
    }
    assert len(shown) == 1


def test_mail_ports_refuse_the_protocol_of_another_face(relay: Relay) -> None:
    """43; spec 1.2 (EXTRA): ALPACA."""
    for face, alpn in (("imaps", "smtp"), ("submissions", "imap"), ("imaps", "http/1.1")):
        with contextlib.suppress(OSError, Closed), RawImap(relay, face, alpn=[alpn]) as raw:
            assert isinstance(raw.socket, ssl.SSLSocket)
            assert raw.socket.selected_alpn_protocol() is None or raw.rest() == b""


def test_tls_tickets_resume_and_old_tls_is_refused(relay: Relay) -> None:
    """Spec 1.3: TLS 1.3 only, with tickets."""
    context = wire.tls()
    with (
        socket.create_connection(("127.0.0.1", relay.ports["imaps"]), PATIENCE_S) as raw,
        context.wrap_socket(raw) as tls,
    ):
        assert tls.recv(1000).startswith(b"* OK ")
        session = tls.session
        assert tls.version() == "TLSv1.3"
        assert session is not None
        assert session.has_ticket
    with (
        socket.create_connection(("127.0.0.1", relay.ports["imaps"]), PATIENCE_S) as raw,
        context.wrap_socket(raw, session=session) as tls,
    ):
        assert tls.recv(1000).startswith(b"* OK ")
        assert tls.session_reused
    context = wire.tls()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        pytest.raises(OSError, match=r".*"),
        socket.create_connection(("127.0.0.1", relay.ports["imaps"]), PATIENCE_S) as raw,
        context.wrap_socket(raw) as tls,
    ):
        pass
