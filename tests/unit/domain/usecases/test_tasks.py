"""Maintenance by name: what runs, what it removes, and when it holds back."""

from __future__ import annotations

import attrs
import pytest

from chatmail.domain.model.account import Account, NewAccount
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.settings import DAY_S, LimitSettings, SettingsSnapshot
from chatmail.domain.usecases.delete_account import DeleteAccount
from chatmail.domain.usecases.tasks import (
    ALIASES,
    EXPIRY_TASKS,
    INACTIVE_SUSPENDED,
    RunTask,
    TaskName,
    TaskReport,
)
from tests.unit.domain.usecases.accounts import IDENTITY
from tests.unit.fakes.accounts import MemoryAccountStore
from tests.unit.fakes.intake import MemoryIntake
from tests.unit.fakes.mailstate import MemoryState
from tests.unit.fakes.mailstore import MemoryMailStore
from tests.unit.fakes.retention import MemoryRetention
from tests.unit.fakes.system import FakeClock, FakeHasher, FakeLiveSessions, FakeLog
from tests.unit.fakes.tokens import MemoryDeviceTokens
from tests.unit.ports.world import Stores

SEEN = frozenset({"\\Seen"})


class Vacuum:
    """Counts."""

    def __init__(self) -> None:
        self.runs = 0

    async def vacuum(self) -> int:
        self.runs += 1
        return 5


class World:
    """A relay's store in memory and the tasks over it."""

    def __init__(self) -> None:
        state = MemoryState()
        self.state = state
        self.tokens = MemoryDeviceTokens()
        self.accounts = MemoryAccountStore(state, self.tokens)
        self.retention = MemoryRetention(state, self.accounts, self.tokens)
        self.mail = MemoryMailStore(state)
        self.clock = FakeClock()
        self.sessions = FakeLiveSessions()
        self.log = FakeLog()
        self.vacuum = Vacuum()
        self.settings = SettingsSnapshot(identity=IDENTITY)
        self.run = RunTask(
            retention=self.retention,
            upkeep=self.vacuum,
            delete=DeleteAccount(
                accounts=self.accounts,
                hasher=FakeHasher(),
                sessions=self.sessions,
                clock=self.clock,
                settings=lambda: self.settings,
                log=self.log,
            ),
            clock=self.clock,
            settings=lambda: self.settings,
            log=self.log,
        )

    def set(self, **retention: object) -> None:
        changed = attrs.evolve(self.settings.retention, **retention)
        self.settings = attrs.evolve(self.settings, retention=changed)

    async def account(
        self, name: str, login_age_s: float | None = 0, *, is_imported: bool = False
    ) -> Account:
        now_s = self.clock.now_s()
        new = NewAccount(
            address=EmailAddress.parse(f"{name}@relay.test"),
            secret=f"hash of {name}",
            created_s=int(now_s),
            first_login_day=None if login_age_s is None else int(now_s - login_age_s),
            is_imported=is_imported,
        )
        return (await self.accounts.create(new))[0]

    async def deliver(
        self, account: Account, age_s: float, size: int = 1000, flags: frozenset[str] = frozenset()
    ) -> None:
        stores = Stores.__new__(Stores)
        stores.intake = MemoryIntake(self.state)
        await stores.deliver(
            account.inbox,
            content=b"x" * size,
            date_s=int(self.clock.now_s() - age_s),
            flags=flags,
        )

    async def count(self, account: Account) -> int:
        return sum(info.messages for info in await self.mail.list(account.id))

    async def look(self, account: Account) -> None:
        mailbox = await self.mail.open(account.id, "INBOX")
        assert mailbox is not None
        mailbox.uids()

    async def has(self, account: Account) -> bool:
        return await self.accounts.get(account.address) is not None


@pytest.mark.parametrize("task", TaskName)
def test_every_task_has_its_name(task: TaskName) -> None:
    assert TaskName.parse(task.value) is task
    assert TaskName.parse(f" {task.value.upper()} ") is task


def test_old_names_are_understood() -> None:
    for alias, task in ALIASES.items():
        assert TaskName.parse(alias) is task
    assert TaskName.parse("nonsense") is None


async def test_old_mail_goes_and_young_mail_stays() -> None:
    world = World()
    account = await world.account("ann")
    for _ in range(7):
        await world.deliver(account, 20 * DAY_S + 5)
    await world.deliver(account, 20 * DAY_S - 5)
    would = await world.run(TaskName.PRUNE_OLD_MESSAGES, is_dry_run=True)
    assert would == TaskReport(
        task=TaskName.PRUNE_OLD_MESSAGES, deleted_messages=7, is_dry_run=True
    )
    assert await world.count(account) == 8
    did = await world.run(TaskName.PRUNE_OLD_MESSAGES)
    assert did == TaskReport(task=TaskName.PRUNE_OLD_MESSAGES, deleted_messages=7)
    assert await world.count(account) == 1
    assert (await world.run(TaskName.PRUNE_OLD_MESSAGES)).deleted_messages == 0


async def test_a_change_of_the_settings_holds_from_the_next_run_on() -> None:
    world = World()
    account = await world.account("ann")
    await world.deliver(account, 3 * DAY_S)
    assert (await world.run(TaskName.PRUNE_OLD_MESSAGES)).deleted_messages == 0
    world.set(messages_s=2.0 * DAY_S)
    assert (await world.run(TaskName.PRUNE_OLD_MESSAGES)).deleted_messages == 1


async def test_an_operators_duration_goes_before_the_settings() -> None:
    world = World()
    account = await world.account("ann")
    await world.deliver(account, 100)
    world.set(messages_s=0.0)
    assert (await world.run(TaskName.PRUNE_OLD_MESSAGES)).skipped == "off"
    report = await world.run(TaskName.PRUNE_OLD_MESSAGES, retention_s=50)
    assert report.deleted_messages == 1
    with pytest.raises(ValueError, match="negative"):
        await world.run(TaskName.PRUNE_OLD_MESSAGES, retention_s=-1)


@pytest.mark.parametrize(
    ("task", "setting"),
    [
        (TaskName.PRUNE_OLD_MESSAGES, "messages_s"),
        (TaskName.PRUNE_LARGE_MESSAGES, "large_s"),
        (TaskName.PRUNE_UNUSED_ACCOUNTS, "unused_accounts_s"),
        (TaskName.PRUNE_INACTIVE_ACCOUNTS, "inactive_accounts_s"),
    ],
)
async def test_a_duration_of_zero_switches_a_task_off(task: TaskName, setting: str) -> None:
    world = World()
    world.set(**{setting: 0.0})
    assert (await world.run(task)).skipped == "off"


async def test_large_mail_goes_after_a_week_once_it_was_shown() -> None:
    world = World()
    account = await world.account("ann")
    for size in (199_000, 201_000):
        await world.deliver(account, 8 * DAY_S, size)
    await world.deliver(account, 6 * DAY_S, 201_000)
    run = world.run
    assert (await run(TaskName.PRUNE_LARGE_MESSAGES)).deleted_messages == 0
    await world.look(account)
    await world.deliver(account, 8 * DAY_S, 201_000)
    assert (await run(TaskName.PRUNE_LARGE_MESSAGES)).deleted_messages == 1
    assert await world.count(account) == 3


async def test_seen_mail_goes_only_when_it_is_switched_on() -> None:
    world = World()
    account = await world.account("ann")
    await world.deliver(account, 3700, flags=SEEN)
    await world.deliver(account, 3500, flags=SEEN)
    await world.deliver(account, 3700)
    assert (await world.run(TaskName.PURGE_SEEN)).skipped == "off"
    world.set(seen=True)
    assert (await world.run(TaskName.PURGE_SEEN)).deleted_messages == 1
    assert await world.count(account) == 2


async def test_unread_mail_goes_by_hand_alone() -> None:
    world = World()
    account = await world.account("ann")
    await world.deliver(account, 200, flags=SEEN)
    await world.deliver(account, 200)
    assert (await world.run(TaskName.PRUNE_UNREAD_OLDER)).skipped == "needs_duration"
    report = await world.run(TaskName.PRUNE_UNREAD_OLDER, retention_s=100)
    assert report.deleted_messages == 1


async def test_unused_accounts_go_without_a_trace() -> None:
    world = World()
    unused, used = await world.account("ann", None), await world.account("bob")
    world.clock.advance(DAY_S + 1)
    young = await world.account("carol", None)
    run = world.run
    assert (await run(TaskName.PRUNE_UNUSED_ACCOUNTS, is_dry_run=True)).deleted_accounts == 1
    assert await world.has(unused)
    assert (await run(TaskName.PRUNE_UNUSED_ACCOUNTS)).deleted_accounts == 1
    assert not await world.has(unused)
    assert await world.accounts.tombstone(unused.address, world.clock.now_s()) is None
    assert not await world.accounts.is_barred(unused.address)
    assert await world.has(used)
    assert await world.has(young)


async def test_imported_accounts_have_720_hours_to_be_used() -> None:
    world = World()
    imported = await world.account("ann", None, is_imported=True)
    world.clock.advance(29 * DAY_S)
    assert (await world.run(TaskName.PRUNE_UNUSED_ACCOUNTS)).deleted_accounts == 0
    world.clock.advance(DAY_S + 1)
    assert (await world.run(TaskName.PRUNE_UNUSED_ACCOUNTS)).deleted_accounts == 1
    assert not await world.has(imported)


async def inactive(world: World) -> tuple[Account, Account]:
    """An account nobody used for 91 days and one that was; time is beyond doubt."""
    await world.run.watch_time()
    await world.run(TaskName.PRUNE_INACTIVE_ACCOUNTS)
    return await world.account("ann", 91 * DAY_S), await world.account("bob", 89 * DAY_S)


async def test_inactive_accounts_go_and_their_owner_may_return() -> None:
    world = World()
    old, young = await inactive(world)
    run = world.run
    assert (await run(TaskName.PRUNE_INACTIVE_ACCOUNTS, is_dry_run=True)).deleted_accounts == 1
    assert await world.has(old)
    assert (await run(TaskName.PRUNE_INACTIVE_ACCOUNTS)).deleted_accounts == 1
    assert not await world.has(old)
    assert await world.has(young)
    tombstone = await world.accounts.tombstone(old.address, world.clock.now_s())
    assert tombstone is not None
    assert tombstone.secret == "hash of ann"
    assert world.sessions.closed == [old.id]


async def test_more_accounts_than_a_page_are_all_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatmail.domain.usecases.tasks.PAGE", 2)
    world = World()
    await inactive(world)
    for number in range(5):
        await world.account(f"old{number}", 95 * DAY_S)
    run = world.run
    assert (await run(TaskName.PRUNE_INACTIVE_ACCOUNTS, is_dry_run=True)).deleted_accounts == 6
    assert (await run(TaskName.PRUNE_INACTIVE_ACCOUNTS)).deleted_accounts == 6


async def test_whoever_logs_in_while_the_page_is_worked_off_stays() -> None:
    world = World()
    old, _ = await inactive(world)
    find = world.retention.inactive_accounts

    async def then_log_in(*args: object) -> object:
        found = await find(*args)  # type: ignore[arg-type]
        await world.accounts.touch(old.id, int(world.clock.now_s()))
        return found

    world.retention.inactive_accounts = then_log_in  # type: ignore[assignment,method-assign]
    assert (await world.run(TaskName.PRUNE_INACTIVE_ACCOUNTS)).deleted_accounts == 0
    assert await world.has(old)


@pytest.mark.parametrize("jump_s", [8 * DAY_S, 365 * DAY_S])
async def test_a_jump_of_the_clock_skips_inactive_accounts_once(jump_s: int) -> None:
    world = World()
    account = await world.account("ann")
    await inactive(world)
    world.clock.advance(jump_s)
    would = await world.run(TaskName.PRUNE_INACTIVE_ACCOUNTS, is_dry_run=True)
    did = await world.run(TaskName.PRUNE_INACTIVE_ACCOUNTS)
    assert (would.skipped, did.skipped) == ("clock", "clock")
    assert await world.has(account)
    assert world.log.events()[-1] == "task_skipped"
    assert (await world.run(TaskName.PRUNE_INACTIVE_ACCOUNTS)).skipped is None


async def test_hours_that_pass_one_by_one_are_no_jump() -> None:
    world = World()
    await inactive(world)
    for _ in range(24 * 10):
        world.clock.advance(3600)
        assert not await world.run.watch_time()
    assert (await world.run(TaskName.PRUNE_INACTIVE_ACCOUNTS)).deleted_accounts == 2


async def test_after_an_import_inactive_accounts_stay_for_a_while() -> None:
    world = World()
    old, _ = await inactive(world)
    await world.retention.remember(INACTIVE_SUSPENDED, int(world.clock.now_s()) + 3 * DAY_S)
    assert (await world.run(TaskName.PRUNE_INACTIVE_ACCOUNTS)).skipped == "import"
    assert await world.has(old)
    world.clock.advance(3 * DAY_S)
    assert (await world.run(TaskName.PRUNE_INACTIVE_ACCOUNTS)).deleted_accounts == 2


async def test_quotas_are_trimmed_from_three_quarters_to_seventy_percent() -> None:
    world = World()
    full, other = await world.account("ann"), await world.account("bob")
    for number in range(8):
        await world.deliver(full, 30 * DAY_S - number, 900)
    size = await world.mail.usage(full.id) // 8
    await world.deliver(other, 30 * DAY_S, 900)
    limits = LimitSettings(max_mailbox_bytes=10 * size)
    world.settings = attrs.evolve(world.settings, limits=limits)
    would = await world.run(TaskName.TRIM_QUOTA, is_dry_run=True)
    assert (would.deleted_messages, await world.count(full)) == (1, 8)
    assert (await world.run(TaskName.TRIM_QUOTA)).deleted_messages == 1
    assert await world.mail.usage(full.id) == 7 * size
    assert await world.count(other) == 1
    assert (await world.run(TaskName.TRIM_QUOTA)).deleted_messages == 0
    quota = attrs.evolve(world.settings.quota, trim=False)
    world.settings = attrs.evolve(world.settings, quota=quota)
    assert (await world.run(TaskName.TRIM_QUOTA)).skipped == "off"


async def test_old_push_tokens_are_forgotten() -> None:
    world = World()
    account = await world.account("ann")
    now = int(world.clock.now_s())
    await world.tokens.add(account.id, "old", now - 91 * DAY_S)
    await world.tokens.add(account.id, "new", now - 89 * DAY_S)
    assert (await world.run(TaskName.PRUNE_PUSH_TOKENS, is_dry_run=True)).deleted_tokens == 1
    assert (await world.run(TaskName.PRUNE_PUSH_TOKENS)).deleted_tokens == 1
    assert await world.tokens.of(account.id, now) == ["new"]


async def test_vacuum_gives_space_back_but_not_in_a_dry_run() -> None:
    world = World()
    await world.run(TaskName.VACUUM, is_dry_run=True)
    assert world.vacuum.runs == 0
    await world.run(TaskName.VACUUM)
    assert world.vacuum.runs == 1


async def test_tasks_of_other_parts_are_run_when_they_are_there() -> None:
    world = World()
    assert (await world.run(TaskName.BACKUP)).skipped == "unavailable"
    asked = []

    async def back_up(is_dry_run: bool) -> int:
        asked.append(is_dry_run)
        return 1

    run = attrs.evolve(world.run, others={TaskName.BACKUP: back_up})
    assert (await run(TaskName.BACKUP, is_dry_run=True)).skipped is None
    assert asked == [True]


async def test_reports_are_counts_and_the_log_names_nobody() -> None:
    world = World()
    await inactive(world)
    await world.run(TaskName.PRUNE_INACTIVE_ACCOUNTS)
    fields = dict(world.log.records[-1][2])
    assert world.log.events()[-1] == "task_done"
    assert fields.pop("task") is TaskName.PRUNE_INACTIVE_ACCOUNTS
    assert fields == {"messages": 0, "accounts": 1, "tokens": 0, "seconds": 0.0}


def test_expiry_is_what_runs_by_age() -> None:
    assert TaskName.PRUNE_UNREAD_OLDER not in EXPIRY_TASKS
    assert len(EXPIRY_TASKS) == 5
