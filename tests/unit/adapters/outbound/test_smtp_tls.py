"""TLS on the way out: whom we talk to, when we do without, sessions that are resumed."""

from __future__ import annotations

import ssl

import pytest
import trio

from chatmail.domain.model.federation import HopFault, TlsRule
from tests.unit.adapters.outbound.mail_server import MailServer, attempt
from tests.unit.adapters.outbound.rig import (
    DELIVERED,
    HASTE,
    Authority,
    PeerStream,
    fates,
    letter,
    peer,
    smtp_hop,
    smtp_transport,
)


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
