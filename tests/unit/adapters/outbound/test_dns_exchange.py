from __future__ import annotations

import dns.asyncbackend
import dns.exception
import dns.flags
import dns.message
import pytest
import trio

from chatmail.adapters.outbound.dns_exchange import MAX_RECORDS, BoundedNameserver
from tests.unit.adapters.outbound.dns_peer import Answerer, Zone, dns_server

ZONE = Zone("a.example 300 IN A 192.0.2.1")
MANY = Zone(*(f"a.example 300 IN A 10.0.{number >> 8}.{number & 255}" for number in range(500)))


async def ask(answer: Answerer, *, over_tcp: bool, patience_s: float = 1.0) -> dns.message.Message:
    query = dns.message.make_query("a.example", "A")
    assert isinstance(query, dns.message.QueryMessage)
    trouble: Exception | None = None
    async with dns_server(answer) as (host, port):
        try:
            return await BoundedNameserver(host, port).async_query(
                query, patience_s, None, 0, over_tcp, dns.asyncbackend.get_default_backend()
            )
        except (dns.exception.DNSException, EOFError) as error:
            trouble = error  # raised here it would leave the server's nursery in a group
    raise trouble


@pytest.mark.parametrize("over_tcp", [False, True])
async def test_a_question_and_its_answer(over_tcp: bool) -> None:
    response = await ask(ZONE, over_tcp=over_tcp)
    assert [str(record) for record in response.answer[0]] == ["192.0.2.1"]


async def test_no_more_records_are_parsed_than_used() -> None:
    response = await ask(MANY, over_tcp=True)
    assert len(response.answer[0]) == MAX_RECORDS


async def test_a_truncated_answer_is_asked_again() -> None:
    with pytest.raises(dns.message.Truncated):
        await ask(MANY, over_tcp=False)


async def test_records_that_are_not_used_are_not_parsed() -> None:
    def answer(query: dns.message.Message) -> bytes:
        octets = bytearray(ZONE(query) or b"")
        octets[8:12] = b"\xff\xff\xff\xff"  # so many in the authority and additional sections
        return bytes(octets) + b"\xff" * 50

    assert (await ask(answer, over_tcp=False)).answer


def guesses(query: dns.message.Message) -> bytes:
    """Somebody else's answer."""
    octets = bytearray(ZONE(query) or b"")
    octets[0] ^= 0xFF
    return bytes(octets)


def query_itself(query: dns.message.Message) -> bytes:
    return query.to_wire()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(guesses, id="other-id"),
        pytest.param(query_itself, id="a-question"),
        pytest.param(lambda query: b"", id="empty"),
        pytest.param(lambda query: query.id.to_bytes(2, "big"), id="short"),
        pytest.param(lambda query: query.id.to_bytes(2, "big") + b"\xff" * 30, id="garbage"),
        pytest.param(lambda query: None, id="silence"),
    ],
)
async def test_what_is_no_answer_is_waited_out(answer: Answerer) -> None:
    with pytest.raises(dns.exception.Timeout):
        await ask(answer, over_tcp=False, patience_s=0.1)


@pytest.mark.parametrize("answer", [guesses, query_itself, lambda query: None])
async def test_what_is_no_answer_over_tcp_is_a_bad_server(answer: Answerer) -> None:
    with pytest.raises((dns.exception.FormError, EOFError)):
        await ask(answer, over_tcp=True)


async def test_cancellation_is_not_a_timeout() -> None:
    with trio.move_on_after(0.05) as scope:
        await ask(lambda query: None, over_tcp=False)
    assert scope.cancelled_caught
