from __future__ import annotations

import ssl

import attrs
import pytest
import trio

from chatmail.adapters.outbound.mxdeliv import MxdelivTransport, host_field
from chatmail.adapters.outbound.patience import Patience
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.federation import HopFault, HopResult, RecipientFate, TlsRule
from chatmail.domain.ports.remote import Letter
from tests.unit.adapters.outbound.rig import (
    CONTENT,
    HASTE,
    PATIENCE,
    Authority,
    PeerStream,
    Script,
    http_hop,
    letter,
    mxdeliv_transport,
    peer,
)

DELIVERED, TEMPORARY, PERMANENT = RecipientFate
OK = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\n250 2.0.0 OK\r\n"


@attrs.define
class Request:
    head: str
    body: bytes

    @property
    def fields(self) -> list[tuple[str, str]]:
        lines = self.head.split("\r\n")[1:-2]
        return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


class WebServer:
    """A server that keeps what it gets; the last answer is for all that follow."""

    def __init__(self, *answers: str | bytes) -> None:
        self.answers = answers or (OK,)
        self.requests: list[Request] = []
        self.connections = 0
        self.resumed: list[bool] = []
        self.versions: list[str | None] = []

    async def __call__(self, stream: PeerStream) -> None:
        self.connections += 1
        if isinstance(stream.stream, trio.SSLStream):
            self.resumed.append(bool(stream.stream.session_reused))
            self.versions.append(stream.stream.selected_alpn_protocol())
        while head := (await stream.until(b"\r\n\r\n")).decode():
            length = int(head.partition("Content-Length: ")[2].partition("\r\n")[0])
            answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
            self.requests.append(Request(head, await stream.exactly(length)))
            await stream.send(answer)
            if isinstance(answer, str) and ("Connection: close" in answer or "/1.0 " in answer):
                return


def answer(status: str, body: str = "", *fields: str) -> str:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(head) + "\r\n\r\n" + body


async def attempt(
    server: Script,
    mail: Letter | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    rule: TlsRule = TlsRule.NONE,
    authority: Authority | None = None,
    patience: Patience = PATIENCE,
    host: str = "peer.example",
    takes_one: bool = False,
) -> HopResult:
    transport = mxdeliv_transport(authority and authority.file, patience)
    try:
        async with peer(server, tls=tls) as served:
            hop = attrs.evolve(http_hop(served.port, rule, host), takes_one=takes_one)
            return await transport.attempt(hop, mail or letter())
    finally:
        transport.pool.close()


def fates(result: HopResult) -> dict[str, RecipientFate]:
    return {outcome.recipient.local: outcome.fate for outcome in result.outcomes}


# --- requests ------------------------------------------------------------------------------------


async def test_a_message_is_posted_as_it_is(authority: Authority) -> None:
    """A4: the fields, a length instead of chunks, no dots stuffed, the signature in front."""
    server = WebServer()
    result = await attempt(
        server,
        letter("bob", "carol", prefix=b"DKIM-Signature: x\r\n"),
        tls=authority.server("peer.example"),
        rule=TlsRule.VERIFY,
        authority=authority,
    )
    assert result.fault is None
    assert fates(result) == {"bob": DELIVERED, "carol": DELIVERED}
    assert result.outcomes[0].reply == "250 2.0.0 OK"
    (request,) = server.requests
    assert request.head.startswith("POST /mxdeliv HTTP/1.1\r\n")
    body = b"DKIM-Signature: x\r\n" + CONTENT
    assert request.body == body
    assert request.fields[0][1].startswith("peer.example:")
    assert request.fields[1:] == [
        ("X-Mail-From", "alice@relay.example"),
        ("X-Mail-To", "bob@peer.example"),
        ("X-Mail-To", "carol@peer.example"),
        ("Content-Type", "message/rfc822"),
        ("Content-Length", str(len(body))),
        ("User-Agent", "chatmail/1"),
    ]


async def test_the_null_sender_is_an_empty_field() -> None:
    server = WebServer()
    await attempt(server, letter(sender=None))
    assert "\r\nX-Mail-From: \r\n" in server.requests[0].head


async def test_a_large_message_arrives_whole(authority: Authority) -> None:
    content = bytes(range(256)) * 4096
    server = WebServer()
    result = await attempt(
        server,
        letter(content=content, prefix=b"X: y\r\n"),
        tls=authority.server("peer.example"),
        rule=TlsRule.ENCRYPT,
    )
    assert fates(result) == {"bob": DELIVERED}
    assert server.requests[0].body == b"X: y\r\n" + content


@pytest.mark.parametrize("content", [b"", b"x" * 65536, b"x" * 65537, b"x" * 131072])
async def test_every_size_arrives_whole(content: bytes) -> None:
    server = WebServer()
    assert fates(await attempt(server, letter(content=content))) == {"bob": DELIVERED}
    assert server.requests[0].body == content


async def test_head_and_small_body_leave_in_one_write() -> None:
    pieces: list[bytes] = []

    async def server(stream: PeerStream) -> None:
        pieces.append(await stream.stream.receive_some())
        await stream.send(OK)

    await attempt(server)
    assert pieces[0].startswith(b"POST ")
    assert pieces[0].endswith(CONTENT)


async def test_many_recipients_are_several_requests() -> None:
    """A4.1."""
    server = WebServer(OK, answer("400 no", "550 5.7.1 no\n"))
    result = await attempt(server, letter(*(f"u{number}" for number in range(70))))
    assert len(server.requests) == 2
    assert server.connections == 1
    assert len(fates(result)) == 70
    assert fates(result)["u0"] is DELIVERED
    assert fates(result)["u69"] is PERMANENT


async def test_a_peer_that_serves_the_first_recipient_only_gets_a_request_for_each() -> None:
    """A4.3."""
    server = WebServer(OK, OK, OK)
    result = await attempt(server, letter("u0", "u1", "u2"), takes_one=True)
    assert len(server.requests) == 3
    assert len(fates(result)) == 3


async def test_a_fault_in_a_later_request_keeps_the_outcomes_before() -> None:
    server = WebServer(OK, answer("503 no", "", "Retry-After: 30"))
    result = await attempt(server, letter(*(f"u{number}" for number in range(70))))
    assert (result.fault, result.retry_after_s) == (HopFault.BUSY, 30.0)
    assert len(fates(result)) == 50


@pytest.mark.parametrize(
    ("host", "port", "default", "field"),
    [
        ("peer.example", 443, 443, "peer.example"),
        ("peer.example", 8443, 443, "peer.example:8443"),
        ("::1", 443, 443, "[::1]"),
        ("::1", 80, 443, "[::1]:80"),
        ("127.0.0.1", 80, 80, "127.0.0.1"),
    ],
)
def test_the_host_field(host: str, port: int, default: int, field: str) -> None:
    """A2.3: IPv6 in brackets."""
    assert host_field(host, port, default) == field


@pytest.mark.parametrize("path", ["/a b", "/\u00e4", "/x\r\nX: y", ""])
async def test_a_path_that_is_none_is_not_posted_to(path: str) -> None:
    hop = attrs.evolve(http_hop(1), path=path)
    result = await mxdeliv_transport().attempt(hop, letter())
    assert (result.fault, result.reply[:9]) == (HopFault.BROKEN, "451 4.3.5")


# --- answers -------------------------------------------------------------------------------------


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


# --- ends ----------------------------------------------------------------------------------------


async def test_no_answer_after_everything_was_sent_is_ambiguous() -> None:
    """A3.4."""

    async def server(stream: PeerStream) -> None:
        await stream.until(b"dots\r\n")

    result = await attempt(server)
    assert (result.fault, result.reply[:9]) == (HopFault.AMBIGUOUS, "451 4.4.2")


async def test_silence_after_everything_was_sent_is_ambiguous() -> None:
    async def server(stream: PeerStream) -> None:
        await trio.sleep_forever()

    result = await attempt(server, patience=HASTE)
    assert result.fault is HopFault.AMBIGUOUS


async def test_silence_after_a_large_message_is_ambiguous() -> None:
    async def server(stream: PeerStream) -> None:
        await stream.exactly(200_000)
        await trio.sleep_forever()

    result = await attempt(server, letter(content=b"x" * 100_000), patience=HASTE)
    assert result.fault is HopFault.AMBIGUOUS


async def test_a_loss_amid_the_body_is_not_ambiguous() -> None:
    async def server(stream: PeerStream) -> None:
        await stream.until(b"\r\n\r\n")

    result = await attempt(server, letter(content=b"x" * 20_000_000))
    assert (result.fault, result.reply) == (HopFault.BROKEN, "451 4.4.2 Connection lost")


async def test_a_stalled_upload_times_out() -> None:
    """A4.8."""

    async def server(stream: PeerStream) -> None:
        await trio.sleep_forever()

    with trio.fail_after(60):
        result = await attempt(server, letter(content=b"x" * 20_000_000), patience=HASTE)
    assert (result.fault, result.reply) == (HopFault.BROKEN, "451 4.4.2 Timed out")


async def test_a_request_has_an_end_whatever_the_server_does() -> None:
    async def server(stream: PeerStream) -> None:
        await stream.until(b"\r\n\r\n")
        while True:
            await stream.exactly(100_000)
            await trio.sleep(0.02)

    patience = attrs.evolve(PATIENCE, http_base=0.3, http_octets_per_s=1e12)
    result = await attempt(server, letter(content=b"x" * 200_000_000), patience=patience)
    assert (result.fault, result.reply) == (HopFault.BROKEN, "451 4.4.2 Timed out")


async def test_a_refused_connection_is_no_connection() -> None:
    async with peer(WebServer()) as served:
        pass
    result = await mxdeliv_transport().attempt(http_hop(served.port), letter())
    assert (result.fault, result.reply) == (HopFault.CONNECT, "451 4.4.1 Connection refused")


@pytest.mark.parametrize("size", [len(CONTENT), 200_000])
async def test_unreadable_content_is_never_a_whole_request(size: int) -> None:
    async def read(offset: int, length: int) -> bytes:
        if size < 100_000 or offset:
            raise TransientFailure("gone")
        return b"x" * length

    server = WebServer()
    transport = mxdeliv_transport()
    async with peer(server) as served:
        with pytest.raises(TransientFailure):
            await transport.attempt(
                http_hop(served.port, TlsRule.NONE), attrs.evolve(letter(), size=size, read=read)
            )
    assert len(transport.pool) == 0
    assert server.answers == (OK,)
    assert all(len(request.body) < size for request in server.requests)


# --- TLS -----------------------------------------------------------------------------------------


async def test_a_wrong_certificate_is_never_talked_to(authority: Authority) -> None:
    """A5.2."""
    server = WebServer()
    result = await attempt(
        server, tls=authority.server("other.example"), rule=TlsRule.VERIFY, authority=authority
    )
    assert result.fault is HopFault.TLS
    assert result.reply.startswith("454 4.7.5 Certificate not verified: ")
    assert server.requests == []


async def test_plain_http_on_the_tls_port_is_a_fault() -> None:
    result = await attempt(WebServer(), rule=TlsRule.ENCRYPT, patience=HASTE)
    assert result.fault is HopFault.TLS


async def test_a_literal_needs_no_certificate(authority: Authority) -> None:
    """A5.1."""
    server = WebServer()
    result = await attempt(
        server, tls=authority.server("x.example"), rule=TlsRule.ENCRYPT, host="127.0.0.1"
    )
    assert fates(result) == {"bob": DELIVERED}


async def test_http_is_what_we_speak(authority: Authority) -> None:
    """On 443 of a relay the protocol decides who answers."""
    context = authority.server("peer.example")
    context.set_alpn_protocols(["imap", "smtp", "h2", "http/1.1"])
    server = WebServer()
    await attempt(server, tls=context, rule=TlsRule.VERIFY, authority=authority)
    assert server.versions == ["http/1.1"]


async def test_the_next_session_is_resumed(authority: Authority) -> None:
    """A5.6."""
    server = WebServer()
    transport = mxdeliv_transport(authority.file)
    async with peer(server, tls=authority.server("peer.example")) as served:
        for _ in range(2):
            await transport.attempt(http_hop(served.port), letter())
            transport.pool.close()
    assert server.resumed == [False, True]


# --- kept connections ----------------------------------------------------------------------------


async def several(transport: MxdelivTransport, port: int, count: int) -> list[HopResult]:
    hop = http_hop(port, TlsRule.NONE)
    return [await transport.attempt(hop, letter()) for _ in range(count)]


async def test_a_connection_is_kept_for_the_next_message() -> None:
    """A4.9."""
    server = WebServer()
    transport = mxdeliv_transport()
    async with peer(server) as served:
        results = await several(transport, served.port, 5)
        transport.pool.close()
    assert [fates(result) for result in results] == [{"bob": DELIVERED}] * 5
    assert server.connections == 1


async def test_a_hundred_requests_are_enough_for_a_connection() -> None:
    server = WebServer()
    transport = mxdeliv_transport(patience=attrs.evolve(PATIENCE, http_requests=3))
    async with peer(server) as served:
        await several(transport, served.port, 4)
        transport.pool.close()
    assert server.connections == 2


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(answer("200 OK", "OK", "Connection: close"), id="close"),
        pytest.param("HTTP/1.0 200 OK\r\n\r\nOK", id="http-1.0"),
        pytest.param(answer("400 no", "x" * 5000), id="longer-than-read"),
    ],
)
async def test_a_connection_that_cannot_be_kept_is_not(reply: str) -> None:
    transport = mxdeliv_transport()
    async with peer(WebServer(reply)) as served:
        await several(transport, served.port, 1)
        assert len(transport.pool) == 0


async def _answer_and_leave(stream: PeerStream) -> None:
    await stream.until(b"dots\r\n")
    await stream.send(OK)


async def _answer_and_leave_at_the_next(stream: PeerStream) -> None:
    await stream.until(b"dots\r\n")
    await stream.send(OK)
    await stream.until(b"dots\r\n")


@pytest.mark.parametrize("first", [_answer_and_leave, _answer_and_leave_at_the_next])
async def test_a_kept_connection_that_ended_is_replaced_once(first: Script) -> None:
    """A4.9."""
    second = WebServer()
    transport = mxdeliv_transport()
    async with peer(first, second) as served:
        results = await several(transport, served.port, 2)
        transport.pool.close()
    assert [fates(result) for result in results] == [{"bob": DELIVERED}] * 2
    assert len(second.requests) == 1


async def test_a_new_connection_that_fails_is_not_tried_again() -> None:
    async def fail(stream: PeerStream) -> None:
        await stream.until(b"dots\r\n")

    transport = mxdeliv_transport()
    async with peer(_answer_and_leave_at_the_next, fail) as served:
        _, result = await several(transport, served.port, 2)
    assert result.fault is HopFault.AMBIGUOUS
    assert len(served.connections) == 2


async def test_a_half_answer_on_a_kept_connection_is_not_tried_again() -> None:
    async def half(stream: PeerStream) -> None:
        await _answer_and_leave(stream)
        await stream.until(b"dots\r\n")
        await stream.send("HTTP/1.1 20")

    transport = mxdeliv_transport()
    async with peer(half, WebServer()) as served:
        _, result = await several(transport, served.port, 2)
    assert result.fault is HopFault.AMBIGUOUS
    assert len(served.connections) == 1


async def test_cancellation_leaves_nothing_behind() -> None:
    async def server(stream: PeerStream) -> None:
        await trio.sleep_forever()

    transport = mxdeliv_transport()
    async with peer(server) as served:
        with trio.move_on_after(0.1) as scope:
            await transport.attempt(http_hop(served.port, TlsRule.NONE), letter())
        assert scope.cancelled_caught
    assert len(transport.pool) == 0
