"""The checks: what makes them fail. That a good relay passes them all is seen end to end."""

from __future__ import annotations

import imaplib
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chatmail.app.selftest import checks
from chatmail.app.selftest.checks import CHECKS, CheckFailed, Trial, run_checks
from chatmail.app.selftest.clients import Target
from tests.patience import PATIENCE_S


def trial(*, jit: bool = False, **ports: tuple[str, int]) -> Trial:
    target = Target(
        domain="chat.example",
        hostname="chat.example",
        ports=ports,
        context=ssl.create_default_context(),
    )
    return Trial(target=target, expects_jit=jit)


@contextmanager
def served(*replies: bytes) -> Iterator[tuple[str, int]]:
    """A server that says its replies one by one, whatever is sent."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(PATIENCE_S)
            for reply in replies:
                connection.sendall(reply)
                if not connection.recv(4096):
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()
        thread.join()


def failure(name: str, on: Trial) -> str:
    (result,) = run_checks(on, [name])
    assert result.is_ok is False
    assert result.name == name
    return result.detail


@pytest.mark.parametrize(
    "name", [name for name in CHECKS if name.startswith("federation")], ids=str
)
def test_a_relay_without_a_door_for_others_fails(name: str) -> None:
    assert "other relays cannot reach" in failure(name, trial())


def test_a_door_without_starttls_fails() -> None:
    with served(b"220 hello\r\n", b"250-chat.example\r\n250 SIZE 1\r\n", b"221 bye\r\n") as place:
        assert "STARTTLS" in failure("federation-starttls", trial(smtp=place))


def test_a_door_that_takes_mail_in_clear_fails() -> None:
    hello = b"250-chat.example\r\n250 STARTTLS\r\n"
    with served(b"220 hello\r\n", hello, b"250 \x1b[31mfine\r\n", b"221 bye\r\n") as place:
        told = failure("federation-starttls", trial(smtp=place))
    assert told.startswith("MAIL before STARTTLS was answered with 250 ")
    assert told.isprintable()


def test_a_door_with_logins_fails() -> None:
    hello = b"250-chat.example\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n"
    with served(b"220 hello\r\n", hello, b"221 bye\r\n") as place:
        assert "offers a login" in failure("federation-starttls", trial(smtp=place))


def test_a_closed_port_is_a_failed_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = listener.getsockname()
    assert "the connection failed: ConnectionRefusedError" in failure("tls", trial(imaps=place))
    assert "no face speaks TLS" in failure("tls", trial())


def test_without_first_logins_an_account_has_to_be_made() -> None:
    assert "first login" in failure("login", trial())
    (result,) = run_checks(trial(), ["jit"])
    assert (result.is_ok, "do not make accounts" in result.detail) == (True, True)
    made = trial()
    made.create = lambda: ("a@chat.example", "word")
    assert made.account(1) == ("a@chat.example", "word")
    assert len(made.accounts) == 2


def test_a_refused_first_login_points_to_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Trial) -> None:
        raise CheckFailed("the login was refused by IMAP")

    monkeypatch.setattr(Trial, "first_login", refuse)
    assert "creation_refused_by_host" in failure("jit", trial(jit=True))
    held_back = trial(jit=True)
    held_back.create = lambda: ("a@chat.example", "word")
    assert held_back.account(0) == ("a@chat.example", "word")


@pytest.mark.parametrize(
    "error", [OSError("secret"), imaplib.IMAP4.error("secret"), smtplib.SMTPException("secret")]
)
def test_what_a_server_says_while_failing_is_not_repeated(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Trial) -> str:
        raise error

    monkeypatch.setitem(checks.CHECKS, "send", fail)
    assert failure("send", trial()) == f"the connection failed: {type(error).__name__}"


def test_checks_go_on_after_one_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Trial) -> str:
        raise CheckFailed("no")

    monkeypatch.setitem(checks.CHECKS, "tls", fail)
    monkeypatch.setitem(checks.CHECKS, "send", lambda _: "quick")
    results = list(run_checks(trial(), ["tls", "send"]))
    assert [(one.is_ok, one.detail) for one in results] == [(False, "no"), (True, "quick")]
