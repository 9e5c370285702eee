"""Two and more real Delta Chat cores chat through the relay."""

from __future__ import annotations

import hashlib
import random
import time
from pathlib import Path

from deltachat_rpc_client import EventType
from deltachat_rpc_client.const import MessageState

from tests.e2e.cores import (
    Cores,
    await_delivered,
    await_event,
    await_text,
    await_texts,
    introduce,
    second_device,
)
from tests.e2e.relay import Relay


def test_two_clients_join_by_qr_and_chat_both_ways(relay: Relay, cores: Cores) -> None:
    alice, bob = cores.online(relay), cores.online(relay)
    alice_chat, bob_chat = introduce(alice, bob)
    bob_chat.send_text("hello alice")
    await_text(alice, "hello alice")
    sent = alice_chat.send_text("hello bob")
    got = await_text(bob, "hello bob")
    assert got.get_snapshot().show_padlock
    got.mark_seen()
    await_event(alice, EventType.MSG_READ, lambda event: event.msg_id == sent.id)


def test_starttls_ports_serve_a_client_too(relay: Relay, cores: Cores) -> None:
    alice, bob = cores.online(relay, security="starttls"), cores.online(relay)
    _, bob_chat = introduce(alice, bob)
    bob_chat.send_text("over starttls")
    await_text(alice, "over starttls")


def test_group_of_four_hears_every_member(relay: Relay, cores: Cores) -> None:
    alice, *others = (cores.online(relay) for _ in range(4))
    group = alice.create_group("four")
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


def test_five_megabyte_file_arrives_unharmed(relay: Relay, cores: Cores, tmp_path: Path) -> None:
    content = random.Random(5).randbytes(5_000_000)
    file = tmp_path / "five.bin"
    file.write_bytes(content)
    alice, bob = cores.online(relay), cores.online(relay)
    alice_chat, _ = introduce(alice, bob)
    alice_chat.send_message(text="the file", file=str(file))
    message = await_text(bob, "the file")
    while not (snapshot := message.get_snapshot()).file:
        bob.wait_for_event(EventType.MSGS_CHANGED)
    while Path(snapshot.file).stat().st_size != len(content):
        bob.wait_for_event(EventType.MSGS_CHANGED)
        snapshot = message.get_snapshot()
    received = hashlib.sha256(Path(snapshot.file).read_bytes()).hexdigest()
    assert received == hashlib.sha256(content).hexdigest()


BULK_S = 150.0
"""How long hundreds of messages may take on a slow machine."""


def test_three_hundred_messages_wait_for_an_offline_receiver(relay: Relay, cores: Cores) -> None:
    alice, bob = cores.online(relay), cores.online(relay)
    alice_chat, bob_chat = introduce(alice, bob)
    bob.stop_io()
    wanted = {f"number {index}" for index in range(300)}
    messages = [alice_chat.send_text(text) for text in sorted(wanted)]
    await_delivered(messages, BULK_S)
    started = time.monotonic()
    bob.start_io()
    await_texts(bob_chat, wanted, BULK_S)
    print(f"300 messages fetched in {time.monotonic() - started:.1f} s")


def test_second_device_sees_messages_and_reads_of_the_first(
    relay: Relay, cores: Cores, tmp_path: Path
) -> None:
    alice, credentials = cores.online(relay), relay.credentials()
    bob = cores.online(relay, credentials=credentials)
    alice_chat, bob_chat = introduce(alice, bob)
    second = second_device(cores, bob, relay, credentials[1], tmp_path / "backup")
    bob_chat.send_text("from the first device")
    await_text(second, "from the first device")
    alice_chat.send_text("to both devices")
    on_first = await_text(bob, "to both devices")
    on_second = await_text(second, "to both devices")
    on_first.mark_seen()
    await_event(
        second,
        EventType.MSGS_NOTICED,
        lambda event: event.chat_id == on_second.get_snapshot().chat_id,
    )


def test_edit_reaction_and_deletion_reach_the_other_side(relay: Relay, cores: Cores) -> None:
    alice, bob = cores.online(relay), cores.online(relay)
    alice_chat, _ = introduce(alice, bob)
    sent = alice_chat.send_text("frist")
    got = await_text(bob, "frist")
    alice._rpc.send_edit_request(alice.id, sent.id, "first")
    await_event(
        bob,
        EventType.MSGS_CHANGED,
        lambda _: got.get_snapshot().text == "first",
    )
    got.send_reaction("👍")
    await_event(alice, EventType.REACTIONS_CHANGED, lambda event: event.msg_id == sent.id)
    alice._rpc.delete_messages_for_all(alice.id, [sent.id])
    await_event(bob, EventType.MSG_DELETED, lambda event: event.msg_id == got.id)


def test_conversation_survives_a_kill_in_the_middle(relay: Relay, cores: Cores) -> None:
    alice, bob = cores.online(relay), cores.online(relay)
    alice_chat, bob_chat = introduce(alice, bob)
    before = [alice_chat.send_text(f"before {index}") for index in range(10)]
    before[2].wait_until_delivered()
    relay.kill()
    relay.start()
    cores.deltachat.maybe_network()
    bob_chat.send_text("after")
    wanted = {f"before {index}" for index in range(10)}
    while wanted:
        event = bob.wait_for_event()
        if event.kind in (EventType.INCOMING_MSG, EventType.MSGS_CHANGED) and event.msg_id:
            wanted.discard(bob.get_message_by_id(event.msg_id).get_snapshot().text)
    await_text(alice, "after")
    texts = [m.get_snapshot().text for m in bob.create_chat(alice).get_messages()]
    assert len([text for text in texts if text.startswith("before")]) == 10


def test_cleartext_is_refused_with_the_text_core_explains(relay: Relay, cores: Cores) -> None:
    alice = cores.online(relay, force_encryption="0")
    bob = cores.online(relay)
    contact = alice.create_contact(bob.get_config("configured_addr"), "Bob")
    chat = contact.create_chat()
    sent = chat.send_text("in the clear")
    await_event(alice, EventType.MSG_FAILED, lambda event: event.msg_id == sent.id)
    snapshot = sent.get_snapshot()
    assert snapshot.state == MessageState.OUT_FAILED
    assert "Invalid Unencrypted Mail" in alice._rpc.get_message_info(alice.id, sent.id)

    def explained() -> bool:
        snapshots = [message.get_snapshot() for message in chat.get_messages()]
        return any(s.is_info and "requires end-to-end encryption" in s.text for s in snapshots)

    while not explained():
        alice.wait_for_event()


def test_unknown_recipient_shows_as_a_failed_message(relay: Relay, cores: Cores) -> None:
    alice, bob = cores.online(relay), cores.online(relay)
    alice_chat, _ = introduce(alice, bob)
    bob.stop_io()
    alice.stop_io()
    relay.lose_account(bob.get_config("configured_addr"))
    alice.start_io()
    sent = alice_chat.send_text("anybody there?")
    await_event(alice, EventType.MSG_FAILED, lambda event: event.msg_id == sent.id)
    assert "User unknown" in alice._rpc.get_message_info(alice.id, sent.id)
