"""An account whose INBOX both stores have open, and the flags these tests set."""

from __future__ import annotations

from tests.unit.adapters.storage.postgresql.conftest import Pair

SEEN = frozenset({"\\Seen"})
DELETED = frozenset({"\\Deleted"})


async def opened_by_both(pair: Pair):
    one, other = pair
    account = await one.account()
    first = await one.mail.open(account.id, "INBOX")
    second = await other.mail.open(account.id, "INBOX")
    return account, first, second
