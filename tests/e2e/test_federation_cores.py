"""Delta Chat cores on two relays with names: real clients on both sides of federation."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltachat_rpc_client import Account, EventType
from deltachat_rpc_client.const import MessageState

from tests.e2e.cores import Cores, await_event, await_text, introduce
from tests.e2e.federation import FederatedRelay, Network, await_empty_queue, network, queue_depth


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with network(tmp_path_factory.mktemp("cores")) as net:
        yield net


@pytest.fixture(scope="module")
def a(net: Network) -> FederatedRelay:
    return net.relay("a.test")


@pytest.fixture(scope="module")
def b(net: Network) -> FederatedRelay:
    return net.relay("b.test")


def test_two_users_of_two_relays_join_and_chat(
    a: FederatedRelay, b: FederatedRelay, cores: Cores
) -> None:
    alice, bob = cores.online(a), cores.online(b)
    alice_chat, bob_chat = introduce(alice, bob)
    bob_chat.send_text("hello alice")
    await_text(alice, "hello alice")
    sent = alice_chat.send_text("hello bob")
    got = await_text(bob, "hello bob")
    assert got.get_snapshot().show_padlock
    got.mark_seen()
    await_event(alice, EventType.MSG_READ, lambda event: event.msg_id == sent.id)


def test_a_group_spans_both_relays(a: FederatedRelay, b: FederatedRelay, cores: Cores) -> None:
    alice, *others = (cores.online(relay) for relay in (a, b, a, b))
    group = alice.create_group("both sides")
    code = group.get_qr_code()
    chats = []
    for member in others:
        chats.append(member.secure_join(code))
        alice.wait_for_securejoin_inviter_success()
        member.wait_for_securejoin_joiner_success()
    group.send_text("welcome")
    for member in others:
        await_text(member, "welcome")
    chats[0].send_text("thanks")
    for member in (alice, *others[1:]):
        await_text(member, "thanks")


def test_a_ten_megabyte_file_crosses_unharmed(
    a: FederatedRelay, b: FederatedRelay, cores: Cores, tmp_path: Path
) -> None:
    content = random.Random(10).randbytes(10_000_000)
    file = tmp_path / "ten.bin"
    file.write_bytes(content)
    alice, bob = cores.online(a), cores.online(b)
    alice_chat, _ = introduce(alice, bob)
    alice_chat.send_message(text="the file", file=str(file))
    message = await_text(bob, "the file")
    snapshot = message.get_snapshot()
    while not snapshot.file or Path(snapshot.file).stat().st_size != len(content):
        bob.wait_for_event(EventType.MSGS_CHANGED)
        snapshot = message.get_snapshot()
    received = hashlib.sha256(Path(snapshot.file).read_bytes()).hexdigest()
    assert received == hashlib.sha256(content).hexdigest()


def await_texts(account: Account, texts: set[str]) -> None:
    """Wait until messages with all these texts have arrived, in any order."""
    wanted = set(texts)
    while wanted:
        event = account.wait_for_event()
        if event.kind in (EventType.INCOMING_MSG, EventType.MSGS_CHANGED) and event.msg_id:
            wanted.discard(account.get_message_by_id(event.msg_id).get_snapshot().text)


def test_a_peer_that_was_away_gets_everything(
    a: FederatedRelay, b: FederatedRelay, cores: Cores
) -> None:
    alice, bob = cores.online(a), cores.online(b)
    alice_chat, bob_chat = introduce(alice, bob)
    bob.stop_io()
    b.stop()
    texts = {f"while you were away {at}" for at in range(5)}
    for text in sorted(texts):
        alice_chat.send_text(text).wait_until_delivered()
    assert queue_depth(a) == 5
    b.start()
    bob.start_io()
    await_texts(bob, texts)
    await_empty_queue(a)
    got = [m.get_snapshot().text for m in bob_chat.get_messages()]
    assert sorted(text for text in got if text in texts) == sorted(texts)


def test_a_relay_killed_with_a_full_queue_loses_nothing(
    a: FederatedRelay, b: FederatedRelay, cores: Cores
) -> None:
    alice, bob = cores.online(a), cores.online(b)
    alice_chat, bob_chat = introduce(alice, bob)
    bob.stop_io()
    b.stop()
    texts = {f"message {at:02}" for at in range(20)}
    sent = [alice_chat.send_text(text) for text in sorted(texts)]
    for message in sent:
        message.wait_until_delivered()
    alice.stop_io()
    a.kill()
    a.start()
    assert queue_depth(a) == 20
    b.start()
    bob.start_io()
    alice.start_io()
    await_texts(bob, texts)
    await_empty_queue(a)
    got = [m.get_snapshot().text for m in bob_chat.get_messages()]
    assert len([text for text in got if text in texts]) == 20


def test_a_user_who_is_gone_shows_as_a_failed_message(
    a: FederatedRelay, b: FederatedRelay, cores: Cores
) -> None:
    """B7: the other relay takes the mail and reports; core marks that very message."""
    alice, bob = cores.online(a, force_encryption="0"), cores.online(b)
    alice_chat, _ = introduce(alice, bob)
    bob.stop_io()
    alice.stop_io()
    b.lose_account(bob.get_config("configured_addr"))
    alice.start_io()
    sent = alice_chat.send_text("anybody there?")
    await_event(alice, EventType.MSG_FAILED, lambda event: event.msg_id == sent.id)
    assert sent.get_snapshot().state == MessageState.OUT_FAILED
    assert "User unknown" in alice._rpc.get_message_info(alice.id, sent.id)


def test_a_message_that_waited_too_long_fails_visibly(net: Network, cores: Cores) -> None:
    """A7.1: after `queue.max_age` the sender sees why on that very message."""
    impatient = net.relay("c.test", queue={"max_age": '"10s"'})
    away = net.relay("away.test")
    alice, bob = cores.online(impatient, force_encryption="0"), cores.online(away)
    alice_chat, _ = introduce(alice, bob)
    bob.stop_io()
    away.stop()
    sent = alice_chat.send_text("too late")
    await_event(alice, EventType.MSG_FAILED, lambda event: event.msg_id == sent.id)
    assert "Could not deliver" in alice._rpc.get_message_info(alice.id, sent.id)
