"""SASL PLAIN and LOGIN."""

from __future__ import annotations

import pytest

from chatmail.domain.model.account import Credentials
from chatmail.domain.wire import sasl
from chatmail.domain.wire.sasl import Challenge, LoginExchange, PlainExchange, Rejected

PASSWORD = 'a"b\\c d{} \u00e4\u20ac'


def test_plain_takes_an_initial_response() -> None:
    step = PlainExchange().begin(b"\0u@relay.example\0secret")
    assert step == Credentials("u@relay.example", b"secret")


def test_plain_without_initial_response_asks_with_an_empty_challenge() -> None:
    exchange = PlainExchange()
    assert exchange.begin(None) == Challenge(b"")
    assert exchange.respond(b"\0u@d\0p") == Credentials("u@d", b"p")


def test_password_octets_are_untouched() -> None:
    step = PlainExchange().begin(b"\0u@d\0" + PASSWORD.encode())
    assert step == Credentials("u@d", PASSWORD.encode())


def test_an_equal_authorisation_identity_is_accepted() -> None:
    assert PlainExchange().begin(b"U@D\0u@d\0p") == Credentials("u@d", b"p")


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"other@d\0u@d\0p", id="other-authzid"),
        pytest.param(b"", id="empty"),
        pytest.param(b"u@d\0p", id="one-nul"),
        pytest.param(b"\0u@d\0p\0", id="three-nuls"),
        pytest.param(b"\0\xff\xfe\0p", id="login-not-utf8"),
    ],
)
def test_plain_that_cannot_succeed_is_rejected(message: bytes) -> None:
    assert PlainExchange().begin(message) == Rejected()


def test_login_prompts_decode_to_the_exact_texts_clients_know() -> None:
    exchange = LoginExchange()
    first = exchange.begin(None)
    assert isinstance(first, Challenge)
    assert sasl.decode_response(first.encoded) == b"Username:"
    second = exchange.respond(b"u@d")
    assert isinstance(second, Challenge)
    assert sasl.decode_response(second.encoded) == b"Password:"
    assert exchange.respond(PASSWORD.encode()) == Credentials("u@d", PASSWORD.encode())


def test_login_takes_the_user_name_as_initial_response() -> None:
    exchange = LoginExchange()
    assert exchange.begin(b"u@d") == Challenge(b"Password:")
    assert exchange.respond(b"p") == Credentials("u@d", b"p")


def test_login_name_that_is_no_text_is_rejected() -> None:
    exchange = LoginExchange()
    exchange.begin(b"\xff")
    assert exchange.respond(b"p") == Rejected()


def test_mechanisms_are_found_in_any_case_and_nothing_else_is() -> None:
    assert isinstance(sasl.exchange("plain"), PlainExchange)
    assert isinstance(sasl.exchange("Login"), LoginExchange)
    assert sasl.exchange("XOAUTH2") is None
    assert sasl.exchange("CRAM-MD5") is None


def test_every_advertised_mechanism_exists() -> None:
    assert all(sasl.exchange(name) is not None for name in sasl.MECHANISMS)


@pytest.mark.parametrize(
    "line", [b"!!!!", b"AGEAYg", b"AGEAYg==x", b"A GE AYg==", b"=", b"\xff", b"dUBk==", b"===="]
)
def test_what_is_not_strict_base64_is_an_encoding_error(line: bytes) -> None:
    with pytest.raises(sasl.SaslEncodingError):
        sasl.decode_response(line)


def test_an_initial_equals_sign_is_an_empty_response() -> None:
    assert sasl.decode_initial(b"=") == b""
    assert sasl.decode_initial(b"AGEAYg==") == b"\0a\0b"


def test_the_password_is_in_no_repr() -> None:
    assert "secret" not in repr(PlainExchange().begin(b"\0u@d\0secret"))
