"""What the reader looks up for removal by rule: every query is served by an index."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, func, literal_column, or_, select

from chatmail.adapters.storage.accounts import account_of
from chatmail.adapters.storage.flags import SEEN_BIT
from chatmail.adapters.storage.schema import (
    LARGE_BYTES,
    accounts,
    blobs,
    device_tokens,
    mailboxes,
    messages,
    shown,
)
from chatmail.domain.model.account import AccountId
from chatmail.domain.model.mailbox import MailboxId
from chatmail.domain.model.retention import AccountUsage, ExpiredAccount, MessageRule, TrimGoal
from chatmail.domain.ports.retention import MAX_DELETIONS

PAGE_BLOBS: Final = 500
PAGE_COPIES: Final = 1000
"""A page ends where it would remove more copies: one message may have a thousand."""

_BEFORE_ALL_DATES: Final = -(2**62)

Cursor = tuple[int, int]
"""Internal date and blob of the last message looked at."""

Found = tuple[MailboxId, int]
"""Mailbox and UID."""


def page_query(rule: MessageRule) -> Select[Any]:
    """Return the query of the next blobs that may meet a rule, by date."""
    date = blobs.c.internal_date_s
    query = (
        select(blobs.c.id, date, blobs.c.refs)
        .where(date >= bindparam("date"))
        .where(date < bindparam("before"))
        .where(or_(date > bindparam("date"), blobs.c.id > bindparam("blob")))
        .order_by(date, blobs.c.id)
        .limit(PAGE_BLOBS)
    )
    if rule.larger_than_bytes is not None:
        query = query.where(blobs.c.size > rule.larger_than_bytes)
        if rule.larger_than_bytes >= LARGE_BYTES:
            # In the very words of the index on large messages, or it would not be used.
            query = query.where(blobs.c.size > literal_column(str(LARGE_BYTES)))
    return query


def copies_query(rule: MessageRule) -> Select[Any]:
    """Return the query of the copies of some blobs, as far as they meet a rule."""
    query = (
        select(messages.c.mailbox, messages.c.uid)
        .join_from(messages, mailboxes, mailboxes.c.id == messages.c.mailbox)
        .where(messages.c.blob.in_(bindparam("blobs", expanding=True)))
    )
    if rule.is_seen is not None:
        wanted = SEEN_BIT if rule.is_seen else 0
        query = query.where(messages.c.flags.op("&")(SEEN_BIT) == wanted)
    if rule.was_shown:
        query = query.join(shown, shown.c.mailbox == messages.c.mailbox).where(
            messages.c.uid < shown.c.uid_next
        )
    return query


def candidates(
    rule: MessageRule, after: Cursor | None, connection: Connection
) -> tuple[list[Found], Cursor | None]:
    """Return messages that meet a rule, and the cursor behind the last blob looked at."""
    date, blob = after or (_BEFORE_ALL_DATES, 0)
    values = {"date": date, "before": rule.before_s, "blob": blob}
    page = connection.execute(page_query(rule), values).fetchall()
    taken: list[Any] = []
    copies = 0
    for row in page:
        if taken and copies + row.refs > PAGE_COPIES:
            break
        taken.append(row)
        copies += row.refs
    if not taken:
        return [], None
    rows = connection.execute(copies_query(rule), {"blobs": [row.id for row in taken]})
    found = [(MailboxId(mailbox), uid) for mailbox, uid in rows]
    is_last = len(taken) == len(page) < PAGE_BLOBS
    return found, None if is_last else (taken[-1].internal_date_s, taken[-1].id)


def oldest_query() -> Select[Any]:
    """Return the query of an account's messages, oldest first."""
    return (
        select(messages.c.mailbox, messages.c.uid, blobs.c.size)
        .join_from(mailboxes, messages, messages.c.mailbox == mailboxes.c.id)
        .join(blobs, blobs.c.id == messages.c.blob)
        .where(mailboxes.c.account == bindparam("account"))
        .where(blobs.c.internal_date_s < bindparam("before"))
        .order_by(blobs.c.internal_date_s, messages.c.mailbox, messages.c.uid)
    )


def oldest(account: AccountId, goal: TrimGoal, connection: Connection) -> tuple[int, list[Found]]:
    """Return (octets in use, what has to go for the goal, oldest first)."""
    box = mailboxes.c
    totals = select(
        func.coalesce(func.sum(box.octets), 0), func.coalesce(func.sum(box.messages), 0)
    ).where(box.account == account)
    used, held = map(int, connection.execute(totals).one())
    found: list[Found] = []
    octets = used
    if octets <= goal.octets and held <= goal.messages:
        return used, found
    values = {"account": account, "before": goal.older_than_s}
    with connection.execute(oldest_query(), values) as rows:
        for mailbox, uid, size in rows:
            if octets <= goal.octets and held <= goal.messages:
                break
            octets -= size
            held -= 1
            found.append((MailboxId(mailbox), uid))
    return used, found


def unused_query(imported_before_s: int) -> Select[Any]:
    """Return the query of accounts that nobody ever logged in to, by creation."""
    account = accounts.c
    is_over = or_(account.is_imported == 0, account.created_s < imported_before_s)
    return _expired_query(account.created_s).where(account.first_login_day.is_(None)).where(is_over)


def inactive_query() -> Select[Any]:
    """Return the query of accounts by their last login."""
    return _expired_query(accounts.c.last_login_day)


def _expired_query(since: Any) -> Select[Any]:
    return (
        select(accounts, since.label("since_s"))
        .where(since >= bindparam("since"))
        .where(since < bindparam("before"))
        .where(or_(since > bindparam("since"), accounts.c.id > bindparam("account")))
        .order_by(since, accounts.c.id)
        .limit(bindparam("limit"))
    )


def expired(
    query: Select[Any],
    before_s: int,
    after: tuple[int, AccountId] | None,
    limit: int,
    connection: Connection,
) -> list[ExpiredAccount]:
    since, account = after or (_BEFORE_ALL_DATES, 0)
    values = {"since": since, "before": before_s, "account": account, "limit": limit}
    rows = connection.execute(query, values)
    return [ExpiredAccount(account=account_of(row), since_s=row.since_s) for row in rows]


def usages_query() -> Select[Any]:
    """Return the query of what accounts hold."""
    box = mailboxes.c
    return (
        select(box.account, func.sum(box.octets), func.sum(box.messages))
        .where(box.account > bindparam("after"))
        .group_by(box.account)
        .order_by(box.account)
        .limit(bindparam("limit"))
    )


def usages(after: int, limit: int, connection: Connection) -> list[AccountUsage]:
    rows = connection.execute(usages_query(), {"after": after, "limit": limit})
    return [
        AccountUsage(AccountId(account), int(octets), int(held)) for account, octets, held in rows
    ]


def old_tokens_query() -> Select[Any]:
    """Return the query of tokens by age."""
    token = device_tokens.c
    return (
        select(token.account, token.position)
        .where(token.updated_s < bindparam("before"))
        .order_by(token.updated_s)
        .limit(MAX_DELETIONS)
    )


def old_tokens(before_s: int, connection: Connection) -> list[tuple[int, int]]:
    rows = connection.execute(old_tokens_query(), {"before": before_s})
    return [(account, position) for account, position in rows]


def count_old_tokens(before_s: int, connection: Connection) -> int:
    query = select(func.count()).where(device_tokens.c.updated_s < before_s)
    return connection.execute(query).scalar() or 0
