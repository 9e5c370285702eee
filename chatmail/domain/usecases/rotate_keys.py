"""Renews the keys of DKIM: made, published, used, and left in DNS until nobody needs them.

A key is signed with only after the zone's own servers have shown it twice, an hour apart: by then
every one of them has it. Source:  spec federation-web A11.5.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from chatmail.domain.formats.zone_compare import Standing
from chatmail.domain.ports.mail_auth import KeyRing
from chatmail.domain.ports.system import Clock, Log
from chatmail.domain.usecases.check_dns import CheckDns


@attrs.define(kw_only=True)
class RotateKeys:
    """Called once an hour.

    Attributes:
        every_s: how old a key may become; 0: it is never replaced, but one that the operator had
            made is used when DNS shows it.
    """

    keys: KeyRing
    check: CheckDns
    every_s: Callable[[], float]
    clock: Clock
    log: Log
    _shown: frozenset[str] = attrs.field(init=False, default=frozenset())

    async def __call__(self) -> None:
        """Do what is due.

        Raises:  PermanentFailure: a key file cannot be read or written.
        """
        coming = frozenset(one.name for one in self.keys.to_come())
        if coming:
            await self._use_if_shown(coming)
        elif self._is_over():
            self.keys.rotate()
            self.log.warning("dkim_key_made")

    async def _use_if_shown(self, coming: frozenset[str]) -> None:
        report = await self.check.dkim()
        shown = {one.record.name for one in report.records if one.standing is Standing.OK}
        was_shown, self._shown = self._shown, coming & shown
        if coming <= self._shown and coming <= was_shown:
            self.keys.activate()
            self._shown = frozenset()
            self.log.info("dkim_key_in_use")

    def _is_over(self) -> bool:
        every_s, since_s = self.every_s(), self.keys.in_use_since_s()
        return every_s > 0 and since_s is not None and self.clock.now_s() - since_s >= every_s
