"""The MTA-STS policy of a peer, as far as it is known (federation-web.md A12.1)."""

from __future__ import annotations

from typing import Final

import attrs

from chatmail.domain.formats.mtasts import (
    MAX_POLICY_OCTETS,
    StsError,
    StsTerms,
    parse_policy,
    policy_id,
)
from chatmail.domain.model.federation import StsPolicy
from chatmail.domain.ports.federation import PeerMemory
from chatmail.domain.ports.remote import DnsFault, Fetched, HttpFetcher, Resolver
from chatmail.domain.ports.system import Clock

REFRESH_S: Final = 86400.0
RECHECK_S: Final = 300.0
"""So long the id in DNS is not asked for again: a resolver keeps absence for 30 s only."""
FETCH_S: Final = 30.0
MAX_KNOWN: Final = 10_000


@attrs.frozen(kw_only=True)
class LookupSts:
    """Keeps policies in `PeerMemory`; a policy that cannot be refreshed holds until it expires."""

    resolver: Resolver
    fetcher: HttpFetcher
    memory: PeerMemory
    clock: Clock
    _asked_s: dict[str, float] = attrs.field(init=False, factory=dict)

    async def __call__(self, domain: str, port: int = 443) -> StsPolicy | None:
        """Return the policy in force for a normalised name; None: there is none.

        Args:  port: where other relays serve HTTPS.
        Never raises for what a peer does.
        """
        now_s = self.clock.now_s()
        known = self.memory.sts(domain)
        if known is not None and known.expires_s <= now_s:
            known = None
        if self._was_asked(domain):
            return known
        records = await self.resolver.txt(f"_mta-sts.{domain}")
        self._remember_asking(domain)
        current = None if isinstance(records, DnsFault) else policy_id(records)
        # No record is no reason to drop a policy: whoever can hide one from us could switch it off.
        if current is None or (known is not None and _is_fresh(known, current, now_s)):
            return known
        return await self._refresh(domain, port, current, known)

    def _was_asked(self, domain: str) -> bool:
        asked_s = self._asked_s.get(domain)
        return asked_s is not None and self.clock.monotonic_s() < asked_s + RECHECK_S

    def _remember_asking(self, domain: str) -> None:
        self._asked_s.pop(domain, None)
        self._asked_s[domain] = self.clock.monotonic_s()
        if len(self._asked_s) > MAX_KNOWN:
            del self._asked_s[next(iter(self._asked_s))]

    async def _refresh(
        self, domain: str, port: int, current: str, known: StsPolicy | None
    ) -> StsPolicy | None:
        terms = await self._fetch(f"mta-sts.{domain}" + (f":{port}" if port != 443 else ""))
        if terms is None:
            return known
        now = int(self.clock.now_s())
        policy = StsPolicy(
            domain=domain,
            id=current,
            mode=terms.mode,
            mx=terms.mx,
            expires_s=now + terms.max_age_s,
            fetched_s=now,
        )
        self.memory.remember_sts(policy)
        return policy

    async def _fetch(self, authority: str) -> StsTerms | None:
        found = await self.fetcher.get(
            f"https://{authority}/.well-known/mta-sts.txt",
            max_octets=MAX_POLICY_OCTETS,
            timeout_s=FETCH_S,
        )
        if not isinstance(found, Fetched):
            return None
        try:
            return parse_policy(found.octets)
        except StsError:
            return None


def _is_fresh(known: StsPolicy, current: str, now_s: float) -> bool:
    return known.id == current and now_s < known.fetched_s + REFRESH_S
