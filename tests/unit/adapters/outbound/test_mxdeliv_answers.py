"""What an answer over HTTP says of the message, whenever and however torn it comes."""

from __future__ import annotations

import pytest
import trio

from chatmail.domain.model.federation import HopFault, RecipientFate, TlsRule
from tests.unit.adapters.outbound.rig import (
    DELIVERED,
    HASTE,
    PERMANENT,
    TEMPORARY,
    Authority,
    PeerStream,
    fates,
    letter,
)
from tests.unit.adapters.outbound.web_server import WebServer, answer, attempt


@pytest.mark.parametrize(
    ("reply", "expected", "line"),
    [
        pytest.param(answer("200 OK"), DELIVERED, "250 2.0.0", id="200-empty"),
        pytest.param("HTTP/1.1 204 No\r\n\r\n", DELIVERED, "250 2.0.0", id="204"),
        pytest.param("HTTP/1.0 200 OK\r\n\r\nOK", DELIVERED, "250 2.0.0", id="http-1.0"),
        pytest.param(
            "HTTP/1.1 100 Continue\r\n\r\n" + answer("200 OK"), DELIVERED, "250", id="100-first"
        ),
        pytest.param(
            "HTTP/1.1 100 Continue\r\n\r\n" * 11 + answer("200 OK"),
            HopFault.BROKEN,
            "451 4.5.0",
            id="100-without-end",
        ),
        pytest.param(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n\r\n",
            DELIVERED,
            "250 2.0.0 OK",
            id="chunked-answer",
        ),
        pytest.param(
            answer("200 OK", "<p>", "Content-Type: text/html"),
            HopFault.UNSUPPORTED,
            "450",
            id="html",
        ),
        pytest.param(
            answer("301 Moved", "", "Location: /ok"), HopFault.UNSUPPORTED, "450", id="redirect"
        ),
        pytest.param(answer("404 no"), HopFault.UNSUPPORTED, "450", id="404"),
        pytest.param(answer("405 no"), HopFault.UNSUPPORTED, "450", id="405"),
        pytest.param(answer("501 no"), HopFault.UNSUPPORTED, "450", id="501"),
        pytest.param(
            answer("400 no", "554 5.7.1 No DKIM"), PERMANENT, "554 5.7.1 No DKIM", id="permanent"
        ),
        pytest.param(answer("400 no", "451 4.7.5 DNS"), TEMPORARY, "451 4.7.5 DNS", id="temporary"),
        pytest.param(answer("403 no"), HopFault.UNCLEAR, "550 5.7.1", id="403"),
        pytest.param(answer("400 no"), HopFault.UNCLEAR, "450 4.0.0", id="400"),
        pytest.param(answer("413 no"), PERMANENT, "552 5.3.4", id="413"),
        pytest.param(answer("507 no"), TEMPORARY, "452 4.2.2", id="507"),
        pytest.param(answer("429 no"), HopFault.BUSY, "450", id="429"),
        pytest.param(answer("503 no"), HopFault.BUSY, "451", id="503"),
        pytest.param(answer("500 no"), HopFault.BROKEN, "451", id="500"),
        pytest.param(answer("502 no"), HopFault.BROKEN, "451", id="502"),
        pytest.param("220 peer ESMTP\r\n", HopFault.BROKEN, "451 4.5.0", id="not-http"),
        pytest.param(
            "HTTP/1.1 200 OK\r\nX: " + "y" * 70_000, HopFault.BROKEN, "451 4.5.0", id="huge-head"
        ),
    ],
)
async def test_answers(reply: str, expected: RecipientFate | HopFault, line: str) -> None:
    """A4.7, from the socket on."""
    server = WebServer(reply)
    result = await attempt(server)
    assert len(server.requests) == 1
    if isinstance(expected, HopFault):
        assert (result.fault, result.outcomes) == (expected, ())
        assert result.reply.startswith(line)
    else:
        assert result.fault is None
        assert fates(result) == {"bob": expected}
        assert result.outcomes[0].reply.startswith(line)


async def test_a_full_mailbox_is_given_time() -> None:
    result = await attempt(WebServer(answer("507 no")))
    assert (result.fault, result.retry_after_s) == (None, 900.0)


async def test_an_endless_answer_is_not_read_to_its_end() -> None:
    """A4.6."""
    sent = 0

    async def server(stream: PeerStream) -> None:
        nonlocal sent
        await stream.until(b"dots\r\n")
        await stream.send("HTTP/1.1 400 no\r\n\r\n550 5.7.1 no\n")
        while True:
            await stream.send(b"x" * 65536)
            sent += 65536

    result = await attempt(server)
    assert fates(result) == {"bob": PERMANENT}
    assert sent < 100 * 65536


async def test_a_torn_answer_is_judged_by_what_came() -> None:
    server = WebServer(
        "HTTP/1.1 400 no\r\nContent-Length: 99\r\nConnection: close\r\n\r\n550 5.7.1 x\n"
    )
    assert fates(await attempt(server)) == {"bob": PERMANENT}


async def test_an_answer_that_never_ends_is_judged_by_what_came() -> None:
    async def server(stream: PeerStream) -> None:
        await stream.until(b"dots\r\n")
        await stream.send("HTTP/1.1 400 no\r\nContent-Length: 99\r\n\r\n550 5.7.1 x\n")
        await trio.sleep_forever()

    assert fates(await attempt(server, patience=HASTE)) == {"bob": PERMANENT}


async def test_a_refusal_before_the_body_is_out_is_heard() -> None:
    """A server that answers 413 stops reading; waiting to write would hide the answer."""

    async def server(stream: PeerStream) -> None:
        await stream.until(b"\r\n\r\n")
        await stream.send(answer("413 no", "", "Connection: close"))
        await trio.sleep_forever()

    with trio.fail_after(60):
        result = await attempt(server, letter(content=b"x" * 20_000_000))
    assert fates(result) == {"bob": PERMANENT}


async def test_a_success_before_the_body_is_out_is_none() -> None:
    """A server that answers 200 to whatever comes has not got the message."""

    async def server(stream: PeerStream) -> None:
        await stream.until(b"\r\n\r\n")
        await stream.send(answer("200 OK", "OK", "Connection: close"))
        await trio.sleep_forever()

    result = await attempt(server, letter(content=b"x" * 20_000_000), patience=HASTE)
    assert (result.fault, result.outcomes) == (HopFault.BROKEN, ())


async def test_a_success_early_in_a_body_that_gets_out_is_one() -> None:
    async def server(stream: PeerStream) -> None:
        head = (await stream.until(b"\r\n\r\n")).decode()
        await stream.send(answer("200 OK", "OK"))
        await stream.exactly(int(head.partition("Content-Length: ")[2].partition("\r\n")[0]))
        await trio.sleep_forever()

    result = await attempt(server, letter(content=b"x" * 5_000_000))
    assert fates(result) == {"bob": DELIVERED}


async def test_a_refusal_and_a_reset_before_the_body_is_out_is_heard(authority: Authority) -> None:
    async def server(stream: PeerStream) -> None:
        await stream.until(b"\r\n\r\n")
        await stream.send(answer("413 no", "", "Connection: close"))

    result = await attempt(
        server,
        letter(content=b"x" * 20_000_000),
        tls=authority.server("peer.example"),
        rule=TlsRule.ENCRYPT,
    )
    # The answer may be lost to the reset; then it is no delivery either.
    assert fates(result) == {"bob": PERMANENT} or result.fault is HopFault.BROKEN
