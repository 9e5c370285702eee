"""SASL responses: strict base64 and the two mechanisms."""

from __future__ import annotations

import base64
import re

from chatmail.domain.model.account import Credentials
from chatmail.domain.wire import sasl

WORDS = (b"\0", b"=", b"==", b"====", b"*", b"AHUAcA==", b"dUBk", b"\xc3\xa4")

_BASE64 = re.compile(
    rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z"  # RFC 4648 §4
)


def check(data: bytes) -> None:
    """Only base64 is decoded, to the octets it says; a password comes through untouched."""
    _check_decoding(data)
    _check_plain(data)
    _check_login(data)


def _check_decoding(line: bytes) -> None:
    try:
        decoded = sasl.decode_response(line)
    except sasl.SaslEncodingError:
        decoded = None
    assert (decoded is not None) == (_BASE64.match(line) is not None), line
    if decoded is None:
        return
    assert sasl.decode_response(base64.b64encode(decoded)) == decoded


def _check_plain(message: bytes) -> None:
    step = sasl.PlainExchange().respond(message)
    parts = message.split(b"\0")
    if isinstance(step, sasl.Rejected):
        is_form = len(parts) == 3 and (not parts[0] or parts[0].lower() == parts[1].lower())
        assert not is_form or not _is_utf8(parts[1])
        return
    assert isinstance(step, Credentials)
    assert (step.login.encode(), step.password) == (parts[1], parts[2])
    if len(step.password) > 3:
        assert repr(step.password) not in repr(step)


def _check_login(message: bytes) -> None:
    login, _, password = message.partition(b"\0")
    exchange = sasl.LoginExchange()
    first = exchange.begin(login if len(message) % 2 else None)
    assert isinstance(first, sasl.Challenge)
    if first.text == b"Username:":
        first = exchange.respond(login)
    assert first == sasl.Challenge(b"Password:")
    step = exchange.respond(password)
    if _is_utf8(login):
        assert step == Credentials(login.decode(), password)
    else:
        assert isinstance(step, sasl.Rejected)


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


VECTORS = (
    b"AHVAcmVsYXkuZXhhbXBsZQBzZWNyZXQ=",
    b"\0u@relay.example\0secret",
    b"U@relay.example\0u@relay.example\0p w",
    b"\0\xff\0p",
    b"dUBk",
    b"=",
    b"\0a\0b\0c",
)
