"""Device tokens in a dictionary."""

from __future__ import annotations

import trio

from chatmail.domain.model.account import AccountId

TOKEN_LIFE_S = 90 * 86400
MAX_TOKENS = 30


class MemoryDeviceTokens:
    """`DeviceTokens` in a dictionary, in order of first registration."""

    def __init__(self) -> None:
        self._tokens: dict[AccountId, dict[str, int]] = {}

    async def add(self, account: AccountId, token: str, now_s: int) -> None:
        await trio.lowlevel.checkpoint()
        tokens = self._tokens.setdefault(account, {})
        tokens[token] = now_s
        while len(tokens) > MAX_TOKENS:
            del tokens[min(tokens, key=lambda known: tokens[known])]

    async def remove(self, account: AccountId, token: str) -> None:
        await trio.lowlevel.checkpoint()
        self._tokens.get(account, {}).pop(token, None)

    async def of(self, account: AccountId, now_s: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        return [
            token
            for token, updated_s in self._tokens.get(account, {}).items()
            if now_s - TOKEN_LIFE_S < updated_s <= now_s + 60
        ]
