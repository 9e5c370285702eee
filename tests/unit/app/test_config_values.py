from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.app import config_values as values
from chatmail.app.config_values import ListenAddress, Text


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (31457280, 31457280),
        ("30M", 30 * 1024**2),
        ("1g", 1024**3),
        ("1536K", 1536 * 1024),
        ("1G 512M", 1536 * 1024**2),
        ("10B", 10),
        ("0", 0),
        ("200000", 200000),
        ("off", 0),
        ("2M/s", 2 * 1024**2),
        (Text("70M"), 70 * 1024**2),
    ],
)
def test_sizes(raw: Any, expected: int) -> None:
    assert values.size(raw) == expected


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("30 M", r'unknown unit " M" \(use e.g. 30M\)'),
        ("30Q", 'unknown unit "Q"'),
        ("30MB", 'unknown unit "MB"'),
        ("", "empty"),
        ("M", "is not a size"),
        ("1G 512", "is not a size"),
        (-1, "negative"),
        (1.5, "whole number"),
        (True, "whole number"),
    ],
)
def test_bad_sizes(raw: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        values.size(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (90, 90),
        ("90", 90),
        ("20d", 20 * 86400),
        ("1d12h", 129600),
        ("1h 30m", 5400),
        ("2w", 1209600),
        ("0", 0),
        ("off", 0),
        ("-", 0),
        (0.5, 0.5),
    ],
)
def test_durations(raw: Any, expected: float) -> None:
    assert values.duration(raw) == expected


@pytest.mark.parametrize("raw", ["20x", "d", "1h30", "-5s", -5, "", True, [], float("inf")])
def test_bad_durations(raw: Any) -> None:
    with pytest.raises(ValueError, match="is "):
        values.duration(raw)


@pytest.mark.parametrize("word", ["1", "true", "YES", "y", "on", "Enable", "enabled", "t"])
def test_true_words_of_the_environment(word: str) -> None:
    assert values.boolean(Text(word)) is True


@pytest.mark.parametrize("word", ["0", "false", "no", "N", "off", "disable", "disabled", "f", ""])
def test_false_words_of_the_environment(word: str) -> None:
    assert values.boolean(Text(word)) is False


@pytest.mark.parametrize("raw", ["true", 1, 0, Text("maybe"), None])
def test_other_switches_are_refused(raw: Any) -> None:
    with pytest.raises(ValueError, match="true or false"):
        values.boolean(raw)


@pytest.mark.parametrize(
    ("raw", "host", "port", "shown"),
    [
        ("127.0.0.1:0", "127.0.0.1", 0, "127.0.0.1:0"),
        ("*:25", "*", 25, "*:25"),
        (":25", "*", 25, "*:25"),
        ("[::1]:143", "::1", 143, "[::1]:143"),
        ("unix:/run/x:y.sock", "unix:/run/x:y.sock", 0, "unix:/run/x:y.sock"),
        ("tls://0.0.0.0:993", "0.0.0.0", 993, "0.0.0.0:993"),
    ],
)
def test_listen_addresses(raw: str, host: str, port: int, shown: str) -> None:
    address = values.listen_address(raw)
    assert address == ListenAddress(host, port)
    assert str(address) == shown


@pytest.mark.parametrize("raw", ["25", "host", "host:", "host:x", "::1:25", "host:65536", "", 25])
def test_bad_listen_addresses(raw: Any) -> None:
    with pytest.raises(ValueError, match=r"host:port|\[address\]:port|text"):
        values.listen_address(raw)


def test_loopback_is_told_apart() -> None:
    local = ("127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/x")
    assert all(values.listen_address(text).is_loopback for text in local)
    public = ("*:1", "192.0.2.1:1", "relay.test:1")
    assert not any(values.listen_address(text).is_loopback for text in public)


def test_lists() -> None:
    assert values.strings(["a", "b"]) == ("a", "b")
    assert values.strings(Text("a, b,,c")) == ("a", "b", "c")
    assert values.durations("30s 1m") == (30, 60)
    assert values.durations(["30s", 5]) == (30, 5)
    assert values.targets("stderr") == ("stderr",)
    assert values.targets(["stderr", "/x"]) == ("stderr", "/x")
    assert values.targets(Text("stderr,/x")) == ("stderr", "/x")
    with pytest.raises(ValueError, match="not a list"):
        values.strings("a")


def test_addresses_and_networks() -> None:
    assert values.ip("[192.0.2.1]") == ipaddress.ip_address("192.0.2.1")
    assert values.ip("[IPv6:2001:db8::1]") == ipaddress.ip_address("2001:db8::1")
    assert values.ip("") is None
    assert values.ips(["192.0.2.1"]) == (ipaddress.ip_address("192.0.2.1"),)
    assert values.ips("192.0.2.1") == (ipaddress.ip_address("192.0.2.1"),)
    assert values.networks(["10.0.0.1/8"]) == (ipaddress.ip_network("10.0.0.0/8"),)
    for read, raw in ((values.ip, "relay"), (values.networks, ["10.0.0.0/99"])):
        with pytest.raises(ValueError, match="is not an"):
            read(raw)  # type: ignore[operator]


def test_numbers_percentages_ports_paths() -> None:
    assert values.number("off") == 0
    assert values.number(Text("2.5")) == 2.5
    assert values.percent("75%") == values.percent(75) == values.percent(Text("75")) == 75
    assert values.port(0) == 0
    assert values.path("/x") == Path("/x")
    assert values.path("") is None
    for read, raw in ((values.percent, 101), (values.port, 65536), (values.number, Text("x"))):
        with pytest.raises(ValueError, match="is "):
            read(raw)  # type: ignore[operator]


READERS = [
    values.boolean,
    values.integer,
    values.number,
    values.string,
    values.size,
    values.duration,
    values.percent,
    values.port,
    values.strings,
    values.durations,
    values.targets,
    values.listen_addresses,
    values.ip,
    values.ips,
    values.networks,
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda children: st.lists(children, max_size=3),
    max_leaves=4,
)


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
@given(raw=ANYTHING | st.text(max_size=12).map(Text))
def test_any_value_is_read_or_refused_with_a_sentence(read: Callable[[Any], Any], raw: Any) -> None:
    refusals: list[str] = []
    try:
        read(raw)
    except ValueError as error:
        refusals.append(str(error))
    assert "" not in refusals
