"""The table of checks (spec federation-web B3), row by row, the same on both surfaces."""

from __future__ import annotations

import re
from collections.abc import Callable

import attrs
import pytest

from chatmail.domain.model.errors import Overloaded
from chatmail.domain.policy.encryption_gate import DkimResult
from tests.builders import delivery_report, make_message, securejoin_request
from tests.unit.adapters.inbound.surfaces import Surfaces
from tests.unit.domain.usecases.inbound import ANN, BOB, NOBODY, PEER
from tests.unit.domain.usecases.relay import DOMAIN

MESSAGE = make_message(sender=ANN)
SPOOFED = f"eve@{DOMAIN}"


def as_is(surfaces: Surfaces) -> None:
    pass


def dkim(result: DkimResult) -> Callable[[Surfaces], None]:
    def arrange(surfaces: Surfaces) -> None:
        surfaces.relay.verifier.result = result

    return arrange


def denied(surfaces: Surfaces) -> None:
    surfaces.relay.denied.add(PEER)


def exhausted(surfaces: Surfaces) -> None:
    surfaces.relay.budgets.empty = {"inbound"}


def broken(surfaces: Surfaces) -> None:
    surfaces.relay.state.fail = 1


def small(surfaces: Surfaces) -> None:
    surfaces.relay.limit(max_message_bytes=1000, max_federation_bytes=2000)


def small_for_peers(surfaces: Surfaces) -> None:
    surfaces.relay.limit(max_federation_bytes=1000)


@attrs.frozen(kw_only=True)
class Row:
    """What is sent, and what both surfaces say to it."""

    reply: str
    status: int
    message: bytes = MESSAGE
    sender: str | None = ANN
    to: tuple[str, ...] = (BOB,)
    arrange: Callable[[Surfaces], None] = as_is


ROWS = {
    "accepted": Row(reply="250 2.0.0", status=200),
    "accepted-bounce": Row(
        reply="250 2.0.0",
        status=200,
        message=delivery_report(sender=f"MAILER-DAEMON@{PEER}"),
        sender=None,
    ),
    "accepted-request-to-join": Row(
        reply="250 2.0.0", status=200, message=securejoin_request(sender=ANN)
    ),
    "3-foreign-recipient": Row(
        reply="550 5.7.1 Relaying denied", status=404, to=("x@elsewhere.example",)
    ),
    "4-envelope-ours": Row(reply="550 5.7.1 Sender domain is local", status=403, sender=SPOOFED),
    "4-envelope-denied": Row(reply="550 5.7.1 Policy Rejection", status=403, arrange=denied),
    "5-size": Row(reply="552 5.3.4 message file too big", status=413, arrange=small),
    "5-size-of-peers": Row(
        reply="552 5.3.4 message file too big", status=413, arrange=small_for_peers
    ),
    "5-nul": Row(
        reply="554 5.6.0 Bare CR, LF or NUL not allowed",
        status=400,
        message=MESSAGE + b"\0\r\n",
    ),
    "5-bare-feed": Row(
        reply="554 5.6.0 Bare CR, LF or NUL not allowed", status=400, message=MESSAGE + b"x\n.\r\n"
    ),
    "6-hops": Row(
        reply="554 5.4.6 Too many hops",
        status=400,
        message=make_message(sender=ANN, fields=[("Received", "x")] * 51),
    ),
    "7-header": Row(
        reply="554 5.6.0 Malformed or oversized header",
        status=400,
        message=b"no field\r\n" + MESSAGE,
    ),
    "7-two-authors": Row(
        reply=f"500 5.7.1 Invalid FROM <<{ANN}>,?<x@y.example>> for <{ANN}>",
        status=400,
        message=make_message(sender=f"{ANN}>, <x@y.example"),
    ),
    "8-header-ours": Row(
        reply="550 5.7.1 Sender domain is local",
        status=403,
        message=make_message(sender=SPOOFED),
    ),
    "9-cleartext-unsigned": Row(
        reply="523 5.7.1 Encryption Needed: Invalid Unencrypted Mail",
        status=403,
        message=make_message(sender=ANN, encrypted=False),
        arrange=dkim(DkimResult.NONE),
    ),
    "11-no-signature": Row(
        reply="554 5.7.1 No DKIM signature found", status=400, arrange=dkim(DkimResult.NONE)
    ),
    "11-bad-signature": Row(
        reply="554 5.7.1 No valid DKIM signature found", status=400, arrange=dkim(DkimResult.BAD)
    ),
    "11-no-dns": Row(
        reply="451 4.7.5 DKIM key not available, try again later",
        status=503,
        arrange=dkim(DkimResult.UNAVAILABLE),
    ),
    "12-author-denied": Row(
        reply="550 5.7.1 Policy Rejection", status=403, sender=None, arrange=denied
    ),
    "13-rate": Row(reply=f"450 4.7.1: Too much mail from <{ANN}>", status=429, arrange=exhausted),
    "14-nobody": Row(reply="250 2.0.0", status=200, to=(NOBODY,)),
    "15-store": Row(reply="451 4.3.0 Temporary failure", status=503, arrange=broken),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
async def test_smtp(row: Row) -> None:
    surfaces = Surfaces()
    bob = surfaces.relay.accounts.add(BOB)
    row.arrange(surfaces)
    last, rcpts = await surfaces.talk(row.message, sender=row.sender, to=row.to)
    said = last if last != b"554 5.5.1 No valid recipients" else rcpts[0]
    assert said.decode().startswith(row.reply)
    is_for_bob = row.status == 200 and row.to == (BOB,)
    assert len(await surfaces.relay.inbox(bob)) == is_for_bob


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
async def test_mxdeliv(row: Row, autojump_clock: object) -> None:
    surfaces = Surfaces()
    bob = surfaces.relay.accounts.add(BOB)
    row.arrange(surfaces)
    answer = await surfaces.post(row.message, sender=row.sender, to=row.to)
    assert answer.status == row.status
    assert answer.body.decode().startswith(row.reply)
    assert answer.body.count(b"\r\n") == 1
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert ("retry-after" in answer.headers) == (row.status == 429)
    is_for_bob = row.status == 200 and row.to == (BOB,)
    assert len(await surfaces.relay.inbox(bob)) == is_for_bob


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
async def test_both_log_the_same_without_an_address(row: Row, autojump_clock: object) -> None:
    told = []
    for ask in (Surfaces.talk, Surfaces.post):
        surfaces = Surfaces()
        surfaces.relay.accounts.add(BOB)
        row.arrange(surfaces)
        await ask(surfaces, row.message, sender=row.sender, to=row.to)
        told.append([fields for event, fields in surfaces.log.records])
        assert not re.search("@|peer|192", repr(surfaces.log.records))
    # What SMTP finds while it reads the content, it answers without a word to the log.
    assert told[0] in ([], told[1])


async def test_a_stranger_cannot_tell_who_exists() -> None:
    surfaces = Surfaces()
    surfaces.relay.accounts.add(BOB)
    surfaces.relay.accounts.add(f"blocked@{DOMAIN}", is_blocked=True)
    surfaces.relay.accounts.add(f"full@{DOMAIN}")
    names = (BOB, f"blocked@{DOMAIN}", NOBODY, f"postmaster@{DOMAIN}")
    answers = [await surfaces.post(MESSAGE, to=to) for to in (*((name,) for name in names), names)]
    assert all(answer == answers[0] for answer in answers)
    ends = set()
    for name in names:
        last, rcpts = await surfaces.talk(MESSAGE, to=(name,))
        ends.add((re.sub(rb"as \w+", b"", last), tuple(rcpts)))
    assert len(ends) == 1


async def test_the_server_is_busy_on_both() -> None:
    surfaces = Surfaces()

    async def overloaded(*_: object) -> object:
        raise Overloaded("full")

    surfaces.relay.intake.commit = overloaded  # type: ignore[method-assign]
    last, _ = await surfaces.talk(MESSAGE)
    answer = await surfaces.post(MESSAGE)
    assert last == b"452 4.3.1 Server is busy, try again later"
    assert (answer.status, answer.body) == (503, last + b"\r\n")


async def test_state_is_clean_after_a_refusal() -> None:
    """A35, on the same machine that just refused."""
    surfaces = Surfaces()
    bob = surfaces.relay.accounts.add(BOB)
    last, _ = await surfaces.talk(make_message(sender=ANN, encrypted=False))
    assert last.startswith(b"523 ")
    last, _ = await surfaces.talk(MESSAGE)
    assert last.startswith(b"250 ")
    assert len(await surfaces.relay.inbox(bob)) == 1
