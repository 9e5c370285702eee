from __future__ import annotations

import shutil
import ssl
import time
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from chatmail.adapters.net.certificates import CertificateFacts, CertificatePair
from chatmail.adapters.net.errors import CertificateError
from chatmail.adapters.net.tls import TICKET_KEY_LIFE_S, TlsKeeper, TlsPolicy, TlsPurpose
from tests.unit.adapters.net.rig import (
    TlsClient,
    client_context,
    imaps,
    served,
    tls_client,
)


@pytest.fixture
def live(pair: CertificatePair, tmp_path: Path) -> CertificatePair:
    copy = CertificatePair(tmp_path / "fullchain.pem", tmp_path / "privkey.pem")
    install(pair, copy)
    return copy


def install(source: CertificatePair, target: CertificatePair) -> None:
    for name in ("chain", "key"):
        fresh = getattr(target, name).with_suffix(".new")
        shutil.copy(getattr(source, name), fresh)
        fresh.replace(getattr(target, name))


def test_lowest_versions() -> None:
    policy = TlsPolicy()
    assert [policy.lowest(purpose).name for purpose in TlsPurpose] == [
        "TLSv1_3",
        "TLSv1_3",
        "TLSv1_2",
        "TLSv1_2",
    ]
    assert not policy.allows(TlsPurpose.RELAY, None)


def test_contexts_have_tickets_and_no_renegotiation(keeper: TlsKeeper) -> None:
    for purpose in TlsPurpose:
        context = keeper.context(purpose)
        # Delta Chat core resumes by tickets; without them every reconnect is a full handshake.
        assert context.num_tickets == 1
        assert not context.options & ssl.OP_NO_TICKET
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.options & ssl.OP_CIPHER_SERVER_PREFERENCE
        weak = ("RC4", "DES", "MD5", "NULL", "ADH", "AECDH")
        names = [str(cipher["name"]) for cipher in context.get_ciphers()]
        assert not [name for name in names if any(word in name for word in weak)]


async def exchange(client: TlsClient) -> bytes:
    await client.send_all(b"ping")
    return bytes(await client.receive_some())


async def test_a_session_is_resumed_by_its_ticket(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    async with served(imaps(), keeper) as listening:
        context = client_context(keeper.pair)
        first = tls_client(await listening.connect(), context)
        await exchange(first)  # the ticket comes behind the handshake
        session = first._ssl_object.session
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        again = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1", session=session)
        transport = await listening.connect()
        while True:
            try:
                again.do_handshake()
                break
            except ssl.SSLWantReadError:
                await transport.send_all(outgoing.read())
                incoming.write(await transport.receive_some())
        assert again.session_reused


async def test_a_reload_serves_the_new_certificate_and_keeps_connections(
    live: CertificatePair,
    other_pair: CertificatePair,
    pair: CertificatePair,
    autojump_clock: MockClock,
) -> None:
    keeper = TlsKeeper(live, now_s=time.time)
    async with served(imaps(), keeper) as listening:
        old = tls_client(await listening.connect(), client_context(pair))
        await exchange(old)
        install(other_pair, live)
        assert keeper.changed()
        serial = keeper.facts.serial
        assert keeper.reload().serial != serial
        assert not keeper.changed()
        new = tls_client(await listening.connect(), client_context(other_pair))
        assert await exchange(new) == b"ping"
        assert await exchange(old) == b"ping"


async def test_a_bad_pair_keeps_the_old_one(
    live: CertificatePair,
    other_pair: CertificatePair,
    pair: CertificatePair,
    autojump_clock: MockClock,
) -> None:
    keeper = TlsKeeper(live, now_s=time.time)
    async with served(imaps(), keeper) as listening:
        shutil.copy(other_pair.key, live.key)
        facts = keeper.facts
        assert keeper.changed()
        with pytest.raises(CertificateError, match="does not belong"):
            keeper.reload()
        assert keeper.facts is facts
        assert not keeper.changed()  # reported once
        client = tls_client(await listening.connect(), client_context(pair))
        assert await exchange(client) == b"ping"


async def test_a_missing_file_is_no_change(live: CertificatePair) -> None:
    keeper = TlsKeeper(live, now_s=time.time)
    live.key.unlink()
    assert not keeper.changed()
    with pytest.raises(CertificateError, match="cannot be read"):
        keeper.reload()


def test_another_pair_or_policy_may_be_loaded(
    keeper: TlsKeeper, other_pair: CertificatePair
) -> None:
    low = ssl.TLSVersion.TLSv1_2
    keeper.reload(other_pair, TlsPolicy(submission_min=low))
    assert keeper.pair == other_pair
    assert keeper.context(TlsPurpose.IMAP).minimum_version == low


def test_a_bad_pair_at_the_start_is_an_error(live: CertificatePair) -> None:
    live.chain.write_bytes(b"")
    with pytest.raises(CertificateError, match="empty file"):
        TlsKeeper(live, now_s=time.time)


def test_an_expired_certificate_of_our_own_still_starts(live: CertificatePair) -> None:
    def far_future() -> float:
        return time.time() + 200 * 365 * 86400

    with pytest.raises(CertificateError, match="expired"):
        TlsKeeper(live, now_s=far_future)
    assert TlsKeeper(live, now_s=far_future, allow_expired=True).facts.serial


async def test_the_watch_reloads_what_changed_and_reports_what_failed(
    live: CertificatePair, other_pair: CertificatePair, autojump_clock: MockClock
) -> None:
    keeper = TlsKeeper(live, now_s=time.time)
    reloaded: list[CertificateFacts] = []
    failed: list[CertificateError] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.watch, reloaded.append, failed.append)
        await trio.sleep(100)
        assert not reloaded
        install(other_pair, live)
        await trio.sleep(30)
        assert [facts.serial for facts in reloaded] == [keeper.facts.serial]
        live.chain.write_bytes(b"torn")
        await trio.sleep(300)
        assert len(failed) == 1
        nursery.cancel_scope.cancel()


async def test_ticket_keys_live_for_twelve_hours(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    reloaded: list[CertificateFacts] = []
    failed: list[CertificateError] = []
    context = keeper.context(TlsPurpose.IMAP)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.watch, reloaded.append, failed.append, 600.0)
        await trio.sleep(TICKET_KEY_LIFE_S + 601)
        nursery.cancel_scope.cancel()
    assert len(reloaded) == 1
    assert not failed
    assert keeper.context(TlsPurpose.IMAP) is not context
