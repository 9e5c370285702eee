"""Exchangers in the operator's hands (spec admin 4.2, federation-web A14)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import attrs

from chatmail.domain.model.address import AddressError, normalise_domain
from chatmail.domain.model.exchanger import Exchanger
from chatmail.domain.ports.exchangers import ExchangerStore
from chatmail.domain.ports.system import Log
from chatmail.domain.usecases.manage_federation import BadWord
from chatmail.domain.usecases.poll_exchanger import Polled, PollExchanger

MIN_INTERVAL_S: Final = 5
MAX_INTERVAL_S: Final = 86400
MAX_EXCHANGERS: Final = 50
MAX_URL: Final = 500
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


@attrs.frozen(kw_only=True)
class ManageExchangers:
    """All that an operator says about exchangers. `ask` None: no server runs here."""

    store: ExchangerStore
    log: Log
    ask: PollExchanger | None = None

    async def all(self) -> Sequence[Exchanger]:
        """Return all exchangers. Raises:  TransientFailure."""
        return await self.store.all()

    async def put(self, name: str, url: str, interval_s: int = 60) -> Exchanger | BadWord:
        """Add an exchanger or change it; it is asked from now on. Raises:  TransientFailure."""
        if not _NAME.match(name):
            return BadWord("a name has letters, digits, '.', '_' and '-', at most 64")
        if not MIN_INTERVAL_S <= interval_s <= MAX_INTERVAL_S:
            return BadWord(f"the interval has to be {MIN_INTERVAL_S} to {MAX_INTERVAL_S} seconds")
        address = _checked(url.strip())
        if isinstance(address, BadWord):
            return address
        known = {one.name for one in await self.store.all()}
        if name not in known and len(known) >= MAX_EXCHANGERS:
            return BadWord(f"there are {MAX_EXCHANGERS} exchangers already")
        exchanger = Exchanger(name=name, url=address, interval_s=interval_s)
        await self.store.put(exchanger)
        self.log.info("exchanger_set")
        return exchanger

    async def remove(self, name: str) -> bool:
        """Remove an exchanger; False: there was none. Raises:  TransientFailure."""
        return await self.store.remove(name)

    async def enable(self, name: str, is_enabled: bool) -> bool:
        """Have it asked, or not; False: there is none. Raises:  TransientFailure."""
        return await self.store.enable(name, is_enabled)

    async def poll(self, name: str) -> Polled | None:
        """Ask it now, enabled or not; None: there is none. Raises:  TransientFailure."""
        found = next((one for one in await self.store.all() if one.name == name), None)
        if found is None or self.ask is None:
            return None
        return await self.ask(found)


def _checked(url: str) -> str | BadWord:
    """Return the URL in one form. Only what TLS verifies is asked: mail comes from there."""
    bad = BadWord("the URL has to be https://host, perhaps with a port and a path")
    if not url.isascii() or not url.isprintable() or " " in url or len(url) > MAX_URL:
        return bad
    try:
        parts = urlsplit(url)
        _ = parts.port
        normalise_domain(parts.hostname or "")
    except (ValueError, AddressError):
        return bad
    if parts.scheme != "https" or parts.username is not None or parts.query or parts.fragment:
        return bad
    return url.rstrip("/")
