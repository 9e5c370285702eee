from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from chatmail.adapters.net.binding import bind, bound_address, parse_address, port_holder
from chatmail.adapters.net.errors import BindError


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:25", ("127.0.0.1", 25)),
        ("*:993", ("*", 993)),
        (":993", ("*", 993)),
        ("[::1]:0", ("::1", 0)),
        ("mail.relay.test:465", ("mail.relay.test", 465)),
    ],
)
def test_addresses(address: str, expected: tuple[str, int]) -> None:
    assert parse_address(address) == expected


@pytest.mark.parametrize("address", ["", "25", "::1:25", "a:b", "127.0.0.1:65536", "[::1]", "x:-1"])
def test_what_is_no_address_is_a_clear_error(address: str) -> None:
    with pytest.raises(BindError, match="host:port"):
        parse_address(address)


def test_port_0_takes_a_free_port() -> None:
    (sock,) = bind("127.0.0.1:0")
    with sock:
        host, port = bound_address(sock)
        assert host == "127.0.0.1"
        assert port > 0
        assert not sock.getblocking()


def test_star_binds_both_families_to_one_port() -> None:
    sockets = bind("*:0")
    with ExitStack() as stack:
        for sock in sockets:
            stack.enter_context(sock)
        assert {sock.family for sock in sockets} >= {socket.AF_INET}
        assert len({bound_address(sock)[1] for sock in sockets}) == 1
        assert len(sockets) == 2 or not Path("/proc/net/tcp6").exists()


def test_a_taken_port_is_one_line_with_port_and_process() -> None:
    (sock,) = bind("127.0.0.1:0")
    with sock:
        port = bound_address(sock)[1]
        with pytest.raises(BindError) as caught:
            bind(f"127.0.0.1:{port}")
    comm = Path("/proc/self/comm").read_text().strip()
    assert str(caught.value) == (
        f"127.0.0.1:{port}: port {port} is already in use by {comm}, pid {os.getpid()}"
    )


def test_a_port_taken_in_one_family_leaves_nothing_open() -> None:
    (sock,) = bind("127.0.0.1:0")
    with sock:
        port = bound_address(sock)[1]
        with pytest.raises(BindError, match=f"port {port} is already in use"):
            bind(f"*:{port}")
    for again in bind(f"*:{port}"):
        again.close()


def test_an_address_that_is_not_ours_is_a_clear_error() -> None:
    with pytest.raises(BindError, match=r"^192\.0\.2\.1:0: cannot listen: "):
        bind("192.0.2.1:0")


def test_a_name_that_does_not_resolve_is_a_clear_error() -> None:
    with pytest.raises(BindError, match="cannot be resolved"):
        bind("name.invalid:0")


def test_nobody_holds_a_free_port() -> None:
    (sock,) = bind("127.0.0.1:0")
    port = bound_address(sock)[1]
    sock.close()
    assert port_holder(port) is None


def test_accepted_sockets_have_the_options_of_a_mail_connection() -> None:
    (listening,) = bind("127.0.0.1:0")
    with listening, socket.create_connection(bound_address(listening)):
        accepted, _ = listening.accept()
        with accepted:
            options = {
                (socket.IPPROTO_TCP, socket.TCP_NODELAY): 1,
                (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
                (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 60,
                (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): 300_000,
                (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT): 131072,
            }
            assert {key: accepted.getsockopt(*key) for key in options} == options
