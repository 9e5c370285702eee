"""Which public addresses this machine has."""

from __future__ import annotations

import socket

from chatmail.adapters.dns.own_addresses import public_addresses, source_address


def seen(v4: str | None, v6: str | None) -> object:
    return lambda family, target: v4 if family == socket.AF_INET else v6


def test_the_operators_word_wins() -> None:
    source = seen("8.8.8.8", None)
    found = public_addresses(["192.0.2.1", "192.0.2.1"], source=source)  # type: ignore[arg-type]
    assert found == ("192.0.2.1",)


def test_only_public_addresses_are_found() -> None:
    source = seen("10.0.0.5", "2606:4700::1111")
    assert public_addresses([], source=source) == ("2606:4700::1111",)  # type: ignore[arg-type]
    found = public_addresses([], with_ipv6=False, source=source)  # type: ignore[arg-type]
    assert found == ()
    assert public_addresses([], source=seen(None, None)) == ()  # type: ignore[arg-type]


def test_asking_the_system_never_fails() -> None:
    for family, target in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "not an address")):
        found = source_address(family, target)
        assert found in ("127.0.0.1", None)
