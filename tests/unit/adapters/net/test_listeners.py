"""Listeners: who is served, in what way, and what a failing handler costs."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from chatmail.adapters.net.errors import PeerGone
from chatmail.adapters.net.listeners import FaceListener, TlsMode
from chatmail.adapters.net.streams import Stream
from chatmail.adapters.net.tls import TlsKeeper
from chatmail.adapters.system.redaction import Public
from tests.unit.adapters.net.listening import Handler, exchange
from tests.unit.adapters.net.rig import (
    client_context,
    echo,
    face,
    imaps,
    read_to_end,
    served,
    smtp,
    tls_client,
)


async def test_the_ready_addresses_are_reported_and_connections_served(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    listener = imaps()
    async with served(listener, keeper) as listening:
        assert listening.host == "127.0.0.1"
        assert listening.port > 0
        client = tls_client(await listening.connect(), client_context(keeper.pair))
        assert await exchange(client) == b"ping"
        assert listener.face.crowd.present == 1
        await client.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert listener.face.crowd.present == 0
    counters = listener.counters
    assert (counters.accepted, counters.octets_in, counters.octets_out) == (1, 4, 4)


async def test_the_handler_learns_who_the_peer_is(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    seen: list[tuple[str, int, bool]] = []

    async def look(stream: Stream) -> None:
        seen.append((stream.peer_host, stream.peer_port, stream.is_tls))

    for address in ("127.0.0.1:0", "[::1]:0"):
        async with served(imaps(face(look)), keeper, address) as listening:
            client = await listening.connect()
            port = client.socket.getsockname()[1]
            context = client_context(keeper.pair)
            context.check_hostname = False
            tls = tls_client(client, context, name=None)
            assert await read_to_end(tls) == b""
            assert seen.pop() == (listening.host, port, True)


async def test_plain_and_starttls_listeners_start_in_cleartext(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    async def upgrade(stream: Stream) -> None:
        assert not stream.is_tls
        await stream.send_all(b"220 ready\r\n")
        assert await stream.receive_some() == b"STARTTLS\r\n"
        await stream.send_all(b"220 go\r\n")
        await stream.start_tls()
        await echo(stream)

    async with served(smtp(face(upgrade)), keeper) as listening:
        client = await listening.connect()
        assert await client.receive_some() == b"220 ready\r\n"
        assert await exchange(client, b"STARTTLS\r\n") == b"220 go\r\n"
        tls = tls_client(client, client_context(keeper.pair))
        # RFC 3207: no second 220; the client speaks first.
        assert await exchange(tls, b"EHLO x\r\n") == b"EHLO x\r\n"


async def test_ending_the_accept_keeps_connections(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    async with served(imaps(), keeper) as listening:
        client = tls_client(await listening.connect(), client_context(keeper.pair))
        assert await exchange(client) == b"ping"
        listening.accepting.cancel()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(OSError, match="refused"):
            await listening.connect()
        assert await exchange(client) == b"ping"


async def test_closing_is_clean_after_the_handler_returns(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    async def say(stream: Stream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\nwithout length")

    async with served(imaps(face(say)), keeper) as listening:
        client = tls_client(await listening.connect(), client_context(keeper.pair))
        assert await read_to_end(client) == b"HTTP/1.1 200 OK\r\n\r\nwithout length"


# Guard.
def failing(error: BaseException) -> Handler:
    async def fail(stream: Stream) -> None:
        raise error

    return fail


SECRET = "user@relay.test"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError(SECRET), "ValueError"),
        (ExceptionGroup("g", [KeyError(SECRET), ValueError(SECRET)]), "KeyError"),
        (ExceptionGroup("g", [PeerGone(), ZeroDivisionError(SECRET)]), "ZeroDivisionError"),
    ],
)
async def test_a_failing_handler_costs_its_own_connection_only(
    keeper: TlsKeeper, autojump_clock: MockClock, error: Exception, kind: str
) -> None:
    listener = smtp(face(echo))
    broken = FaceListener(name="smtp", tls=TlsMode.NONE, face=face(failing(error)))
    async with served(listener, keeper) as good, served(broken, keeper) as bad:
        steady = await good.connect()
        client = await bad.connect()
        assert await read_to_end(client) == b""
        await client.aclose()
        assert await exchange(steady) == b"ping"
        assert broken.counters.failed == 1
        assert broken.face.crowd.present == 0
        [(event, fields)] = bad.log.events
    assert event == "connection_failed"
    assert fields["error"] == Public(kind)
    assert SECRET not in str(fields)
    assert "127.0.0.1" not in str(fields)


async def test_the_place_of_a_failure_is_logged(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    broken = FaceListener(name="http", tls=TlsMode.NONE, face=face(failing(ValueError("x"))))
    async with served(broken, keeper) as listening:
        await read_to_end(await listening.connect())
        place = listening.log.events[0][1]["place"]
        assert isinstance(place, Public)
        assert place.text.endswith(" fail")
        assert place.text.startswith("test_listeners.py:")


@pytest.mark.parametrize(
    "error", [PeerGone(), trio.BrokenResourceError(), ExceptionGroup("g", [PeerGone()])]
)
async def test_a_peer_that_left_is_no_failure(
    keeper: TlsKeeper, autojump_clock: MockClock, error: Exception
) -> None:
    listener = FaceListener(name="imap", tls=TlsMode.NONE, face=face(failing(error)))
    async with served(listener, keeper) as listening:
        await read_to_end(await listening.connect())
        assert not listening.log.events
        assert listener.counters.failed == 0


async def test_what_is_no_exception_is_not_swallowed(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    listener = FaceListener(name="imap", tls=TlsMode.NONE, face=face(failing(SystemExit(3))))

    async def serve() -> None:
        async with served(listener, keeper) as listening:
            await listening.connect()
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        await serve()
    assert caught.value.split(SystemExit)[0] is not None


async def test_cancelled_connections_leave_their_crowd(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    listener = imaps()
    async with served(listener, keeper) as listening:
        client = tls_client(await listening.connect(), client_context(keeper.pair))
        await exchange(client)
    assert listener.face.crowd.present == 0
    assert await read_to_end(client) == b""  # with close_notify
