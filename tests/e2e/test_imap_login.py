"""Passwords by every way into an account, and first logins that come at once.

Numbers in docstrings are those of spec mail 11.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.e2e import wire
from tests.e2e.raw import (
    Closed,
    RawImap,
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
    with running(Relay(tmp_path_factory.mktemp("login"))) as relay:
        yield relay


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
        return raw.run(b"AUTHENTICATE PLAIN " + plain(*account)).is_ok


def by_authenticate_asked(relay: Relay, account: tuple[str, str]) -> bool:
    with RawImap(relay) as raw:
        raw.greet()
        tag = raw.tag()
        raw.send(tag + b" AUTHENTICATE PLAIN\r\n")
        assert raw.line() == b"+ \r\n"
        raw.send(plain(*account) + b"\r\n")
        return raw.answer(tag).is_ok


def by_smtp_plain(relay: Relay, account: tuple[str, str]) -> bool:
    return smtp_auth(relay, account) == 235


def by_smtp_login(relay: Relay, account: tuple[str, str]) -> bool:
    return smtp_auth(relay, account, "LOGIN") == 235


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
        refusal = raw.refused(b"AUTHENTICATE PLAIN " + plain(*account, other[0]))
        assert refusal == b"NO [AUTHENTICATIONFAILED] Authentication failed."
        assert time.monotonic() - began > 1.8, "failures are slow"
        raw.ok(b"AUTHENTICATE PLAIN " + plain(*account, account[0]))
        assert raw.refused(b"AUTHENTICATE PLAIN " + plain(*account)).startswith(b"BAD ")


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
