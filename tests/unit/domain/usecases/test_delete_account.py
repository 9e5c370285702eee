"""Deletion and ban: what ends at once, and who may have the address afterwards."""

from __future__ import annotations

from chatmail.domain.model.account import Account, NewAccount, day_of
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.policy.retention import DeletionReason
from chatmail.domain.usecases.delete_account import BlockAccount, DeleteAccount
from tests.unit.domain.usecases.accounts import IDENTITY
from tests.unit.fakes.accounts import MemoryAccountStore
from tests.unit.fakes.system import FakeClock, FakeHasher, FakeLiveSessions, FakeLog

ADDRESS = EmailAddress.parse("ann@relay.test")


class World:
    """One account with a session and a remembered password."""

    def __init__(self) -> None:
        self.accounts = MemoryAccountStore()
        self.hasher = FakeHasher()
        self.sessions = FakeLiveSessions()
        self.clock = FakeClock()
        self.log = FakeLog()
        self.ended: list[str] = []
        settings = SettingsSnapshot(identity=IDENTITY)
        self.delete = DeleteAccount(
            accounts=self.accounts,
            hasher=self.hasher,
            sessions=self.sessions,
            clock=self.clock,
            settings=lambda: settings,
            log=self.log,
        )
        self.block = BlockAccount(
            accounts=self.accounts,
            hasher=self.hasher,
            sessions=self.sessions,
            clock=self.clock,
            log=self.log,
        )

    async def account(self) -> Account:
        now_s = int(self.clock.now_s())
        new = NewAccount(
            address=ADDRESS, secret="old hash", created_s=now_s, first_login_day=day_of(now_s)
        )
        account, _ = await self.accounts.create(new)
        self.hasher.remember(account.id, account.secret, b"password")
        for face in ("imap", "smtp"):
            self.sessions.admit(account.id, face, 5, lambda face=face: self.ended.append(face))  # type: ignore[misc]
        return account


async def test_a_deleted_accounts_sessions_end_and_its_password_is_forgotten() -> None:
    world = World()
    account = await world.account()
    assert await world.delete(account, DeletionReason.INACTIVE)
    assert world.ended == ["imap", "smtp"]
    assert world.hasher.known == {}
    assert await world.accounts.get(ADDRESS) is None
    assert world.log.records == [
        ("info", "account_deleted", {"account": ADDRESS, "way": DeletionReason.INACTIVE})
    ]


async def test_the_owner_of_an_inactive_account_may_return_and_nobody_else() -> None:
    world = World()
    await world.delete(await world.account(), DeletionReason.INACTIVE)
    tombstone = await world.accounts.tombstone(ADDRESS, world.clock.now_s())
    assert tombstone is not None
    assert tombstone.secret == "old hash"
    assert tombstone.expires_s == int(world.clock.now_s()) + 90 * 86_400
    assert not await world.accounts.is_barred(ADDRESS)


async def test_an_address_the_operator_took_away_is_barred_for_everybody() -> None:
    world = World()
    await world.delete(await world.account(), DeletionReason.OPERATOR)
    assert await world.accounts.is_barred(ADDRESS)
    assert await world.accounts.tombstone(ADDRESS, world.clock.now_s()) is None


async def test_an_operators_deletion_bars_even_what_is_gone_already() -> None:
    world = World()
    account = await world.account()
    await world.accounts.delete(account.id, None)
    assert not await world.delete(account, DeletionReason.OPERATOR)
    assert await world.accounts.is_barred(ADDRESS)


async def test_an_unused_account_leaves_nothing() -> None:
    world = World()
    await world.delete(await world.account(), DeletionReason.UNUSED)
    assert await world.accounts.tombstone(ADDRESS, world.clock.now_s()) is None
    assert not await world.accounts.is_barred(ADDRESS)


async def test_an_account_in_use_again_is_left_alone() -> None:
    world = World()
    account = await world.account()
    assert not await world.delete(account, DeletionReason.INACTIVE, unless_used_since_s=0)
    assert world.ended == []
    assert world.log.records == []


async def test_a_ban_ends_sessions_and_holds_for_the_address() -> None:
    world = World()
    await world.account()
    assert await world.block(ADDRESS)
    assert world.ended == ["imap", "smtp"]
    assert world.hasher.known == {}
    assert await world.accounts.is_barred(ADDRESS)
    blocked = await world.accounts.get(ADDRESS)
    assert blocked is not None
    assert blocked.is_blocked


async def test_a_ban_can_be_lifted() -> None:
    world = World()
    await world.account()
    await world.block(ADDRESS)
    assert await world.block.lift(ADDRESS)
    account = await world.accounts.get(ADDRESS)
    assert account is not None
    assert not account.is_blocked
    assert not await world.accounts.is_barred(ADDRESS)


async def test_an_address_without_an_account_can_be_banned() -> None:
    world = World()
    assert not await world.block(ADDRESS)
    assert await world.accounts.is_barred(ADDRESS)
    assert not await world.block.lift(ADDRESS)
    assert not await world.accounts.is_barred(ADDRESS)
