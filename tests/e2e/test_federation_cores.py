"""Delta Chat cores on two relays with names: real clients on both sides of federation."""

from __future__ import annotations

import hashlib
import random
import statistics
import time
import zipfile
from pathlib import Path

import pytest
from deltachat_rpc_client import EventType, Message
from deltachat_rpc_client.const import MessageState

from tests.e2e.cores import (
    Cores,
    await_delivered,
    await_event,
    await_text,
    await_texts,
    introduce,
)
from tests.e2e.federation import FederatedRelay, Network, await_empty_queue, queue_depth
from tests.e2e.federation_fixtures import net as net
from tests.e2e.hosts import relay_without_web


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


def test_edits_reactions_and_deletions_cross_relays(
    a: FederatedRelay, b: FederatedRelay, cores: Cores
) -> None:
    alice, bob = cores.online(a), cores.online(b)
    alice_chat, _ = introduce(alice, bob)
    sent = alice_chat.send_text("frist")
    got = await_text(bob, "frist")
    alice._rpc.send_edit_request(alice.id, sent.id, "first")
    await_event(bob, EventType.MSGS_CHANGED, lambda _: got.get_snapshot().text == "first")
    got.send_reaction("👍")
    await_event(alice, EventType.REACTIONS_CHANGED, lambda event: event.msg_id == sent.id)
    assert "👍" in str(sent.get_reactions())
    alice._rpc.delete_messages_for_all(alice.id, [sent.id])
    await_event(bob, EventType.MSG_DELETED, lambda event: event.msg_id == got.id)


def test_an_app_in_a_chat_hears_of_its_other_half(
    a: FederatedRelay, b: FederatedRelay, cores: Cores, tmp_path: Path
) -> None:
    """Webxdc status updates, both ways and more than one at a time."""
    file = tmp_path / "app.xdc"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("index.html", "<html></html>")
        archive.writestr("manifest.toml", 'name = "chess"')
    alice, bob = cores.online(a), cores.online(b)
    alice_chat, bob_chat = introduce(alice, bob)
    bob_chat.accept()
    sent = alice_chat.send_message(text="chess", file=str(file))
    got = await_text(bob, "chess")
    for move in ("e4", "e5", "Nf3"):
        sent.send_webxdc_status_update({"payload": move}, "a move")
    await_event(bob, EventType.WEBXDC_STATUS_UPDATE, lambda _: moves(got) == ["e4", "e5", "Nf3"])
    got.send_webxdc_status_update({"payload": "Nc6"}, "a move")
    everything = ["e4", "e5", "Nf3", "Nc6"]
    await_event(alice, EventType.WEBXDC_STATUS_UPDATE, lambda _: moves(sent) == everything)


def moves(message: Message) -> list[str]:
    return [update["payload"] for update in message.get_webxdc_status_updates()]


def test_a_code_that_was_renewed_is_the_one_that_counts(
    a: FederatedRelay, b: FederatedRelay, cores: Cores
) -> None:
    """Secure-Join over two relays: an old code leads nowhere, a fresh one joins at once."""
    alice, bob = cores.online(a), cores.online(b)
    old = alice.get_qr_code()
    alice._rpc.set_config_from_qr(alice.id, old)  # scanned by its owner: withdrawn
    bob.secure_join(old)
    carol = cores.online(b)
    carol.secure_join(alice.get_qr_code())
    alice.wait_for_securejoin_inviter_success()
    carol.wait_for_securejoin_joiner_success()
    known = [contact.get_snapshot().address for contact in alice.get_contacts()]
    assert carol.get_config("configured_addr") in known
    carol.create_chat(alice).send_text("joined")
    await_text(alice, "joined")


def test_how_long_a_message_takes_between_cores(
    net: Network, a: FederatedRelay, b: FederatedRelay, cores: Cores
) -> None:
    """By turns, so that all have the same weather: within a relay, across, across by SMTP alone.

    Core holds a message back for a second after another one: the pause is for that.
    """
    by_mail = relay_without_web(net, "mail.test")
    alice = cores.online(a)
    others = {"local": cores.online(a), "across": cores.online(b), "by SMTP": cores.online(by_mail)}
    chats = {name: introduce(alice, other)[0] for name, other in others.items()}
    taken_ms: dict[str, list[float]] = {name: [] for name in chats}
    for at in range(6):
        for name, chat in chats.items():
            began = time.monotonic()
            chat.send_text(f"{name} {at}")
            await_text(others[name], f"{name} {at}")
            taken_ms[name].append((time.monotonic() - began) * 1000)
            time.sleep(1.2)
    medians = {name: statistics.median(taken) for name, taken in taken_ms.items()}
    print("core to core, median:", ", ".join(f"{k} {v:.0f} ms" for k, v in medians.items()))
    assert max(medians.values()) < 20_000


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
    await_texts(bob_chat, texts)
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
    await_delivered(sent)
    alice.stop_io()
    a.kill()
    a.start()
    assert queue_depth(a) == 20
    b.start()
    bob.start_io()
    alice.start_io()
    await_texts(bob_chat, texts)
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
