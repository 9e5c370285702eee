"""Password hashing in a bounded pool, behind a cache of what was verified lately.

The cache holds no password: a keyed hash with a random key that never reaches a disk, one entry per
account, bound to the stored form it was verified against, so a changed hash makes it worthless.
"""

from __future__ import annotations

import hmac
import os
from collections import OrderedDict
from typing import Final

from chatmail.adapters.system import password_schemes
from chatmail.adapters.system.threads import ThreadPool
from chatmail.adapters.system.verified import KEY_OCTETS, KeptVerifications
from chatmail.domain.model.account import AccountId
from chatmail.domain.ports.system import Clock, Entropy

REMEMBER_S: Final = 7 * 86400.0
"""Since the last time it was used: whoever came lately comes back after a restart, all at once."""
RENEW_S: Final = 3600.0
MAX_REMEMBERED: Final = 50_000
MAX_WAITING: Final = 1536
"""About 42 s in line at 37 hashes a second: a client waits 60 s for its reply."""


def hashing_pool() -> ThreadPool:
    """Return the pool for hashes: half the processors, so that mail goes on under a storm."""
    return ThreadPool("hash", max(1, (os.cpu_count() or 1) // 2), MAX_WAITING)


class CachingHasher:
    """The password hasher of the running server."""

    def __init__(
        self,
        pool: ThreadPool,
        clock: Clock,
        entropy: Entropy,
        max_remembered: int = MAX_REMEMBERED,
        kept: KeptVerifications | None = None,
    ) -> None:
        """Args:  kept: where the next process finds what this one has verified."""
        self._pool = pool
        self._clock = clock
        self._entropy = entropy
        self._kept = kept
        self._key = entropy.octets(KEY_OCTETS) if kept is None else kept.key
        self._max_remembered = max_remembered
        self._verified: OrderedDict[AccountId, tuple[bytes, float]] = OrderedDict()
        if kept is not None:
            since_boot_s = clock.monotonic_s() - clock.now_s()
            for account, (digest, until_s) in list(kept.found.items())[-max_remembered:]:
                self._verified[account] = (digest, until_s + since_boot_s)

    def __len__(self) -> int:
        return len(self._verified)

    async def hash(self, password: bytes) -> str:
        """Return the target form. Raises:  Overloaded: the line for a thread is full."""
        salt = self._entropy.octets(password_schemes.SALT_OCTETS)
        return await self._pool.run(password_schemes.hash_password, password, salt)

    async def verify(self, account: AccountId | None, stored: str, password: bytes) -> bool:
        """Say whether `password` belongs to `stored`; a success with an account is remembered.

        Raises:  Overloaded: the line for a thread is full.
        """
        async with self._pool.slot():
            # Of many sessions that came at once, the first one has done the work for all.
            if account is not None and self.is_verified(account, stored, password):
                return True
            is_right = await self._pool.run_in_slot(password_schemes.verify, stored, password)
            if is_right and account is not None:
                self.remember(account, stored, password)
            return is_right

    def is_verified(self, account: AccountId, stored: str, password: bytes) -> bool:
        """Say whether this very password was verified lately. Cost:  3 µs."""
        entry = self._verified.get(account)
        if entry is None:
            return False
        digest, until_s = entry
        left_s = until_s - self._clock.monotonic_s()
        if left_s <= 0:
            del self._verified[account]
            return False
        if not hmac.compare_digest(digest, self._digest(stored, password)):
            return False
        if left_s < REMEMBER_S - RENEW_S:
            self._note(account, digest)
        self._verified.move_to_end(account)
        return True

    def remember(self, account: AccountId, stored: str, password: bytes) -> None:
        """Remember a password that belongs to `stored`."""
        self._note(account, self._digest(stored, password))
        self._verified.move_to_end(account)
        if len(self._verified) > self._max_remembered:
            self._verified.popitem(last=False)

    def _note(self, account: AccountId, digest: bytes) -> None:
        now_s = self._clock.monotonic_s()
        self._verified[account] = (digest, now_s + REMEMBER_S)
        if self._kept is None:
            return
        wall_s = self._clock.now_s()
        self._kept.note(account, digest, wall_s + REMEMBER_S)
        if self._kept.is_long:
            after_boot_s = wall_s - now_s
            entries = self._verified.items()
            self._kept.renew({who: (what, s + after_boot_s) for who, (what, s) in entries})

    async def verify_nothing(self, password: bytes) -> None:
        """Take as long as a verification. Raises:  Overloaded: as `verify`."""
        await self._pool.run(password_schemes.burn, password)

    def forget(self, account: AccountId) -> None:
        """Drop what is remembered of this account."""
        self._verified.pop(account, None)
        if self._kept is not None:
            self._kept.note(account, b"", 0.0)

    def _digest(self, stored: str, password: bytes) -> bytes:
        # The stored form has no NUL, so the two parts cannot be shifted into one another.
        return hmac.digest(self._key, stored.encode() + b"\0" + password, "sha256")
