"""Gives up mail that has waited too long, due or not (federation-web.md A7.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn

import attrs
import trio

from chatmail.adapters.jobs.healing import Healing
from chatmail.adapters.jobs.lanes import letters_of
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.ports.outbound import OutboundQueue
from chatmail.domain.ports.system import Clock
from chatmail.domain.usecases.attempt_remote import AttemptRemote

EXPIRY_S: Final = 60.0
EXPIRY_BATCH: Final = 1000
"""As many as a message has recipients, so that one that expires is one report."""
EXPIRY_LEASE_S: Final = 300.0
"""Nobody is asked anything: a step is a few transactions."""


@attrs.frozen(kw_only=True)
class Expiry:
    """Ends entries that are too old, with one report per message."""

    attempt: AttemptRemote
    queue: OutboundQueue
    clock: Clock
    settings: Callable[[], SettingsSnapshot]
    heal: Healing

    async def run(self) -> NoReturn:
        """Look once a minute, or more often where lives are short.

        Cancellation:  safe anywhere; what was found comes back when its lease ends.
        """
        while True:
            await self.heal(self._end_some)
            limits = self.settings().queue
            shortest_s = min(limits.max_age_s, limits.dsn_max_age_s) / 10
            await trio.sleep(min(EXPIRY_S, max(1.0, shortest_s)))

    async def _end_some(self) -> float:
        while True:
            limits, now_s = self.settings().queue, self.clock.now_s()
            entries = await self.queue.claim_expired(
                now_s,
                now_s - limits.max_age_s,
                now_s - limits.dsn_max_age_s,
                EXPIRY_LEASE_S,
                EXPIRY_BATCH,
            )
            for letter in letters_of(self.queue, entries, now_s + EXPIRY_LEASE_S):
                given_up = self.attempt.give_up(letter.entries)
                settled = await self.attempt.settlement(given_up, letter.read, is_told=False)
                await self.queue.settle(settled)
            if len(entries) < EXPIRY_BATCH:
                return 0.0
