"""POST /new: any body, query and header fields of a stranger, through the whole app."""

from __future__ import annotations

import functools
import ipaddress
import json
import re
import urllib.parse

import trio
import trio.testing

from chatmail.adapters.http.client_address import client_address
from chatmail.adapters.http.register import MAX_TOKEN_CHARS
from tests.fuzz.cutting import read, vector
from tests.unit.adapters.http.asgi import FAR, Answer, Site

TYPES = (
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=b",
    "text/plain",
    "multipart/form-data",
    'multipart/form-data; boundary="\\"',
)
PATHS = ("/new", "/cgi-bin/newemail.py", "/new?token=T1", "/new?t=%ff&token=")
WORDS = (
    *(
        b'{"token": "',
        b'"}',
        b"token=",
        b"&",
        b"%00",
        b"[" * 50,
        b"--b\r\n",
        b"--b--\r\n",
        b"\\u0000",
    ),
    *(
        b'Content-Disposition: form-data; name="token"\r\n\r\n',
        b"1e999",
        b"null",
        b"\xff",
        b"\\ud800",
    ),
    *(b"203.0.113.1, ", b"::1", b"10.0.0.1", b"unknown", b"NaN", b"; filename=x"),
)
TRUSTED = ("10.0.0.0/8", "::1")


def check(data: bytes) -> None:
    """The answer is an account or a problem in JSON; the token is text that was sent."""
    given = read(data)
    _check_forwarded(given.payload)
    site = _site()
    site.register.calls.clear()
    path = PATHS[given.more % len(PATHS)]
    headers = {"content-type": TYPES[given.options % len(TYPES)]}
    ask = functools.partial(site.ask, "POST", path, headers, given.payload)
    answer: Answer = trio.run(ask, clock=trio.testing.MockClock())
    assert answer.status == 200
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.json()["email"] == "abcdefghi@[127.0.0.1]"
    ((token, source),) = site.register.calls
    assert source == FAR
    assert token is None or 0 < len(token) <= MAX_TOKEN_CHARS
    if headers["content-type"] == TYPES[0] and path == "/new":
        _check_json(given.payload, token)


@functools.cache
def _site() -> Site:
    return Site()


def _check_json(body: bytes, token: str | None) -> None:
    """A token in a JSON object is taken, as Python reads the object."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return
    if isinstance(value, dict) and isinstance(value.get("token"), str) and value["token"]:
        if body.lstrip()[:1] == b"{":
            assert token == value["token"][:MAX_TOKEN_CHARS]
    elif b"token" not in urllib.parse.unquote_to_bytes(body):
        assert token is None


def _check_forwarded(octets: bytes) -> None:
    """A client cannot choose its address unless a trusted proxy says so."""
    field = re.sub(r"[\r\n\0]", " ", octets.decode("latin-1"))
    assert client_address(FAR, field, TRUSTED) == FAR
    seen = client_address("10.1.2.3", field, TRUSTED)
    assert seen == "10.1.2.3" or str(ipaddress.ip_address(seen)) == seen
    believed = client_address("10.1.2.3", field + ", 203.0.113.7", TRUSTED)
    assert believed == "203.0.113.7"


VECTORS = (
    vector(b'{"token": "T1"}'),
    vector(b' {"token": "T1", "x": [1]}'),
    vector(b'{"token": 1}'),
    vector(b'{"token": "\\ud800"}'),
    vector(b"[" * 2000),
    vector(b"token=T1&x=%zz", 1),
    vector(b'--b\r\nContent-Disposition: form-data; name="token"\r\n\r\nT1\r\n--b--\r\n', 2),
    vector(b"--b\r\n\r\n", 2, 2),
    vector(b"x", 4, 3),
    vector(b"203.0.113.1, 10.0.0.1, ::1", 3),
    vector(b"", 0, 1),
)
