"""Rules about mailbox names, room and keywords."""

from __future__ import annotations

import attrs
import pytest

from chatmail.domain.model.account import AccountId
from chatmail.domain.model.mailbox import CopyReceipt
from chatmail.domain.model.settings import IdentitySettings, LimitSettings, SettingsSnapshot
from chatmail.domain.ports.mailstore import FlagOperation, FlagOutcome, MailboxProblem
from chatmail.domain.usecases.change_mailbox import (
    ChangeMailbox,
    has_room_for_keywords,
    is_good_name,
)
from tests.unit.fakes.mailstore import MemoryMailStore

ANN = AccountId(1)
SETTINGS = SettingsSnapshot(
    identity=IdentitySettings(mail_domain="d", local_domains=frozenset("d"), hostname="d"),
    limits=LimitSettings(max_mailbox_bytes=1000),
)


class Clock:
    def now_s(self) -> float:
        return 1.8e9

    def monotonic_s(self) -> float:
        return 0.0


def change() -> ChangeMailbox:
    store = MemoryMailStore()
    store.state.add_account(ANN)
    return ChangeMailbox(store, lambda: SETTINGS, Clock())


@pytest.mark.parametrize(
    "name",
    ["DeltaChat", "a/b/c/d/e/f/g/h", "Entw\xfcrfe", "x" * 200, "a b", ".x", "...", "INBOX/sub"],
)
def test_good_names(name: str) -> None:
    assert is_good_name(name)


@pytest.mark.parametrize(
    "name", ["/", "a/", "..", "a/./b", "a/..", "a\nb", "a\x00", "a%", "*", chr(0xD800)]
)
def test_dangerous_names(name: str) -> None:
    assert not is_good_name(name)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="empty"),
        pytest.param("a//b", id="empty part"),
        pytest.param("/a", id="leading delimiter"),
        pytest.param(".", id="dot"),
        pytest.param("a/../b", id="dots"),
        pytest.param("a\x07", id="control"),
        pytest.param("a\x85", id="C1 control"),
        pytest.param("a*", id="wildcard"),
        pytest.param("a/b/c/d/e/f/g/h/i", id="nine levels"),
        pytest.param("x" * 201, id="201 octets"),
        pytest.param("\xfc" * 101, id="202 octets of UTF-8"),
    ],
)
async def test_bad_names_cannot_be_created(name: str) -> None:
    assert await change().create(ANN, name, None) is MailboxProblem.CANNOT


async def test_inbox_is_neither_created_nor_deleted() -> None:
    verbs = change()
    assert await verbs.create(ANN, "INBOX", None) is MailboxProblem.CANNOT
    assert await verbs.delete(ANN, "INBOX") is MailboxProblem.CANNOT


@pytest.mark.parametrize("spelling", ["INBOX/", "inbox/", "Inbox"])
async def test_no_spelling_of_inbox_becomes_a_mailbox_of_its_own(spelling: str) -> None:
    verbs = change()
    assert await verbs.create(ANN, spelling, None) is MailboxProblem.CANNOT
    await verbs.create(ANN, "a", None)
    assert await verbs.rename(ANN, "a", spelling) is MailboxProblem.ALREADY_EXISTS
    assert [info.name for info in await verbs.store.list(ANN)] == ["INBOX", "a"]


async def test_a_trailing_delimiter_is_dropped() -> None:
    verbs = change()
    assert await verbs.create(ANN, "a/", None) is None
    assert await verbs.create(ANN, "a", None) is MailboxProblem.ALREADY_EXISTS


async def test_at_most_a_hundred_mailboxes() -> None:
    verbs = change()
    for number in range(99):  # and INBOX
        assert await verbs.create(ANN, f"m{number}", None) is None
    assert await verbs.create(ANN, "one more", None) is MailboxProblem.LIMIT
    assert await verbs.rename(ANN, "INBOX", "one more") is MailboxProblem.LIMIT


async def test_a_recreated_mailbox_has_a_larger_uid_validity() -> None:
    verbs = change()
    await verbs.create(ANN, "a", None)
    old = await verbs.store.info(ANN, "a")
    assert await verbs.delete(ANN, "a") is None
    await verbs.create(ANN, "a", None)
    new = await verbs.store.info(ANN, "a")
    assert old is not None
    assert new is not None
    assert new.uid_validity > old.uid_validity


async def test_renames() -> None:
    verbs = change()
    await verbs.create(ANN, "a", None)
    await verbs.create(ANN, "a/b", None)
    assert await verbs.rename(ANN, "missing", "x") is MailboxProblem.NONEXISTENT
    assert await verbs.rename(ANN, "a", "a/b/c") is MailboxProblem.CANNOT
    assert await verbs.rename(ANN, "a", "INBOX") is MailboxProblem.ALREADY_EXISTS
    assert await verbs.rename(ANN, "a", "p/q/r/s/t/u/v/w") is MailboxProblem.CANNOT  # b is ninth
    assert await verbs.rename(ANN, "a", "../x") is MailboxProblem.CANNOT
    assert await verbs.rename(ANN, "a", "z") is None
    assert [info.name for info in await verbs.store.list(ANN)] == ["INBOX", "z", "z/b"]


async def test_subscriptions() -> None:
    verbs = change()
    assert await verbs.subscribe(ANN, "INBOX", True)
    assert not await verbs.subscribe(ANN, "missing", True)


def test_keyword_limits() -> None:
    assert has_room_for_keywords([], ["\\Seen", "k" * 64])
    assert not has_room_for_keywords([], ["k" * 65])
    full = [f"k{number}" for number in range(128)]
    assert has_room_for_keywords(full, ["K5", "\\Seen"])
    assert not has_room_for_keywords(full, ["new"])
    assert has_room_for_keywords(full[1:], ["new"])


async def test_too_many_keywords_change_nothing_but_may_be_removed() -> None:
    verbs = change()
    mailbox = await verbs.store.open(ANN, "INBOX")
    assert mailbox is not None
    bad = frozenset(("k" * 65,))
    args = (mailbox.id, [], FlagOperation.ADD, bad)
    assert await verbs.set_flags(*args, known_keywords=()) is MailboxProblem.LIMIT
    removed = await verbs.set_flags(mailbox.id, [], FlagOperation.REMOVE, bad, known_keywords=())
    assert isinstance(removed, FlagOutcome)


async def test_a_copy_counts_for_the_quota_and_a_move_does_not() -> None:
    from chatmail.domain.model.message import Body
    from chatmail.domain.ports.intake import Delivery, IntakeBatch
    from tests.unit.fakes.intake import MemoryIntake

    verbs = change()
    state = verbs.store.state  # type: ignore[attr-defined]
    inbox = state.named(ANN, "INBOX").id
    body = Body(b"A: b\r\n\r\n", (b"x" * 592,), 592)
    await MemoryIntake(state).commit(
        IntakeBatch(body=body, internal_date_s=0, deliveries=(Delivery(inbox),))
    )
    await verbs.create(ANN, "a", None)
    assert await verbs.copy(inbox, [1], ANN, "a") is MailboxProblem.OVER_QUOTA  # type: ignore[list-item]
    assert await verbs.copy(inbox, [1], ANN, "b") is MailboxProblem.TRY_CREATE  # type: ignore[list-item]
    receipt = await verbs.move(inbox, [1], ANN, "a")  # type: ignore[list-item]
    assert isinstance(receipt, CopyReceipt)
    assert attrs.astuple(receipt)[1:] == ((1,), (1,))
