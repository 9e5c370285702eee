"""`/mxdeliv`: the body, in pieces, too large, cut off, slow, or with nowhere to go."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from chatmail.adapters.http import mxdeliv
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import TransientFailure
from tests.builders import make_message
from tests.unit.adapters.http.posts import MESSAGE
from tests.unit.adapters.inbound.surfaces import Surfaces
from tests.unit.domain.usecases.inbound import ANN, BOB


async def test_the_body_may_come_in_any_pieces(surfaces: Surfaces) -> None:
    pieces = [MESSAGE[at : at + 17] for at in range(0, len(MESSAGE), 17)]
    assert (await surfaces.post(pieces)).status == 200
    bob = (await surfaces.relay.accounts.resolve([EmailAddress.parse(BOB)]))[0]
    assert bob is not None
    (stored,) = await surfaces.relay.inbox(bob)
    assert stored == MESSAGE


@pytest.mark.parametrize("step", [1, 5, 100_000])
async def test_line_feeds_alone_become_line_ends(surfaces: Surfaces, step: int) -> None:
    bare = MESSAGE.replace(b"\r\n", b"\n")
    pieces = [bare[at : at + step] for at in range(0, len(bare), step)]
    assert (await surfaces.post(pieces)).status == 200
    bob = (await surfaces.relay.accounts.resolve([EmailAddress.parse(BOB)]))[0]
    assert bob is not None
    assert await surfaces.relay.inbox(bob) == [MESSAGE]


@pytest.mark.parametrize(
    "message",
    [
        MESSAGE.replace(b"\r\n", b"\n", 1),
        MESSAGE + b"x\n",
        MESSAGE.replace(b"\r\n", b"\n") + b"\r\n",
        MESSAGE + b"\r",
        MESSAGE.replace(b"\r\n", b"\r"),
    ],
    ids=["first", "last", "crlf-after-lf", "return-at-end", "returns"],
)
async def test_mixed_line_ends_are_refused(surfaces: Surfaces, message: bytes) -> None:
    answer = await surfaces.post(message)
    assert answer.status in (400, 403)
    assert surfaces.relay.intake.committed == []


async def test_a_length_that_is_too_much_is_refused_before_anything_is_read(
    surfaces: Surfaces, autojump_clock: object
) -> None:
    surfaces.relay.limit(max_message_bytes=1000)
    start = trio.current_time()
    answered_at = []

    async def receive() -> Any:
        answered_at.append(trio.current_time())
        return await trio.sleep_forever()

    answer = await surfaces.post(b"x" * 1001, receive=receive)
    assert answer.status == 413
    assert answer.headers["connection"] == "close"
    assert trio.current_time() - start == pytest.approx(mxdeliv.LINGER_S)


async def test_a_body_without_length_is_cut_at_the_limit(
    surfaces: Surfaces, autojump_clock: object
) -> None:
    surfaces.relay.limit(max_message_bytes=300_000)
    taken = 0

    async def endless() -> Any:
        nonlocal taken
        taken += 1
        await trio.sleep(0.01)
        return {"type": "http.request", "body": b"x" * 65_536, "more_body": True}

    start = trio.current_time()
    answer = await surfaces.post([b"", b""], receive=endless)
    assert answer.status == 413
    assert answer.body == b"552 5.3.4 message file too big\r\n"
    assert answer.headers["connection"] == "close"
    assert taken * 65_536 < 300_000 + mxdeliv.LINGER_OCTETS + 3 * 65_536
    assert trio.current_time() - start < mxdeliv.LINGER_S


async def test_a_peer_that_goes_leaves_nothing(surfaces: Surfaces) -> None:
    events = [
        {"type": "http.request", "body": MESSAGE, "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return events.pop(0)

    assert (await surfaces.post([b"", b""], receive=receive)).status == 0
    assert surfaces.relay.intake.committed == []


async def test_a_peer_that_stalls_is_told_so(surfaces: Surfaces, autojump_clock: object) -> None:
    start = trio.current_time()
    answer = await surfaces.post([MESSAGE, b"x"], receive=trio.sleep_forever)
    assert answer.status == 408
    assert trio.current_time() - start == pytest.approx(mxdeliv.STALLED_S + mxdeliv.LINGER_S)


async def test_a_drip_ends_after_a_quarter_of_an_hour(
    surfaces: Surfaces, autojump_clock: object
) -> None:
    async def drip() -> Any:
        await trio.sleep(30)
        return {"type": "http.request", "body": b"x", "more_body": True}

    start = trio.current_time()
    assert (await surfaces.post([b"", b""], receive=drip)).status == 408
    assert trio.current_time() - start < 1000


async def test_a_store_that_takes_too_long_is_a_temporary_failure(
    surfaces: Surfaces, autojump_clock: object
) -> None:
    async def slow(*_: object) -> object:
        return await trio.sleep_forever()

    surfaces.relay.intake.commit = slow  # type: ignore[method-assign]
    answer = await surfaces.post(MESSAGE)
    assert (answer.status, answer.body) == (503, b"451 4.3.0 Temporary failure\r\n")


async def test_a_disk_that_fails_while_the_body_comes(surfaces: Surfaces) -> None:
    large = make_message(sender=ANN, size=400_000)
    pieces = [large[at : at + 65_536] for at in range(0, len(large), 65_536)]
    collect = surfaces.relay.collect

    class Broken:
        def __call__(self, *arguments: Any) -> Any:
            collector = collect(*arguments)

            async def feed(chunk: bytes) -> None:
                raise TransientFailure("full")

            collector.feed = feed  # type: ignore[method-assign]
            return collector

    services = surfaces.mxdeliv._services
    object.__setattr__(services, "collect", Broken())
    answer = await surfaces.post(pieces)
    assert answer.status == 503
    assert "connection" not in answer.headers  # it was read to its end


async def test_without_room_on_the_disk_nothing_is_read(
    surfaces: Surfaces, autojump_clock: object
) -> None:
    surfaces.has_room = False
    answer = await surfaces.post(MESSAGE)
    assert (answer.status, answer.body[:9]) == (503, b"452 4.3.1")
    assert surfaces.relay.intake.committed == []
