"""Accounts through the mail doors: first logins, passwords, names, rules, throttles."""

from __future__ import annotations

import base64
import contextlib
import imaplib
import itertools
import shutil
import smtplib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e import wire
from tests.e2e.configured import ConfiguredRelay, running
from tests.e2e.mailbox import count, newcomer
from tests.e2e.rawsmtp import RawSmtp, plain, submitter
from tests.e2e.relay import Relay, wait_until
from tests.e2e.web import Web

PASSWORD = "quite good enough"
DOMAIN = "[127.0.0.1]"
REFUSED_IMAP = b"[AUTHENTICATIONFAILED] Authentication failed."
DAY_S = 86400


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredRelay]:
    registration = {"max_load_1m": "0", "min_free_disk_space": "0"}
    with running(tmp_path_factory.mktemp("accounts"), registration=registration) as relay:
        yield relay


def _imap(relay: Relay) -> imaplib.IMAP4_SSL:
    return imaplib.IMAP4_SSL("127.0.0.1", relay.ports["imaps"], ssl_context=wire.tls(), timeout=60)


def by_imap(relay: Relay, address: str, password: str) -> bool:
    """Say whether these credentials log in."""
    with _imap(relay) as client:
        escaped = password.replace("\\", "\\\\").replace('"', '\\"')
        client.send(f'L1 LOGIN "{address}" "{escaped}"\r\n'.encode())
        line = client.readline()
    assert line.startswith(b"L1 OK") or line == b"L1 NO " + REFUSED_IMAP + b"\r\n", line
    return line.startswith(b"L1 OK")


def by_smtp(relay: Relay, address: str, password: str) -> bool:
    """Say whether these credentials log in."""
    with RawSmtp(relay).secure() as client:
        reply = client.command(b"AUTH PLAIN " + plain(address, password))
    assert reply.whole in (
        "235 2.7.0 Authentication successful",
        "535 5.7.8 Error: authentication failed: Invalid credentials",
    )
    return reply.code == 235


BOTH = [by_imap, by_smtp]


def at_once(checks: list[Callable[[], bool]]) -> list[bool]:
    """Run checks in parallel: each refused login waits two seconds by design."""
    with ThreadPoolExecutor(max(1, len(checks))) as pool:
        return list(pool.map(lambda check: check(), checks))


# --- first login ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [(by_imap, by_smtp), (by_smtp, by_imap)])
def test_the_first_login_makes_the_account_and_sets_its_password(
    relay: Relay,
    first: Callable[[Relay, str, str], bool],
    second: Callable[[Relay, str, str], bool],
) -> None:
    address, password = relay.credentials()
    assert first(relay, address, password)
    assert second(relay, address, password)
    assert (
        at_once([lambda by=by: by(relay, address, "something else") for by in BOTH]) == [False] * 2
    )
    assert second(relay, address, password)


def test_names_and_passwords_that_make_no_account(relay: Relay) -> None:
    wrong = [
        ("short8ch", PASSWORD),
        ("tenletters", PASSWORD),
        ("abcd/efgh", PASSWORD),
        ("..abcdefg", PASSWORD),
        ("abcd..efg", PASSWORD),
        (".abcdefgh", PASSWORD),
        ("abcdefg%4", PASSWORD),
        ("abc defgh", PASSWORD),
        ("abcdefgh1", "eightchr"),
        ("abcdefgh2", "x" * 257),
        ("abcdefgh3", "aaaaaaaaaaaa"),
        ("abcdefgh4", "abcdefgh4"),
        ("abcdéfgh5", PASSWORD),
    ]
    foreign = [f"abcdefgh6@{domain}" for domain in ("example.org", "[127.0.0.2]", "127.0.0.1.x")]
    odd = ["abcde%40f@[127.0.0.1]", "x@y@[127.0.0.1]", "@[127.0.0.1]", "webmaster@[127.0.0.1]"]
    tries = [(f"{local}@{DOMAIN}", password) for local, password in wrong]
    tries += [(address, PASSWORD) for address in (*foreign, *odd)]
    # Each name by one way: a second failure of the same name would wait twice as long.
    tried = enumerate(tries)
    checks = [lambda at=at, a=a, p=p: BOTH[at % 2](relay, a, p) for at, (a, p) in tried]
    assert at_once(checks) == [False] * len(tries)


def test_names_that_do(relay: Relay) -> None:
    for local in ("abcd_efgh", "ABCD-EFGH", "ab.cd.ef1"):
        assert by_imap(relay, f"{local}@{DOMAIN}", PASSWORD)
        assert by_smtp(relay, f"{local.lower()}@127.0.0.1", PASSWORD)


def test_reserved_names_make_no_account_whatever_their_length(relay: ConfiguredRelay) -> None:
    lengths = {"username_min": "3", "username_max": "20"}
    relay.reload(registration={**relay.tables["registration"], **lengths})
    try:
        names = ("postmaster", "webmaster", "MAILER-DAEMON", "abuse")
        checks = [lambda n=n: by_smtp(relay, f"{n}@{DOMAIN}", PASSWORD) for n in names]
        assert at_once(checks) == [False] * len(names)
        assert by_smtp(relay, f"postmaste@{DOMAIN}", PASSWORD)
    finally:
        relay.tables["registration"] = {"max_load_1m": "0", "min_free_disk_space": "0"}
        relay.reload()


def test_parallel_first_logins_are_one_account(relay: Relay) -> None:
    address, password = relay.credentials()
    ways = [lambda by=by: by(relay, address, password) for by in BOTH * 10]
    others = [
        lambda by=by, n=n: by(relay, address, f"{n} other password") for n, by in enumerate(BOTH)
    ]
    assert at_once(ways) == [True] * 20
    assert at_once(others) == [False] * 2
    with relay.rows() as db:
        rows = db.execute("SELECT count(*) FROM accounts WHERE address = ?", (address,))
        assert rows.fetchone() == (1,)


def test_of_two_passwords_at_once_exactly_one_wins(relay: Relay) -> None:
    address, _ = relay.credentials()
    passwords = [PASSWORD + " one", PASSWORD + " two"]
    tries = [(by, password) for password in passwords for by in BOTH]
    won = at_once([lambda by=by, p=p: by(relay, address, p) for by, p in tries])
    assert sorted((won[:2], won[2:])) == [[False] * 2, [True] * 2]


# --- passwords -----------------------------------------------------------------------------------

AWKWARD = [
    'a"b\\c d{}',
    " lead and trail ",
    "100%+&=?#/",
    "pässwörter 密码",
    '"""\\\\\\abc',
    "{12}{3+}x",
]


@pytest.mark.parametrize("password", AWKWARD)
def test_awkward_passwords_are_the_same_by_every_way(relay: Relay, password: str) -> None:
    ways = (_imap_literal, _imap_plain, by_smtp, _smtp_login)
    if password.isascii():
        ways = (by_imap, *ways)
    for creates in ways:
        address, _ = relay.credentials()
        assert creates(relay, address, password), creates
        for way in ways:
            assert way(relay, address, password), (creates, way)


def _imap_literal(relay: Relay, address: str, password: str) -> bool:
    octets = password.encode()
    with _imap(relay) as client:
        client.send(f"L1 LOGIN {address} {{{len(octets)}}}\r\n".encode())
        assert client.readline().startswith(b"+")
        client.send(octets + b"\r\n")
        return client.readline().startswith(b"L1 OK")


def _imap_plain(relay: Relay, address: str, password: str) -> bool:
    with _imap(relay) as client:
        client.send(b"L1 AUTHENTICATE PLAIN " + plain(address, password) + b"\r\n")
        return client.readline().startswith(b"L1 OK")


def _smtp_login(relay: Relay, address: str, password: str) -> bool:
    with RawSmtp(relay).secure() as client:
        client.send(b"AUTH LOGIN\r\n")
        assert client.line() == b"334 VXNlcm5hbWU6\r\n"
        client.send(base64.b64encode(address.encode()) + b"\r\n")
        assert client.line() == b"334 UGFzc3dvcmQ6\r\n"
        return client.command(base64.b64encode(password.encode())).code == 235


# --- throttling ----------------------------------------------------------------------------------


def test_guessing_is_slowed_down_and_locks_nobody_out(relay: Relay) -> None:
    owner = newcomer(relay)
    guesses = [RawSmtp(relay).secure() for _ in range(30)]
    with contextlib.ExitStack() as stack:
        started = time.monotonic()
        for at, client in enumerate(guesses):
            stack.enter_context(client)
            client.send(b"AUTH PLAIN " + plain(owner[0], f"guess number {at}") + b"\r\n")
        # The bucket of this source and account is empty now: no verdict any more.
        late = "454 4.7.0 Temporary server problem, try again later"
        verdicts: list[str] = []

        def read(client: RawSmtp) -> None:
            with contextlib.suppress(OSError, AssertionError):
                verdicts.append(client.reply().whole)

        with ThreadPoolExecutor(30) as pool:
            reading = [pool.submit(read, client) for client in guesses]
            try:
                assert wire.imap(relay, *owner).logout()[0] == "BYE"
                submitter(relay, owner).close()
                wait_until("guesses are throttled", lambda: verdicts.count(late) == 20)
                assert time.monotonic() - started > 1.5
            finally:  # the other ten wait for up to half a minute
                for client in guesses:
                    with contextlib.suppress(OSError):
                        client.socket.shutdown(socket.SHUT_RDWR)
            for done in reading:
                done.result()
    assert not any(verdict.startswith("235") for verdict in verdicts)
    with pytest.raises(imaplib.IMAP4.error) as refused:
        wire.imap(relay, owner[0], "yet another guess")
    assert "[UNAVAILABLE]" in str(refused.value)
    assert "uthentication" not in str(refused.value), "clients alarm people about that word"
    assert wire.imap(relay, *owner).logout()[0] == "BYE"


# --- who may create ------------------------------------------------------------------------------


def test_every_combination_of_the_registration_rules(relay: ConfiguredRelay) -> None:
    """Sixteen rows of policy 2.4; refused logins are waited for together at the end."""
    base = dict(relay.tables["registration"])
    nocreate = relay.folder / "state" / "nocreate"
    with ThreadPoolExecutor(64) as pool:
        expected, tried = [], []
        for is_open, jit, needs_token in itertools.product([True, False], repeat=3):
            rules = {"open": is_open, "jit": jit, "require_token": needs_token}
            relay.reload(
                registration={**base, **{key: str(on).lower() for key, on in rules.items()}}
            )
            for is_stopped in (False, True):
                (nocreate.touch if is_stopped else lambda: nocreate.unlink(missing_ok=True))()
                decided = _decisions(relay)
                for by in BOTH:
                    tried.append(pool.submit(by, relay, *relay.credentials()))
                    expected.append(jit and not needs_token and not is_stopped)
                wait_until("both were decided", lambda d=decided: _decisions(relay) >= d + 2)
                _check_new(relay, is_open and not needs_token, is_stopped)
        nocreate.unlink()
        relay.reload(registration=base)
        assert [attempt.result() for attempt in tried] == expected


def _decisions(relay: ConfiguredRelay) -> int:
    """Logins of new names; what `/new` makes is said in the same words, and may be read late."""
    made = [line for line in list(relay.errors) if "account_created" in line.split()]
    return sum("way=first_login" in line for line in made) + relay.said("login_refused")


def _check_new(relay: ConfiguredRelay, is_open: bool, is_stopped: bool) -> None:
    asked = Web(relay).post("/new")
    if is_open and not is_stopped:
        made = asked.json()
        assert by_imap(relay, made["email"], made["password"])
    else:
        assert asked.status == (503 if is_open else 403)
        assert asked.json()["reason"] == asked.json()["error"]
    # The valid rows of the token's column wait for tokens that somebody can issue.
    with_token = Web(relay).post("/new?token=never-issued-token-1")
    assert with_token.status == 403
    assert with_token.json()["reason"] == "registration token not found"


def test_a_full_disk_stops_newcomers_only(relay: ConfiguredRelay) -> None:
    member = newcomer(relay)
    free = shutil.disk_usage(relay.folder).total * 2
    base = dict(relay.tables["registration"])
    relay.reload(registration={**base, "min_free_disk_space": f'"{free}"'})
    try:
        stranger = relay.credentials()
        assert at_once([lambda by=by: by(relay, *stranger) for by in BOTH]) == [False] * 2
        assert by_smtp(relay, *member)
        assert by_imap(relay, *member)
        with submitter(relay, member) as client:
            octets = wire.encrypted(member[0])[1]
            assert client.submit(member[0], [member[0]], octets).code == 250
        refused = Web(relay).post("/new")
        assert refused.status == 503
        assert refused.json()["reason"] == refused.json()["error"]
    finally:
        relay.reload(registration=base)
    assert by_smtp(relay, *stranger)


# --- what is remembered --------------------------------------------------------------------------


def test_the_last_login_is_a_day_also_for_a_sender_only(relay: Relay) -> None:
    account = relay.credentials()
    assert by_smtp(relay, *account)
    with relay.rows() as db:
        row = db.execute(
            "SELECT first_login_day, last_login_day FROM accounts WHERE address = ?", account[:1]
        ).fetchone()
        assert row[0] is not None
        assert row[0] == row[1]
        assert row[1] % DAY_S == 0


def test_thirty_sessions_of_an_account_are_enough(relay: Relay) -> None:
    account, other = newcomer(relay), newcomer(relay)
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(submitter(relay, account))
        with RawSmtp(relay).secure() as client:
            reply = client.command(b"AUTH PLAIN " + plain(*account))
            assert reply.whole == "421 4.7.0 Too many connections"
            assert client.is_closed()
        submitter(relay, other).close()
        assert wire.imap(relay, *account).logout()[0] == "BYE"
    wait_until("a session is free again", lambda: by_smtp_if_room(relay, account))


def by_smtp_if_room(relay: Relay, account: tuple[str, str]) -> bool:
    with RawSmtp(relay).secure() as client:
        return client.command(b"AUTH PLAIN " + plain(*account)).code == 235


def test_smtplib_and_threads_find_one_inbox(relay: Relay) -> None:
    account = relay.credentials()

    def send() -> None:
        with wire.smtp(relay, *account) as client:
            assert isinstance(client, smtplib.SMTP_SSL)
            client.sendmail(account[0], [account[0]], wire.encrypted(account[0])[1])

    threads = [threading.Thread(target=send) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(relay, account) == 5
