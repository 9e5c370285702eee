"""Finding and removing what is over, in bounded steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import attrs

from chatmail.domain.model.account import AccountId
from chatmail.domain.model.retention import AccountUsage, ExpiredAccount, MessageRule, TrimGoal

MAX_DELETIONS: Final = 500
"""Deletions in one transaction (spec policy 4): deliveries wait for no more than that."""


@attrs.frozen
class PruneStep:
    """What one step removed (would remove), and where the next one goes on; None: it was the last.

    `cursor` is opaque and good for the same rule only.
    """

    removed: int
    cursor: Any | None


class Retention(Protocol):
    """Removal by rule. Messages go as by EXPUNGE: journalled, counted, told to open sessions.

    Each method is a bounded number of transactions of at most MAX_DELETIONS deletions, with
    checkpoints between. All raise TransientFailure: what was not done is found again.
    """

    async def prune(
        self, rule: MessageRule, after: Any | None = None, *, is_dry_run: bool = False
    ) -> PruneStep:
        """Remove the next messages that meet the rule, oldest first; `after` None: from the start.

        Steps with the same rule, until the cursor is None, find each message once. A dry run
        counts and changes nothing.
        Cost:  index reads in proportion to what is old enough, never a scan of the store.
        """

    async def save_shown(self) -> None:
        """Write down which messages were shown in sessions since the last call.

        Until then it is known in memory only; a crash forgets it, which postpones removals.
        """

    async def unused_accounts(
        self,
        created_before_s: int,
        imported_before_s: int,
        after: tuple[int, AccountId] | None,
        limit: int,
    ) -> Sequence[ExpiredAccount]:
        """Return accounts nobody ever logged in to, by (creation, id), behind `after`.

        Args:  imported_before_s: what holds for imported ones besides; never later.
        """

    async def inactive_accounts(
        self, last_login_before_s: int, after: tuple[int, AccountId] | None, limit: int
    ) -> Sequence[ExpiredAccount]:
        """Return accounts whose last login day is earlier, by (that day, id), behind `after`."""

    async def usages(self, after: AccountId | None, limit: int) -> Sequence[AccountUsage]:
        """Return what accounts hold, by id, behind `after`; accounts with mailboxes only."""

    async def trim(self, account: AccountId, goal: TrimGoal, *, is_dry_run: bool = False) -> int:
        """Remove oldest messages until the goal is met; returns how many.

        Of two trims at the same time neither goes below the goal because of the other.
        """

    async def prune_tokens(self, before_s: int, *, is_dry_run: bool = False) -> int:
        """Forget push tokens that were last refreshed before that time; returns how many."""

    async def recall(self, name: str) -> int | None:
        """Return a number that was remembered under this name."""

    async def remember(self, name: str, value: int) -> None:
        """Remember a number, durably."""


class Upkeep(Protocol):
    """Giving space back."""

    async def vacuum(self) -> int:
        """Finish begun deletions, erase what is dead, compact what is mostly dead.

        Returns:  how many dead messages were erased. Safe to run twice at the same time.
        """
