from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from chatmail.adapters.outbound.transports import Outward
from chatmail.domain.model.federation import HopFault, RecipientFate, TlsRule, TransportKind
from chatmail.domain.ports.remote import HttpFetcher, RemoteTransport
from tests.unit.adapters.outbound.mail_server import MailServer
from tests.unit.adapters.outbound.rig import (
    PATIENCE,
    Authority,
    FakeResolver,
    http_hop,
    letter,
    peer,
    smtp_hop,
)
from tests.unit.adapters.outbound.web_server import WebServer


def outward(*, allows: bool = True, ca_file: Path | None = None) -> Outward:
    return Outward(
        FakeResolver(),
        ca_file=ca_file,
        bind="",
        may_connect=lambda *_: allows,
        hello_name=lambda: "relay.example",
        user_agent="chatmail/1",
        patience=PATIENCE,
    )


def conforms(out: Outward) -> tuple[RemoteTransport, HttpFetcher]:
    """The type checker's proof."""
    return out, out.fetcher


async def test_each_hop_takes_its_transport() -> None:
    out = outward()
    web, mail = WebServer(), MailServer()
    async with peer(web) as http, peer(mail) as smtp, trio.open_nursery() as nursery:
        await nursery.start(out.serve)
        for hop in (http_hop(http.port, TlsRule.NONE), smtp_hop(smtp.port, TlsRule.NONE)):
            result = await out.attempt(hop, letter())
            assert result.hop == hop
            assert [outcome.fate for outcome in result.outcomes] == [RecipientFate.DELIVERED]
        nursery.cancel_scope.cancel()
    assert (len(web.requests), len(mail.contents)) == (1, 1)


@pytest.mark.parametrize("kind", TransportKind)
async def test_forbidden_addresses_are_told(kind: TransportKind) -> None:
    hop = attrs.evolve(http_hop(443), transport=kind)
    result = await outward(allows=False).attempt(hop, letter())
    assert (result.fault, result.outcomes) == (HopFault.FORBIDDEN, ())
    assert result.reply.startswith("450 4.4.4 ")


@pytest.fixture
def patient_clock() -> trio.testing.MockClock:
    """Jumps only when nothing happened for a while: real sockets need a moment."""
    return trio.testing.MockClock(autojump_threshold=0.05)


async def test_idle_connections_are_closed_in_time(
    patient_clock: trio.testing.MockClock,
) -> None:
    """A6.7, A4.9: 30 s and 60 s."""
    out = outward()
    web, mail = WebServer(), MailServer()
    async with peer(web) as http, peer(mail) as smtp, trio.open_nursery() as nursery:
        await nursery.start(out.serve)
        await out.attempt(http_hop(http.port, TlsRule.NONE), letter())
        await out.attempt(smtp_hop(smtp.port, TlsRule.NONE), letter())
        await trio.sleep(36)
        assert (len(out._mxdeliv.pool), len(out._smtp.pool)) == (1, 0)
        await trio.sleep(30)
        assert len(out._mxdeliv.pool) == 0
        nursery.cancel_scope.cancel()


async def test_trust_anchors_can_be_changed_while_it_runs(
    authority: Authority, tmp_path: Path
) -> None:
    out, web = outward(), WebServer()
    hop = http_hop(0, TlsRule.VERIFY, "peer.example")
    async with peer(web, tls=authority.server("peer.example")) as served:
        hop = attrs.evolve(hop, port=served.port)
        assert (await out.attempt(hop, letter())).fault is HopFault.TLS
        with pytest.raises(OSError, match="No such file"):
            out.trust(tmp_path / "none.pem")
        assert (await out.attempt(hop, letter())).fault is HopFault.TLS
        out.trust(authority.file)
        assert (await out.attempt(hop, letter())).fault is None
        out._mxdeliv.pool.close()
        out.trust(None)
        assert (await out.attempt(hop, letter())).fault is HopFault.TLS


def test_trust_anchors_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        outward(ca_file=tmp_path / "absent.pem")
    (tmp_path / "empty.pem").write_text("nothing")
    with pytest.raises(OSError, match=r".*"):
        outward(ca_file=tmp_path / "empty.pem")
