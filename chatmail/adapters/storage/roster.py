"""Accounts and the block list as an operator looks through them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select

from chatmail.adapters.storage.reader import Reader
from chatmail.adapters.storage.schema import accounts, barred, mailboxes
from chatmail.domain.model.account import AccountId
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.ports.accounts import AccountSummary, BarredAddress


class SqlRoster:
    """`AccountRoster` on either database; read by the reader's thread."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def page(self, after: EmailAddress | None, limit: int) -> list[AccountSummary]:
        """Return accounts by address, behind `after`."""
        values = {"after": str(after or ""), "limit": limit}
        query = _summaries().where(accounts.c.address > bindparam("after"))
        return await self._reader.query(
            partial(_read_summaries, query.limit(bindparam("limit")), values)
        )

    async def summary(self, address: EmailAddress) -> AccountSummary | None:
        """Return one account."""
        query = _summaries().where(accounts.c.address == bindparam("address"))
        values: dict[str, object] = {"address": str(address)}
        found = await self._reader.query(partial(_read_summaries, query, values))
        return found[0] if found else None

    async def barred_page(self, after: EmailAddress | None, limit: int) -> list[BarredAddress]:
        """Return the block list by address, behind `after`."""
        query = select(barred).where(barred.c.address > str(after or ""))
        query = query.order_by(barred.c.address).limit(limit)
        return await self._reader.query(partial(_read_barred, query))

    async def barred_entry(self, address: EmailAddress) -> BarredAddress | None:
        """Return one line of the block list."""
        query = select(barred).where(barred.c.address == str(address))
        found = await self._reader.query(partial(_read_barred, query))
        return found[0] if found else None

    async def count_barred(self) -> int:
        """Return how long the block list is."""
        return await self._reader.query(_count_barred)


def _summaries() -> Select[Any]:
    account, box = accounts.c, mailboxes.c

    def held(column: Any) -> Any:
        total = select(func.coalesce(func.sum(column), 0)).where(box.account == account.id)
        return total.scalar_subquery()

    return select(
        account.id,
        account.address,
        account.is_blocked,
        account.created_s,
        account.first_login_day,
        account.last_login_day,
        held(box.octets).label("octets"),
        held(box.messages).label("messages"),
    ).order_by(account.address)


def _read_summaries(
    query: Select[Any], values: dict[str, object], connection: Connection
) -> list[AccountSummary]:
    return [
        AccountSummary(
            id=AccountId(row.id),
            address=EmailAddress.parse(row.address),
            is_blocked=bool(row.is_blocked),
            used_bytes=int(row.octets),
            used_messages=int(row.messages),
            created_s=row.created_s,
            first_login_s=row.first_login_day,
            last_login_s=row.last_login_day,
        )
        for row in connection.execute(query, values)
    ]


def _read_barred(query: Select[Any], connection: Connection) -> list[BarredAddress]:
    return list(_barred(connection.execute(query)))


def _barred(rows: Iterable[Any]) -> Iterable[BarredAddress]:
    for row in rows:
        address = EmailAddress.parse(row.address)
        yield BarredAddress(address=address, reason=row.reason, barred_s=row.day_s)


def _count_barred(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(barred)).scalar() or 0
