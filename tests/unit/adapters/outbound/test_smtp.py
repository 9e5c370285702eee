from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio
import trio.testing

from chatmail.adapters.outbound.patience import Patience
from chatmail.adapters.outbound.smtp import SmtpTransport
from chatmail.domain.formats.dot_stuffing import DotStuffer
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.federation import HopFault, HopResult, RecipientFate, TlsRule
from chatmail.domain.ports.remote import DnsFault, Letter
from tests.unit.adapters.outbound.rig import (
    CONTENT,
    HASTE,
    PATIENCE,
    Authority,
    FakeResolver,
    PeerStream,
    Script,
    letter,
    peer,
    smtp_hop,
    smtp_transport,
)

DELIVERED, TEMPORARY, PERMANENT = RecipientFate


class MailServer:
    """A server that keeps what it gets. `replies` overrides by command, in order of use."""

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        capabilities: tuple[str, ...] = ("PIPELINING", "SIZE 20000000", "8BITMIME"),
        **replies: list[str],
    ) -> None:
        self.context = context
        self.capabilities = capabilities
        self.replies = {name.upper(): list(lines) for name, lines in replies.items()}
        self.contents: list[bytes] = []
        self.sessions = 0
        self.resumed: list[bool] = []
        self.says_goodbye_at: int | None = None

    def _reply(self, command: str, otherwise: str) -> str:
        waiting = self.replies.get(command)
        return waiting.pop(0) if waiting else otherwise

    async def __call__(self, stream: PeerStream) -> None:
        self.sessions += 1
        await stream.send(self._reply("GREETING", "220 peer.example ready") + "\r\n")
        while line := await stream.line():
            command = line.partition(" ")[0].upper()
            match command:
                case "EHLO":
                    await self._ehlo(stream)
                case "STARTTLS":
                    reply = self._reply("STARTTLS", "220 go")
                    await stream.send(reply + "\r\n")
                    if reply.startswith("220"):
                        assert self.context is not None
                        await stream.start_tls(self.context)
                        self.resumed.append(bool(stream.stream.session_reused))
                case "DATA":
                    reply = self._reply("DATA", "354 go")
                    await stream.send(reply + "\r\n")
                    if reply.startswith("354"):
                        await self._content(stream)
                case "QUIT":
                    await stream.send("221 bye\r\n")
                    return
                case _:
                    await stream.send(self._reply(command, "250 2.0.0 ok") + "\r\n")

    async def _ehlo(self, stream: PeerStream) -> None:
        names = list(self.capabilities)
        if self.context is not None and not isinstance(stream.stream, trio.SSLStream):
            names.append("STARTTLS")
        lines = ["peer.example", *names]
        last = len(lines) - 1
        for number, text in enumerate(lines):
            await stream.send(f"250{' ' if number == last else '-'}{text}\r\n")

    async def _content(self, stream: PeerStream) -> None:
        first = await stream.until(b"\r\n")
        octets = first if first == b".\r\n" else first + await stream.until(b"\r\n.\r\n")
        self.contents.append(octets)
        await stream.send(self._reply("VERDICT", "250 2.0.0 queued") + "\r\n")


async def attempt(
    server: Script,
    mail: Letter | None = None,
    *,
    tls: TlsRule = TlsRule.NONE,
    authority: Authority | None = None,
    patience: Patience = PATIENCE,
    host: str = "peer.example",
) -> HopResult:
    transport = smtp_transport(authority and authority.file, patience)
    try:
        async with peer(server) as served:
            return await transport.attempt(smtp_hop(served.port, tls, host), mail or letter())
    finally:
        transport.pool.close()


def fates(result: HopResult) -> dict[str, RecipientFate]:
    return {outcome.recipient.local: outcome.fate for outcome in result.outcomes}


# --- delivery ------------------------------------------------------------------------------------


@pytest.mark.parametrize("capabilities", [("PIPELINING", "SIZE 1000", "8BITMIME"), ()])
async def test_a_message_arrives_with_prefix_and_stuffed_dots(
    authority: Authority, capabilities: tuple[str, ...]
) -> None:
    server = MailServer(authority.server("peer.example"), capabilities)
    result = await attempt(
        server,
        letter("bob", "carol", prefix=b"DKIM-Signature: x\r\n"),
        tls=TlsRule.VERIFY,
        authority=authority,
    )
    assert result.fault is None
    assert fates(result) == {"bob": DELIVERED, "carol": DELIVERED}
    assert result.outcomes[0].reply == "250 2.0.0 queued"
    stuffer = DotStuffer()
    wire = stuffer.feed(b"DKIM-Signature: x\r\n" + CONTENT) + stuffer.finish()
    assert server.contents == [wire]


async def test_a_large_message_arrives_whole(authority: Authority) -> None:
    line = b".dots and text " * 4 + b"\r\n"
    content = line * 10_000
    server = MailServer(authority.server("peer.example"))
    result = await attempt(
        server, letter(content=content, prefix=b"X: y\r\n"), tls=TlsRule.VERIFY, authority=authority
    )
    assert fates(result) == {"bob": DELIVERED}
    (wire,) = server.contents
    unstuffed = wire.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.")
    assert unstuffed == b"X: y\r\n" + content


async def test_the_name_we_say_and_the_size() -> None:
    server = MailServer()
    transport = smtp_transport()
    async with peer(server) as served:
        await transport.attempt(smtp_hop(served.port, TlsRule.NONE), letter(prefix=b"X: y\r\n"))
        transport.pool.close()
    assert served.heard[0] == "EHLO relay.example"
    assert served.heard[1].endswith(f" SIZE={len(CONTENT) + 6} BODY=8BITMIME")


async def test_recipients_are_judged_one_by_one() -> None:
    server = MailServer(rcpt=["250 ok", "550 5.1.1 no such user", "450 4.2.0 later"])
    result = await attempt(server, letter("bob", "carol", "dave"))
    assert fates(result) == {"bob": DELIVERED, "carol": PERMANENT, "dave": TEMPORARY}
    assert result.fault is None


async def test_postponed_recipients_get_another_transaction() -> None:
    """A6.4."""
    server = MailServer(rcpt=["250 ok", "452 4.5.3 too many", "452 4.5.3 too many"])
    result = await attempt(server, letter("bob", "carol", "dave"))
    assert fates(result) == {"bob": DELIVERED, "carol": DELIVERED, "dave": DELIVERED}
    assert len(server.contents) == 2
    assert server.sessions == 1


async def test_more_than_a_hundred_recipients_are_several_transactions() -> None:
    """A6.7."""
    server = MailServer()
    result = await attempt(server, letter(*(f"u{number}" for number in range(150))))
    assert len(fates(result)) == 150
    assert set(fates(result).values()) == {DELIVERED}
    assert len(server.contents) == 2


async def test_all_refused_sends_no_content() -> None:
    """A6.4: the server that says 354 all the same gets a lone dot."""
    server = MailServer(rcpt=["550 5.1.1 no"], verdict=["554 5.5.1 no recipients"])
    result = await attempt(server)
    assert fates(result) == {"bob": PERMANENT}
    assert server.contents == [b".\r\n"]


async def test_a_message_above_size_is_not_sent() -> None:
    server = MailServer(capabilities=("SIZE 10",))
    result = await attempt(server)
    assert fates(result) == {"bob": PERMANENT}
    assert result.outcomes[0].reply.startswith("552 5.3.4")
    assert server.contents == []


@pytest.mark.parametrize(
    ("replies", "fault", "reply"),
    [
        pytest.param({"greeting": ["554 5.7.1 no"]}, HopFault.BROKEN, "554 5.7.1", id="banner"),
        pytest.param({"greeting": ["421 4.3.2 busy"]}, HopFault.BUSY, "421 4.3.2", id="busy"),
        pytest.param({"mail": ["550 5.7.1 no"]}, HopFault.BROKEN, "550 5.7.1", id="mail"),
        pytest.param({"rcpt": ["421 4.3.2 bye"]}, HopFault.BUSY, "421 4.3.2", id="rcpt-421"),
    ],
)
async def test_a_refused_session_is_a_fault(
    replies: dict[str, list[str]], fault: HopFault, reply: str
) -> None:
    result = await attempt(MailServer(**replies))
    assert result.fault is fault
    assert result.reply.startswith(reply)


async def test_a_sender_to_come_again_is_a_word_on_the_message() -> None:
    """Greylisting: the peer is there, and other messages may pass."""
    result = await attempt(MailServer(mail=["451 4.7.1 later"]), letter("bob", "carol"))
    assert result.fault is None
    assert fates(result) == {"bob": TEMPORARY, "carol": TEMPORARY}
    assert result.outcomes[0].reply == "451 4.7.1 later"


async def test_a_final_refusal_is_the_peers_word() -> None:
    result = await attempt(MailServer(verdict=["554 5.7.1 No DKIM signature found"]))
    assert result.fault is None
    assert result.outcomes[0].reply == "554 5.7.1 No DKIM signature found"


# --- TLS -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "host"),
    [
        pytest.param(["other.example"], "peer.example", id="wrong-name"),
        pytest.param(["127.0.0.1"], "peer.example", id="address-for-a-name"),
    ],
)
async def test_a_wrong_certificate_is_never_talked_to(
    authority: Authority, names: list[str], host: str
) -> None:
    """A5.2: 4.7.5, no message, no second try in clear."""
    server = MailServer(authority.server(*names))
    result = await attempt(server, tls=TlsRule.VERIFY, authority=authority, host=host)
    assert result.fault is HopFault.TLS
    assert result.reply.startswith("454 4.7.5 Certificate not verified: ")
    assert server.sessions == 1
    assert server.contents == []


@pytest.mark.parametrize("is_told", [True, False])
async def test_the_systems_authorities_hold_beside_those_we_were_told(
    authority: Authority, system_authority: Authority, is_told: bool
) -> None:
    """Contract 2: `federation.ca_file` are extra trust anchors."""
    server = MailServer(system_authority.server("peer.example"))
    result = await attempt(server, tls=TlsRule.VERIFY, authority=authority if is_told else None)
    assert fates(result) == {"bob": DELIVERED}


async def test_an_unknown_authority_is_never_talked_to(authority: Authority) -> None:
    result = await attempt(MailServer(authority.server("peer.example")), tls=TlsRule.VERIFY)
    assert result.fault is HopFault.TLS
    assert result.reply.startswith("454 4.7.5 ")


@pytest.mark.parametrize("rule", [TlsRule.ENCRYPT, TlsRule.OPTIONAL])
async def test_where_it_need_not_be_verified_any_certificate_will_do(
    authority: Authority, rule: TlsRule
) -> None:
    server = MailServer(authority.server("other.example"))
    result = await attempt(server, tls=rule, host="_peer.example")
    assert fates(result) == {"bob": DELIVERED}
    assert server.resumed == [False]


@pytest.mark.parametrize("rule", [TlsRule.VERIFY, TlsRule.ENCRYPT])
async def test_stripped_starttls_is_a_fault(rule: TlsRule) -> None:
    """A6.1: an attacker takes STARTTLS away; nothing is said in clear."""
    server = MailServer()
    result = await attempt(server, tls=rule)
    assert result.fault is HopFault.TLS
    assert result.reply.startswith("454 4.7.4 ")
    assert server.contents == []


async def test_optional_tls_that_fails_is_done_without() -> None:
    async def server(stream: PeerStream) -> None:
        await stream.send("220 x\r\n")
        await stream.line()
        await stream.send("250-x\r\n250 STARTTLS\r\n")
        await stream.line()
        await stream.send("220 go\r\nthis is no TLS\r\n")
        await stream.stream.receive_some()

    plain = MailServer()
    transport = smtp_transport()
    async with peer(server, plain) as served:
        result = await transport.attempt(smtp_hop(served.port, TlsRule.OPTIONAL), letter())
        transport.pool.close()
    assert fates(result) == {"bob": DELIVERED}


async def test_optional_tls_goes_on_in_clear() -> None:
    assert fates(await attempt(MailServer(), tls=TlsRule.OPTIONAL)) == {"bob": DELIVERED}


async def test_plaintext_behind_the_answer_to_starttls_is_not_heard(authority: Authority) -> None:
    """A6.1: what an attacker injects is not taken for the reply to the second EHLO."""

    async def server(stream: PeerStream) -> None:
        await stream.send("220 peer.example\r\n")
        await stream.line()
        await stream.send("250-peer.example\r\n250 STARTTLS\r\n")
        await stream.line()
        await stream.send("220 go\r\n250-peer.example\r\n250 SIZE 1\r\n")
        await stream.start_tls(authority.server("peer.example"))
        assert (await stream.line()).startswith("EHLO")
        await stream.send("250 peer.example\r\n")
        assert await stream.line() == "MAIL FROM:<alice@relay.example>"
        await stream.send("550 5.7.1 heard\r\n")

    result = await attempt(server, tls=TlsRule.VERIFY, authority=authority)
    assert result.reply == "550 5.7.1 heard"


async def test_the_name_is_sent_along_an_address_is_not(authority: Authority) -> None:
    """A5.1, A5.6."""
    context = authority.server("peer.example", "127.0.0.1")
    names: list[str | None] = []
    context.sni_callback = lambda connection, name, _: names.append(name)
    for host in ("peer.example", "_x.example", "127.0.0.1"):
        await attempt(MailServer(context), tls=TlsRule.ENCRYPT, host=host)
    await attempt(MailServer(context), tls=TlsRule.VERIFY, host="127.0.0.1", authority=authority)
    assert names == ["peer.example", "_x.example", None, None]


async def test_old_tls_is_refused(authority: Authority) -> None:
    context = authority.server("peer.example")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    result = await attempt(MailServer(context), tls=TlsRule.ENCRYPT)
    assert result.fault is HopFault.TLS


async def test_a_mute_handshake_times_out() -> None:
    async def server(stream: PeerStream) -> None:
        await stream.send("220 x\r\n")
        await stream.line()
        await stream.send("250-x\r\n250 STARTTLS\r\n")
        await stream.line()
        await stream.send("220 go\r\n")
        await trio.sleep_forever()

    result = await attempt(server, tls=TlsRule.ENCRYPT, patience=HASTE)
    assert (result.fault, result.reply) == (HopFault.TLS, "454 4.7.5 TLS handshake timed out")


async def test_the_next_session_is_resumed(authority: Authority) -> None:
    """A5.6."""
    server = MailServer(authority.server("peer.example"))
    transport = smtp_transport(authority.file)
    async with peer(server) as served:
        for _ in range(2):
            await transport.attempt(smtp_hop(served.port), letter())
            transport.pool.close()
    assert server.resumed == [False, True]


async def test_sessions_to_resume_are_bounded(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatmail.adapters.outbound.connect.MAX_SESSIONS", 2)
    server = MailServer(authority.server("peer.example"))
    transport = smtp_transport()
    async with peer(server) as served:
        for host in ("a.example", "b.example", "c.example", "a.example"):
            await transport.attempt(smtp_hop(served.port, TlsRule.ENCRYPT, host), letter())
            transport.pool.close()
    assert server.resumed == [False] * 4


async def test_a_name_that_cannot_be_sent_is_a_fault(authority: Authority) -> None:
    server = MailServer(authority.server("peer.example"))
    result = await attempt(server, tls=TlsRule.VERIFY, host=".peer.example")
    assert (result.fault, result.reply[:9]) == (HopFault.TLS, "454 4.7.5")


# --- ends ----------------------------------------------------------------------------------------


def breaking(at: str, *, reset: bool = False) -> Script:
    """A server that closes when it has read so far."""

    async def serve(stream: PeerStream) -> None:
        if at == "connect":
            return
        await stream.send("220 peer.example\r\n")
        await stream.line()
        if at == "ehlo":
            return
        await stream.send("250-peer.example\r\n250 PIPELINING\r\n")
        for _ in range(3):
            await stream.line()
        if at == "envelope":
            return
        await stream.send("250 ok\r\n250 ok\r\n354 go\r\n")
        if at == "content":
            await stream.exactly(10)
            return
        await stream.until(b"\r\n.\r\n")

    return serve


@pytest.mark.parametrize("at", ["connect", "ehlo", "envelope"])
async def test_a_loss_before_the_end_is_a_broken_hop(at: str) -> None:
    result = await attempt(breaking(at))
    assert (result.fault, result.reply) == (HopFault.BROKEN, "451 4.4.2 Connection lost")


async def test_a_loss_amid_a_large_content_is_not_ambiguous() -> None:
    result = await attempt(breaking("content"), letter(content=b"x" * 70 + b"\r\n" * 2_000_000))
    assert result.fault is HopFault.BROKEN


async def test_a_loss_after_the_final_dot_is_ambiguous() -> None:
    """A3.4."""
    result = await attempt(breaking("verdict"))
    assert result.fault is HopFault.AMBIGUOUS
    assert result.reply.startswith("451 4.4.2 ")


def mute(*said: str) -> Script:
    """A server that says this line after line, and then nothing."""

    async def serve(stream: PeerStream) -> None:
        for reply in said:
            await stream.send(reply + "\r\n")
            await stream.line()
        await trio.sleep_forever()

    return serve


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        pytest.param([], HopFault.BROKEN, id="greeting"),
        pytest.param(["220 x"], HopFault.BROKEN, id="ehlo"),
        pytest.param(["220 x", "250 x"], HopFault.BROKEN, id="mail"),
        pytest.param(["220 x", "250 x", "250 x"], HopFault.BROKEN, id="rcpt"),
        pytest.param(["220 x", "250 x", "250 x", "250 x"], HopFault.BROKEN, id="data"),
        pytest.param(["220 x", "250 x", "250 x", "250 x", "354 x"], HopFault.AMBIGUOUS, id="dot"),
    ],
)
async def test_a_mute_server_times_out(said: list[str], fault: HopFault) -> None:
    """A6.6."""
    result = await attempt(mute(*said), patience=HASTE)
    assert result.fault is fault
    assert result.reply.startswith("451 4.4.2 ")


async def test_a_trickle_of_octets_is_no_progress() -> None:
    async def server(stream: PeerStream) -> None:
        while True:
            await stream.send("220-x\r\n")
            await trio.sleep(0.02)

    with trio.fail_after(60):
        result = await attempt(server, patience=HASTE)
    assert (result.fault, result.reply) == (HopFault.BROKEN, "451 4.4.2 Timed out")


async def test_a_hop_has_an_end_whatever_the_server_does() -> None:
    async def server(stream: PeerStream) -> None:
        await stream.send("220 x\r\n")
        await stream.line()
        await stream.send("250-x\r\n250 PIPELINING\r\n")
        while True:
            await trio.sleep(0.05)
            await stream.send("250 ok\r\n")

    patience = attrs.evolve(PATIENCE, smtp_base=0.3)
    names = [f"u{number}" for number in range(100)]
    with trio.fail_after(60):
        result = await attempt(server, letter(*names), patience=patience)
    assert (result.fault, result.reply) == (HopFault.BROKEN, "451 4.4.2 Timed out")


async def test_a_server_that_takes_nothing_times_out() -> None:
    async def server(stream: PeerStream) -> None:
        await stream.send("220 x\r\n")
        await stream.line()
        await stream.send("250-x\r\n250 PIPELINING\r\n")
        for _ in range(3):
            await stream.line()
        await stream.send("250 ok\r\n250 ok\r\n354 go\r\n")
        await trio.sleep_forever()

    result = await attempt(server, letter(content=b"x\r\n" * 7_000_000), patience=HASTE)
    assert (result.fault, result.reply) == (HopFault.BROKEN, "451 4.4.2 Timed out")


async def test_a_flood_of_replies_is_cut_off() -> None:
    async def server(stream: PeerStream) -> None:
        await stream.send("220-" + "x" * 4000 + "\r\n")
        while True:
            await stream.send("220-" + "x" * 4000 + "\r\n")

    result = await attempt(server)
    assert (result.fault, result.reply[:9]) == (HopFault.BROKEN, "451 4.5.0")


async def test_a_refused_connection_is_no_connection() -> None:
    async with peer(MailServer()) as served:
        pass
    result = await smtp_transport().attempt(smtp_hop(served.port), letter())
    assert (result.fault, result.reply) == (HopFault.CONNECT, "451 4.4.1 Connection refused")


async def test_a_host_without_address_is_no_connection() -> None:
    transport = smtp_transport(resolver=FakeResolver(peer=DnsFault.NXDOMAIN))
    result = await transport.attempt(smtp_hop(25), letter())
    assert (result.fault, result.reply[:9]) == (HopFault.CONNECT, "451 4.4.4")


async def test_outcomes_before_a_fault_are_kept() -> None:
    server = MailServer(rcpt=["250 ok", "452 4.5.3 many"], mail=["250 ok", "550 5.7.1 no"])
    result = await attempt(server, letter("bob", "carol"))
    assert result.fault is HopFault.BROKEN
    assert fates(result) == {"bob": DELIVERED}


# --- content that cannot be read -----------------------------------------------------------------


@pytest.mark.parametrize("how", ["raises", "short"])
async def test_unreadable_content_never_ends_in_a_dot(how: str) -> None:
    async def read(offset: int, length: int) -> bytes:
        if offset == 0:
            return CONTENT
        if how == "short":
            return b""
        raise TransientFailure("gone")

    server = MailServer()
    mail = attrs.evolve(letter(), size=200_000, read=read)
    transport = smtp_transport()
    async with peer(server) as served:
        with pytest.raises(TransientFailure):
            await transport.attempt(smtp_hop(served.port, TlsRule.NONE), mail)
        await trio.testing.wait_all_tasks_blocked()
    assert server.contents in ([], [b""], [CONTENT[:9]]) or not server.contents[0].endswith(
        b"\r\n.\r\n"
    )
    assert len(transport.pool) == 0


# --- kept connections ----------------------------------------------------------------------------


async def several(transport: SmtpTransport, port: int, count: int) -> list[HopResult]:
    hop = smtp_hop(port, TlsRule.NONE)
    return [await transport.attempt(hop, letter()) for _ in range(count)]


async def test_a_connection_is_kept_for_the_next_message() -> None:
    """A6.7."""
    server = MailServer()
    transport = smtp_transport()
    async with peer(server) as served:
        await several(transport, served.port, 3)
        transport.pool.close()
    assert server.sessions == 1
    assert [line for line in served.heard if line in ("RSET", "QUIT")] == ["RSET", "RSET"]
    assert len(server.contents) == 3


async def test_ten_messages_are_enough_for_a_connection() -> None:
    """A6.7."""
    server = MailServer()
    transport = smtp_transport()
    async with peer(server) as served:
        await several(transport, served.port, 11)
        transport.pool.close()
    assert server.sessions == 2
    assert served.heard.count("QUIT") == 1


async def test_a_connection_is_not_shared_between_rules(authority: Authority) -> None:
    server = MailServer(authority.server("peer.example"))
    transport = smtp_transport(authority.file)
    async with peer(server) as served:
        await transport.attempt(smtp_hop(served.port, TlsRule.NONE), letter())
        result = await transport.attempt(smtp_hop(served.port, TlsRule.VERIFY), letter())
        transport.pool.close()
    assert result.fault is None
    assert server.sessions == 2


def once(then: Callable[[PeerStream], Awaitable[None]]) -> Script:
    """One delivery, and then something else when RSET comes."""

    async def serve(stream: PeerStream) -> None:
        await stream.send("220 x\r\n")
        await stream.line()
        await stream.send("250-x\r\n250 PIPELINING\r\n")
        for _ in range(3):
            await stream.line()
        await stream.send("250 ok\r\n250 ok\r\n354 go\r\n")
        await stream.until(b"\r\n.\r\n")
        await stream.send("250 ok\r\n")
        await then(stream)

    return serve


async def _close(stream: PeerStream) -> None:
    await stream.line()


async def _dismiss(stream: PeerStream) -> None:
    await stream.line()
    await stream.send("421 4.4.2 idle for too long\r\n")


async def _enough(stream: PeerStream) -> None:
    await stream.line()
    await stream.send("250 ok\r\n451 4.7.0 too many messages in this session\r\n")
    await stream.line()


async def _leave(stream: PeerStream) -> None:
    await stream.send("421 4.4.2 idle for too long\r\n")


@pytest.mark.parametrize("then", [_close, _dismiss, _enough, _leave])
async def test_a_kept_connection_that_ended_is_replaced_once(
    then: Callable[[PeerStream], Awaitable[None]],
) -> None:
    second = MailServer()
    transport = smtp_transport()
    async with peer(once(then), second) as served:
        first_result, second_result = await several(transport, served.port, 2)
        transport.pool.close()
    assert fates(first_result) == fates(second_result) == {"bob": DELIVERED}
    assert len(second.contents) == 1


async def test_a_new_connection_that_fails_is_not_tried_again() -> None:
    transport = smtp_transport()
    async with peer(once(_close), breaking("envelope")) as served:
        _, result = await several(transport, served.port, 2)
    assert result.fault is HopFault.BROKEN
    assert len(served.connections) == 2


async def test_cancellation_leaves_nothing_behind() -> None:
    transport = smtp_transport()
    async with peer(mute("220 x", "250 x")) as served:
        with trio.move_on_after(0.1) as scope:
            await transport.attempt(smtp_hop(served.port, TlsRule.NONE), letter())
        assert scope.cancelled_caught
    assert len(transport.pool) == 0
