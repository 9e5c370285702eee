"""APPEND: the same gate as any door, its own room, no edits."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

import attrs
import pytest

from chatmail.domain.model.account import Account
from chatmail.domain.model.errors import MailboxGone
from chatmail.domain.model.mailbox import AppendReceipt, MailboxId
from chatmail.domain.model.message import Door
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.usecases.append import AppendMessages
from tests.builders import make_message
from tests.unit.domain.usecases.relay import DOMAIN, NOW_S, MemoryRelay

ALICE = f"alice@{DOMAIN}"
SEEN = frozenset(("\\Seen",))


@attrs.frozen
class Target:
    id: MailboxId


async def append(
    relay: MemoryRelay, account: Account, octets: bytes, mailbox: MailboxId | None = None
) -> AppendReceipt | Refuse:
    outcome = await append_all(relay, account, [octets], mailbox)
    return outcome if isinstance(outcome, Refuse) else outcome[0]


async def append_all(
    relay: MemoryRelay,
    account: Account,
    messages: Sequence[bytes],
    mailbox: MailboxId | None = None,
) -> tuple[AppendReceipt, ...] | Refuse:
    target = Target(account.inbox if mailbox is None else mailbox)
    async with AsyncExitStack() as stack:
        collectors = [
            (
                SEEN,
                int(NOW_S) - 9 + number,
                await stack.enter_async_context(await relay.collected(octets, Door.APPEND)),
            )
            for number, octets in enumerate(messages)
        ]
        return await AppendMessages(relay.take_in)(account, target, collectors)


async def test_nothing_is_edited() -> None:
    relay = MemoryRelay()
    alice = relay.accounts.add(ALICE)
    octets = make_message(sender="other@elsewhere.test", fields=[("X-Mailer", "kept 1.0")])
    assert isinstance(await append(relay, alice, octets), AppendReceipt)
    assert await relay.inbox(alice) == [octets]
    (batch,) = relay.intake.committed
    assert batch.internal_date_s == int(NOW_S) - 9
    assert batch.deliveries[0].flags == SEEN


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (make_message(sender=ALICE, encrypted=False), RefusalReason.ENCRYPTION_NEEDED),
        (make_message(sender=ALICE, without=["From"]), RefusalReason.INVALID_FROM),
        pytest.param(
            make_message(sender=ALICE) + b"\0\r\n", RefusalReason.BAD_LINE, id="trap-T2-nul"
        ),
        pytest.param(make_message(sender=ALICE) + b"\rx\r\n", RefusalReason.BAD_LINE, id="bare-cr"),
    ],
)
async def test_the_gate_is_that_of_any_door(octets: bytes, reason: RefusalReason) -> None:
    relay = MemoryRelay()
    outcome = await append(relay, relay.accounts.add(ALICE), octets)
    assert isinstance(outcome, Refuse)
    assert outcome.reason is reason
    assert relay.intake.committed == []


async def test_over_quota_is_refused_and_nothing_is_trimmed() -> None:
    relay = MemoryRelay()
    alice = relay.accounts.add(ALICE)
    octets = make_message(sender=ALICE, size=3000)
    relay.limit(max_mailbox_bytes=len(octets) * 2 - 1)
    assert isinstance(await append(relay, alice, octets), AppendReceipt)
    relay.clock.now += 9 * 86400
    outcome = await append(relay, alice, octets)
    assert outcome == Refuse(RefusalReason.OVER_QUOTA)
    assert await relay.inbox(alice) == [octets]


async def test_a_mailbox_that_was_deleted_meanwhile_is_gone() -> None:
    relay = MemoryRelay()
    alice = relay.accounts.add(ALICE)
    with pytest.raises(MailboxGone):
        await append(relay, alice, make_message(sender=ALICE), MailboxId(4711))


# --- several at once (RFC 3502) -------------------------------------------------------------------


def several(count: int, size: int = 2000) -> list[bytes]:
    return [
        make_message(sender=ALICE, size=size, message_id=f"<m{number}@{DOMAIN}>")
        for number in range(count)
    ]


async def test_several_messages_land_in_their_order_in_one_commit() -> None:
    relay = MemoryRelay()
    alice = relay.accounts.add(ALICE)
    messages = several(3)
    receipts = await append_all(relay, alice, messages)
    assert not isinstance(receipts, Refuse)
    assert [receipt.uid for receipt in receipts] == [1, 2, 3]
    assert await relay.inbox(alice) == messages
    assert [batch.internal_date_s for batch in relay.intake.committed] == [
        int(NOW_S) - 9 + number for number in range(3)
    ]


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_one_message_that_the_gate_refuses_refuses_all(place: int) -> None:
    relay = MemoryRelay()
    alice = relay.accounts.add(ALICE)
    messages = several(3)
    messages[place] = make_message(sender=ALICE, encrypted=False)
    outcome = await append_all(relay, alice, messages)
    assert isinstance(outcome, Refuse)
    assert outcome.reason is RefusalReason.ENCRYPTION_NEEDED
    assert await relay.inbox(alice) == []


async def test_the_sum_of_the_messages_has_to_fit() -> None:
    relay = MemoryRelay()
    alice = relay.accounts.add(ALICE)
    messages = several(3)
    relay.limit(max_mailbox_bytes=sum(map(len, messages)) - 1)
    assert await append_all(relay, alice, messages) == Refuse(RefusalReason.OVER_QUOTA)
    assert await relay.inbox(alice) == []
    relay.limit(max_mailbox_bytes=sum(map(len, messages)))
    assert not isinstance(await append_all(relay, alice, messages), Refuse)


async def test_several_into_a_mailbox_that_is_gone() -> None:
    relay = MemoryRelay()
    with pytest.raises(MailboxGone):
        await append_all(relay, relay.accounts.add(ALICE), several(2), MailboxId(4711))
