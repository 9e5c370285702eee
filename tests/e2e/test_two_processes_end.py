"""Two relay processes on one database: either may go, and nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import threading

import pytest

from tests.e2e import wire
from tests.e2e.cores import Cores, await_text, introduce
from tests.e2e.databases import needs_postgres
from tests.e2e.ledger import Ledger, Persistent, sending
from tests.e2e.mailbox import stored
from tests.e2e.pair import Pair, await_end, rows_of
from tests.e2e.raw import Sender, client, newcomer
from tests.e2e.rawsmtp import submitter
from tests.e2e.relay import wait_until
from tests.patience import PATIENCE_S

pytestmark = needs_postgres


# --- the end of one ----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["killed", "restarted"])
def test_either_may_go_while_both_deliver(mortal_pair: Pair, way: str) -> None:
    pair, ledger = mortal_pair, Ledger()
    recipients = [newcomer(relay) for relay in pair]
    clients = {
        relay.folder.name: [
            Persistent(relay, relay.credentials(), recipients, ledger) for _ in range(2)
        ]
        for relay in pair
    }

    def await_progress(of: Ledger, more: int) -> None:
        goal = len(of.acknowledged) + more
        wait_until("more is acknowledged", lambda: len(of.acknowledged) >= goal)

    with sending([one for both in clients.values() for one in both]):
        for victim in [pair.a, pair.b] * 3:
            [survivor] = [relay for relay in pair if relay is not victim]
            assert survivor.process is not None
            pid = survivor.process.pid
            await_progress(ledger, 20)
            victim.kill() if way == "killed" else victim.stop()
            await_progress(ledger, 10)  # the other goes on
            victim.start()
            assert survivor.process.pid == pid
            assert survivor.process.poll() is None
    counts = {ledger.check_all(relay, recipients) for relay in pair}
    assert len(counts) == 1
    print(f"{way}: {len(ledger.acknowledged)} acknowledged, {counts} copies")
    print(dict(ledger.refusals))
    if way == "killed":
        assert not ledger.refusals, "the survivor refused mail because of the other's end"


def test_what_was_acknowledged_just_before_a_kill_is_told_by_the_other(mortal_pair: Pair) -> None:
    victim, survivor = mortal_pair
    account, sender = newcomer(survivor), victim.credentials()
    with client(survivor, account, "INBOX") as idler:
        tag = idler.idle()
        for number in range(1, 6):
            with submitter(victim, sender) as smtp:
                octets = wire.encrypted(sender[0])[1]
                assert smtp.submit(sender[0], [account[0]], octets).code == 250
                victim.kill()
            assert idler.idle_line() == b"* %d EXISTS" % number
            victim.start()
        idler.done(tag)
        assert len(idler.ok("UID FETCH 1:* (BODY.PEEK[])").literals) == 5


def test_a_kill_amid_moves_loses_and_doubles_nothing(mortal_pair: Pair) -> None:
    victim, survivor = mortal_pair
    account, count = newcomer(survivor), 60
    with client(survivor, account, "INBOX") as watcher:
        watcher.ok('CREATE "Target"')
        with Sender(survivor) as sender:
            sent = {sender.send(account[0], size=300) for _ in range(count)}
        mover = client(victim, account, "INBOX")
        moved = threading.Event()

        def move() -> None:
            with contextlib.suppress(OSError, AssertionError):  # it is killed under us
                for uid in range(1, count + 1):
                    mover.ok(f'UID MOVE {uid} "Target"')
                    moved.set()

        thread = threading.Thread(target=move)
        thread.start()
        assert moved.wait(PATIENCE_S)
        victim.kill()
        thread.join(60)
        mover.close()
        await_end(victim)
        here, there = stored(survivor, account), stored(survivor, account, "Target")
        assert len(here) + len(there) == count
        assert {message_id for _, message_id in [*here, *there]} == sent
        watcher.ok("NOOP")
        assert len(rows_of(watcher)) == len(here)
    victim.start()
    assert stored(victim, account) == here
    assert stored(victim, account, "Target") == there


def test_a_conversation_goes_on_when_one_process_is_killed(mortal_pair: Pair, cores: Cores) -> None:
    victim, survivor = mortal_pair
    alice, bob = cores.online(victim), cores.online(survivor)
    alice_chat, bob_chat = introduce(alice, bob)
    sent = [alice_chat.send_text(f"before {index}") for index in range(5)]
    sent[1].wait_until_delivered()
    victim.kill()
    bob_chat.send_text("while you are away")
    victim.start()
    cores.deltachat.maybe_network()
    await_text(alice, "while you are away")
    texts = set()
    wanted = {f"before {index}" for index in range(5)}

    def has_all() -> bool:
        texts.update(
            message.get_snapshot().text for message in bob.create_chat(alice).get_messages()
        )
        return wanted <= texts

    wait_until("all have arrived", has_all, 120)
