"""After an older copy of the database was put back: tells clients that UIDs may mean other mail.

The copy does not know which UIDs were given out after it was made, so new mail would get them
again, and a client that has seen the old ones never fetches the new. A larger UIDVALIDITY makes it
forget them. It is the last resort: a client then takes the present UIDNEXT for its start, so what
it has not fetched yet it never will.
Source:  spec mail 5.3, T5; RFC 9051 §2.3.1.1.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, select, update

from chatmail.adapters.storage import recovery
from chatmail.adapters.storage.database import FILE_NAME, SqliteDatabase, translated
from chatmail.adapters.storage.departure import LAST_DELETED_VALIDITY
from chatmail.adapters.storage.errors import StateDirectoryInUse
from chatmail.adapters.storage.schema import accounts, mailboxes, store_facts

SILENT_S: Final = 60
"""A process on the same PostgreSQL database that said nothing for so long is gone."""

_ALIVE: Final = "SELECT count(*) FROM writers WHERE seen_s > extract(epoch from now()) - %s"


def renew_uid_validity(state_dir: Path, url: str, now_s: int) -> int:
    """Give every mailbox a UIDVALIDITY that none of its account ever had.

    Args:  state_dir: of a stopped server; this process holds it meanwhile. url: `sqlite`, or
        `postgresql://…` that no process uses.
    Returns:  how many mailboxes there are.
    Raises:  StateDirectoryInUse; StorageFault, UnsupportedDatabase: nothing was changed.
    """
    with recovery.locked(state_dir):
        if url == "sqlite":
            return _on(SqliteDatabase(state_dir / FILE_NAME), now_s, lambda _: False)
        from chatmail.adapters.storage.postgresql.database import PostgresDatabase

        return _on(PostgresDatabase(url), now_s, _is_used)


def _on(database: Any, now_s: int, is_used: Callable[[Connection], bool]) -> int:
    try:
        database.open()
        with translated():
            if is_used(database.reader):
                raise StateDirectoryInUse(
                    f"a chatmail process used this database less than {SILENT_S} s ago"
                )
            database.begin()
            try:
                count = _renew(database.writer, now_s)
            except BaseException:
                database.rollback()
                raise
        database.commit()
        return count
    finally:
        database.close()


def _is_used(connection: Connection) -> bool:
    return bool(connection.exec_driver_sql(_ALIVE, (SILENT_S,)).scalar())


def _renew(connection: Connection, now_s: int) -> int:
    highest = [
        connection.execute(select(func.max(column))).scalar() or 0
        for column in (accounts.c.last_uid_validity, mailboxes.c.uid_validity)
    ]
    fact = store_facts.c.name == LAST_DELETED_VALIDITY
    deleted = connection.execute(select(store_facts.c.value).where(fact)).scalar() or 0
    floor = max(now_s, deleted + 1, *(one + 1 for one in highest))
    # Two of one account must differ: a mailbox may be renamed to the name of another one.
    places: dict[int, int] = {}
    rows = []
    for mailbox, account in connection.execute(select(mailboxes.c.id, mailboxes.c.account)):
        places[account] = places.get(account, -1) + 1
        rows.append({"of": mailbox, "validity": floor + places[account]})
    if rows:
        connection.execute(
            update(mailboxes)
            .where(mailboxes.c.id == bindparam("of"))
            .values(uid_validity=bindparam("validity")),
            rows,
        )
        connection.execute(
            update(accounts)
            .where(accounts.c.id == bindparam("of"))
            .values(last_uid_validity=bindparam("validity")),
            [{"of": account, "validity": floor + last} for account, last in places.items()],
        )
    return len(rows)
