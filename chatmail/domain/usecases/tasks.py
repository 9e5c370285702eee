"""Maintenance by name: for the schedule, and for the operator at any time.

Every task is idempotent, reads the settings when it starts, works in bounded steps, and can say
beforehand exactly what it would remove.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import attrs

from chatmail.domain.model.account import AccountId
from chatmail.domain.model.retention import ExpiredAccount, MessageRule
from chatmail.domain.model.settings import RetentionSettings, SettingsSnapshot
from chatmail.domain.policy import quota
from chatmail.domain.policy.retention import (
    TOKEN_LIFE_S,
    DeletionReason,
    inactive_before_s,
    is_time_suspect,
    large_messages,
    old_messages,
    seen_messages,
    unread_messages,
    unused_before_s,
    unused_import_before_s,
)
from chatmail.domain.ports.retention import Retention, Upkeep
from chatmail.domain.ports.system import Clock, Log
from chatmail.domain.usecases.delete_account import DeleteAccount

PAGE: Final = 200
ALIVE: Final = "retention_alive_s"
MUST_SKIP: Final = "retention_must_skip"
INACTIVE_SUSPENDED: Final = "inactive_accounts_suspended_until_s"
"""Under this name an import remembers until when inactive accounts stay (spec policy 9.5)."""


class TaskName(enum.Enum):
    """All tasks by the name the operator uses (spec policy 4, admin 4)."""

    PRUNE_OLD_MESSAGES = "prune-old-messages"
    PRUNE_LARGE_MESSAGES = "prune-large-messages"
    PURGE_SEEN = "purge-seen"
    PRUNE_UNREAD_OLDER = "prune-unread-older"
    PRUNE_UNUSED_ACCOUNTS = "prune-unused-accounts"
    PRUNE_INACTIVE_ACCOUNTS = "prune-inactive-accounts"
    TRIM_QUOTA = "trim-quota"
    PRUNE_PUSH_TOKENS = "prune-push-tokens"
    VACUUM = "vacuum"
    PRUNE_QUEUE = "prune-queue"
    RENEW_CERTIFICATE = "renew-certificate"
    BACKUP = "backup"

    @classmethod
    def parse(cls, text: str) -> TaskName | None:
        """Return the task of a name or alias; None: there is none."""
        word = text.strip().lower()
        found = ALIASES.get(word)
        return found or next((task for task in cls if task.value == word), None)


ALIASES: Final[Mapping[str, TaskName]] = {
    "retention": TaskName.PRUNE_OLD_MESSAGES,
    "prune-messages": TaskName.PRUNE_OLD_MESSAGES,
    "purge-read": TaskName.PURGE_SEEN,
    "auto-purge-seen": TaskName.PURGE_SEEN,
    "purge-unread-older": TaskName.PRUNE_UNREAD_OLDER,
    "prune-unused": TaskName.PRUNE_UNUSED_ACCOUNTS,
    "unused-accounts": TaskName.PRUNE_UNUSED_ACCOUNTS,
    "enforce-quota": TaskName.TRIM_QUOTA,
}

EXPIRY_TASKS: Final = (
    TaskName.PRUNE_OLD_MESSAGES,
    TaskName.PRUNE_LARGE_MESSAGES,
    TaskName.PURGE_SEEN,
    TaskName.PRUNE_UNUSED_ACCOUNTS,
    TaskName.PRUNE_INACTIVE_ACCOUNTS,
)
"""What "retention" means as a whole: the tasks of the command `expire`."""


class SkipReason(enum.StrEnum):
    """Why a task did nothing on purpose."""

    OFF = "off"
    NEEDS_DURATION = "needs_duration"
    CLOCK = "clock"
    IMPORT = "import"
    UNAVAILABLE = "unavailable"


@attrs.frozen(kw_only=True)
class TaskReport:
    """What one run did, or would do. Counts and a duration, nothing that names anybody."""

    task: TaskName
    deleted_messages: int = 0
    deleted_accounts: int = 0
    deleted_tokens: int = 0
    duration_s: float = 0.0
    is_dry_run: bool = False
    skipped: str | None = None


@attrs.frozen
class _Run:
    """The circumstances of one run."""

    settings: SettingsSnapshot
    now_s: float
    retention_s: float | None
    is_dry_run: bool

    @property
    def retention(self) -> RetentionSettings:
        return self.settings.retention


Work = Callable[[_Run], Awaitable[TaskReport]]
Other = Callable[[bool], Awaitable[int]]
"""A task of another part of the program: is it a dry run → how many things it dealt with."""


@attrs.frozen(kw_only=True)
class RunTask:
    """Runs tasks by name. `others`: what stands behind names that are not retention's own."""

    retention: Retention
    upkeep: Upkeep
    delete: DeleteAccount
    clock: Clock
    settings: Callable[[], SettingsSnapshot]
    log: Log
    others: Mapping[TaskName, Other] = attrs.field(factory=dict)

    async def __call__(
        self, name: TaskName, *, is_dry_run: bool = False, retention_s: float | None = None
    ) -> TaskReport:
        """Run one task to its end.

        Args:  retention_s: a duration in place of the configured one, for tasks that have one.
        Returns:  what was removed, or in a dry run exactly what a real one would remove.
        Raises:  ValueError: a negative duration. TransientFailure: the store could not; the next
            run goes on.
        """
        if retention_s is not None and retention_s < 0:
            raise ValueError("a duration cannot be negative")
        started = self.clock.monotonic_s()
        run = _Run(self.settings(), self.clock.now_s(), retention_s, is_dry_run)
        report = attrs.evolve(
            await self._work(name)(run),
            is_dry_run=is_dry_run,
            duration_s=self.clock.monotonic_s() - started,
        )
        self._tell(report)
        return report

    async def watch_time(self) -> bool:
        """Write down that the relay is alive; call it about once an hour.

        Returns:  whether the time is suspect: a downtime of more than a week, or a clock that
            jumped ahead. Then the next removal of inactive accounts is skipped once.
        """
        now_s = self.clock.now_s()
        is_suspect = is_time_suspect(await self.retention.recall(ALIVE), now_s)
        if is_suspect:
            await self.retention.remember(MUST_SKIP, 1)
        await self.retention.remember(ALIVE, int(now_s))
        return is_suspect

    def _work(self, name: TaskName) -> Work:
        own: Mapping[TaskName, Work] = {
            TaskName.PRUNE_OLD_MESSAGES: self._prune_old,
            TaskName.PRUNE_LARGE_MESSAGES: self._prune_large,
            TaskName.PURGE_SEEN: self._purge_seen,
            TaskName.PRUNE_UNREAD_OLDER: self._prune_unread,
            TaskName.PRUNE_UNUSED_ACCOUNTS: self._prune_unused,
            TaskName.PRUNE_INACTIVE_ACCOUNTS: self._prune_inactive,
            TaskName.TRIM_QUOTA: self._trim_quota,
            TaskName.PRUNE_PUSH_TOKENS: self._prune_tokens,
            TaskName.VACUUM: self._vacuum,
        }
        if name in own:
            return own[name]

        async def run_other(run: _Run) -> TaskReport:
            other = self.others.get(name)
            if other is None:
                return TaskReport(task=name, skipped=SkipReason.UNAVAILABLE)
            await other(run.is_dry_run)
            return TaskReport(task=name)

        return run_other

    async def _prune_old(self, run: _Run) -> TaskReport:
        rule = old_messages(run.retention, run.now_s, run.retention_s)
        return await self._prune(TaskName.PRUNE_OLD_MESSAGES, rule, run)

    async def _prune_large(self, run: _Run) -> TaskReport:
        rule = large_messages(run.retention, run.now_s, run.retention_s)
        if rule is not None:
            await self.retention.save_shown()
        return await self._prune(TaskName.PRUNE_LARGE_MESSAGES, rule, run)

    async def _purge_seen(self, run: _Run) -> TaskReport:
        rule = seen_messages(run.retention, run.now_s, run.retention_s)
        return await self._prune(TaskName.PURGE_SEEN, rule, run)

    async def _prune_unread(self, run: _Run) -> TaskReport:
        task = TaskName.PRUNE_UNREAD_OLDER
        rule = unread_messages(run.now_s, run.retention_s)
        if rule is None:
            return TaskReport(task=task, skipped=SkipReason.NEEDS_DURATION)
        return await self._prune(task, rule, run)

    async def _prune(self, task: TaskName, rule: MessageRule | None, run: _Run) -> TaskReport:
        if rule is None:
            return TaskReport(task=task, skipped=SkipReason.OFF)
        step = await self.retention.prune(rule, None, is_dry_run=run.is_dry_run)
        removed = step.removed
        while step.cursor is not None:
            step = await self.retention.prune(rule, step.cursor, is_dry_run=run.is_dry_run)
            removed += step.removed
        return TaskReport(task=task, deleted_messages=removed)

    async def _prune_unused(self, run: _Run) -> TaskReport:
        task = TaskName.PRUNE_UNUSED_ACCOUNTS
        before_s = unused_before_s(run.retention, run.now_s, run.retention_s)
        imported_before_s = unused_import_before_s(run.retention, run.now_s, run.retention_s)
        if before_s is None or imported_before_s is None:
            return TaskReport(task=task, skipped=SkipReason.OFF)
        deleted = 0
        after: tuple[int, AccountId] | None = None
        find = self.retention.unused_accounts
        while page := await find(before_s, imported_before_s, after, PAGE):
            deleted += await self._delete(page, DeletionReason.UNUSED, 0, run)
            after = (page[-1].since_s, page[-1].account.id)
        return TaskReport(task=task, deleted_accounts=deleted)

    async def _prune_inactive(self, run: _Run) -> TaskReport:
        task = TaskName.PRUNE_INACTIVE_ACCOUNTS
        before_s = inactive_before_s(run.retention, run.now_s, run.retention_s)
        if before_s is None:
            return TaskReport(task=task, skipped=SkipReason.OFF)
        skipped = await self._why_not_now(run)
        if skipped is not None:
            return TaskReport(task=task, skipped=skipped)
        deleted = 0
        after: tuple[int, AccountId] | None = None
        while page := await self.retention.inactive_accounts(before_s, after, PAGE):
            deleted += await self._delete(page, DeletionReason.INACTIVE, before_s, run)
            after = (page[-1].since_s, page[-1].account.id)
        return TaskReport(task=task, deleted_accounts=deleted)

    async def _why_not_now(self, run: _Run) -> SkipReason | None:
        """Say why inactive accounts stay this time: their owners may have had no chance to log in.

        One run is skipped after a long silence, so that those who are still there show themselves.
        """
        until_s = await self.retention.recall(INACTIVE_SUSPENDED)
        if until_s is not None and run.now_s < until_s:
            return SkipReason.IMPORT
        await self.watch_time()
        if not await self.retention.recall(MUST_SKIP):
            return None
        if not run.is_dry_run:
            await self.retention.remember(MUST_SKIP, 0)
        return SkipReason.CLOCK

    async def _delete(
        self,
        page: Sequence[ExpiredAccount],
        reason: DeletionReason,
        unless_used_since_s: int,
        run: _Run,
    ) -> int:
        if run.is_dry_run:
            return len(page)
        deleted = 0
        for one in page:
            # Its owner may have come back since the page was read.
            deleted += await self.delete(
                one.account, reason, unless_used_since_s=unless_used_since_s
            )
        return deleted

    async def _trim_quota(self, run: _Run) -> TaskReport:
        task = TaskName.TRIM_QUOTA
        settings, limits = run.settings, run.settings.limits
        if not settings.quota.trim:
            return TaskReport(task=task, skipped=SkipReason.OFF)
        removed = 0
        after: AccountId | None = None
        goal = quota.trim_goal(limits, settings.quota, run.now_s)
        while page := await self.retention.usages(after, PAGE):
            after = page[-1].account
            for usage in page:
                if quota.wants_trim(usage.octets, usage.messages, limits, settings.quota):
                    removed += await self.retention.trim(
                        usage.account, goal, is_dry_run=run.is_dry_run
                    )
        return TaskReport(task=task, deleted_messages=removed)

    async def _prune_tokens(self, run: _Run) -> TaskReport:
        life_s = run.retention_s or TOKEN_LIFE_S
        removed = await self.retention.prune_tokens(
            int(run.now_s - life_s), is_dry_run=run.is_dry_run
        )
        return TaskReport(task=TaskName.PRUNE_PUSH_TOKENS, deleted_tokens=removed)

    async def _vacuum(self, run: _Run) -> TaskReport:
        if not run.is_dry_run:
            await self.upkeep.vacuum()
        return TaskReport(task=TaskName.VACUUM)

    def _tell(self, report: TaskReport) -> None:
        did = report.deleted_messages + report.deleted_accounts + report.deleted_tokens
        if report.is_dry_run:
            return
        if report.skipped is not None:
            if report.skipped in (SkipReason.CLOCK, SkipReason.IMPORT):
                self.log.info("task_skipped", task=report.task, cause=report.skipped)
        elif did:
            self.log.info(
                "task_done",
                task=report.task,
                messages=report.deleted_messages,
                accounts=report.deleted_accounts,
                tokens=report.deleted_tokens,
                seconds=round(report.duration_s, 3),
            )
