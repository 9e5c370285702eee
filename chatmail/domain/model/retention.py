"""What retention removes, as facts about messages and accounts."""

from __future__ import annotations

import attrs

from chatmail.domain.model.account import Account, AccountId


@attrs.frozen(kw_only=True)
class MessageRule:
    """Which messages go: all that meet every condition, in any mailbox.

    `before_s`: their internal date is earlier (unix time). `larger_than_bytes`: RFC822.SIZE is
    strictly larger. `is_seen`: they have \\Seen, or have it not. `was_shown`: their mailbox was
    open in a session after they came.
    """

    before_s: int
    larger_than_bytes: int | None = None
    is_seen: bool | None = None
    was_shown: bool = False


@attrs.frozen(kw_only=True)
class TrimGoal:
    """How far an account is trimmed: oldest messages first, none from `older_than_s` on."""

    octets: int
    messages: int
    older_than_s: int


@attrs.frozen(kw_only=True)
class ExpiredAccount:
    """An account whose time is over; `since_s` is what it was found by (a day, or its creation)."""

    account: Account
    since_s: int


@attrs.frozen
class AccountUsage:
    """What an account holds over all its mailboxes."""

    account: AccountId
    octets: int
    messages: int
