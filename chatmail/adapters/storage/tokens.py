"""Push tokens: a small append-only set per account, refreshed by use."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.notices import tokens_changed
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job, Touches, Writer
from chatmail.domain.model.account import AccountId

MAX_TOKENS: Final = 30
TOKEN_LIFE_S: Final = 90 * 86400
CLOCK_SLACK_S: Final = 60
REFRESH_S: Final = 3600
"""A client registers at every connection; a refresh within the hour is not worth a sync."""

MAX_CACHED_ACCOUNTS: Final = 20_000

StoredToken = tuple[int, str, int]
"""Position in order of registration, token, when it was last refreshed."""


class TokenCache:
    """Tokens by account, least recently used accounts forgotten first."""

    def __init__(self, max_accounts: int = MAX_CACHED_ACCOUNTS) -> None:
        self._max_accounts = max_accounts
        self._known: OrderedDict[AccountId, list[StoredToken]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, account: AccountId) -> list[StoredToken] | None:
        """Return the stored tokens if they are known."""
        tokens = self._known.get(account)
        if tokens is not None:
            self._known.move_to_end(account)
        return tokens

    def put(self, account: AccountId, tokens: list[StoredToken]) -> None:
        """Remember what is stored."""
        self._known[account] = tokens
        self._known.move_to_end(account)
        if len(self._known) > self._max_accounts:
            self._known.popitem(last=False)

    def forget(self, account: AccountId) -> None:
        """Drop an account."""
        self._known.pop(account, None)

    def clear(self) -> None:
        """Drop everything."""
        self._known.clear()


class _TokenJob(Job):
    __slots__ = ("_account", "_cache", "tokens")

    def __init__(self, account: AccountId, cache: TokenCache) -> None:
        self._account = account
        self._cache = cache
        self.tokens: list[StoredToken] = []

    @property
    def touches(self) -> Touches:
        return Touches(accounts=(self._account,))

    def plan(self, tx: Transaction) -> None:
        self.tokens = [
            (position, token, updated_s)
            for position, token, updated_s in tx.sql.tokens_of.all(self._account)
        ]

    def publish(self, index: StoreIndex) -> None:
        self._cache.put(self._account, self.tokens)


class _LookUp(_TokenJob):
    __slots__ = ()

    is_read = True


class _Add(_TokenJob):
    __slots__ = ("_now_s", "_token")

    def __init__(self, account: AccountId, cache: TokenCache, token: str, now_s: int) -> None:
        super().__init__(account, cache)
        self._token = token
        self._now_s = now_s

    def plan(self, tx: Transaction) -> None:
        super().plan(tx)
        if tx.sql.account.one(self._account) is None:
            return
        known = [one for one in self.tokens if one[1] == self._token]
        if known:
            position = known[0][0]
            tx.sql.save_token.run(self._now_s, self._account, position)
        else:
            position = self.tokens[-1][0] + 1 if self.tokens else 1
            tx.sql.add_token.run(self._account, position, self._token, self._now_s)
        kept = [one for one in self.tokens if one[0] != position]
        kept.append((position, self._token, self._now_s))
        while len(kept) > MAX_TOKENS:
            oldest = min(kept, key=lambda one: (one[2], one[0]))
            tx.sql.remove_token.run(self._account, oldest[0])
            kept.remove(oldest)
        self.tokens = sorted(kept)
        tx.tell(tokens_changed(self._account))


class _Remove(_TokenJob):
    __slots__ = ("_token",)

    def __init__(self, account: AccountId, cache: TokenCache, token: str) -> None:
        super().__init__(account, cache)
        self._token = token

    def plan(self, tx: Transaction) -> None:
        super().plan(tx)
        for position, token, _ in self.tokens:
            if token == self._token:
                tx.sql.remove_token.run(self._account, position)
        self.tokens = [one for one in self.tokens if one[1] != self._token]
        tx.tell(tokens_changed(self._account))


class SqlDeviceTokens:
    """`DeviceTokens` in a table, behind a cache: every delivery asks for them."""

    def __init__(self, writer: Writer, cache: TokenCache) -> None:
        self._writer = writer
        self._cache = cache

    async def add(self, account: AccountId, token: str, now_s: int) -> None:
        """Add or refresh a token; at most 30 stay, the oldest goes."""
        for _, known, updated_s in self._cache.get(account) or ():
            if known == token and 0 <= now_s - updated_s < REFRESH_S:
                return
        await self._writer.do(_Add(account, self._cache, token, now_s))

    async def remove(self, account: AccountId, token: str) -> None:
        """Remove a token."""
        await self._writer.do(_Remove(account, self._cache, token))

    async def of(self, account: AccountId, now_s: int) -> list[str]:
        """Return the live tokens in order of first registration."""
        tokens = self._cache.get(account)
        if tokens is None:
            tokens = (await self._writer.do(_LookUp(account, self._cache))).tokens
        return [
            token
            for _, token, updated_s in tokens
            if now_s - TOKEN_LIFE_S < updated_s <= now_s + CLOCK_SLACK_S
        ]
