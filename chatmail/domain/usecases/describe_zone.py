"""What DNS has to say about this relay, from what it is."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import attrs

from chatmail.domain.formats.mtasts import render_policy
from chatmail.domain.formats.zone import (
    STANDARD_SERVICES,
    RecordType,
    ZoneFacts,
)
from chatmail.domain.formats.zone_compare import tags
from chatmail.domain.model.address import is_literal
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.ports.mail_auth import DkimRecord
from chatmail.domain.ports.remote import DnsFault
from chatmail.domain.ports.system import Clock
from chatmail.domain.ports.zone import Notebook, ZoneReader

STS_POLICY: Final = "sts_policy_digest"
STS_ID: Final = "sts_policy_id"


@attrs.frozen(kw_only=True)
class DescribeZone:
    """Gathers the facts behind the zone.

    `addresses`: public ones, as configured or found out. `has_ca_certificate`: MTA-STS is
    announced only then (spec federation-web C1.1). `services`: names and ports for SRV records.
    """

    settings: Callable[[], SettingsSnapshot]
    addresses: Callable[[], Awaitable[Sequence[str]]]
    keys: Callable[[], Sequence[DkimRecord]]
    has_ca_certificate: Callable[[], bool]
    notebook: Notebook
    zone: ZoneReader
    clock: Clock
    services: Callable[[], Sequence[tuple[str, int]]] = lambda: STANDARD_SERVICES

    async def __call__(self) -> ZoneFacts:
        """Return the facts. Raises:  TransientFailure: the store does not answer."""
        identity = self.settings().identity
        others = sorted(identity.local_domains - {identity.mail_domain})
        facts = ZoneFacts(
            domains=(identity.mail_domain, *others),
            hostname=identity.hostname,
            dkim=tuple((record.name, record.text) for record in self.keys()),
            services=tuple(self.services()),
            reports_to=identity.operator_mailto or "",
        )
        if not facts.named_domains:
            return facts
        facts = attrs.evolve(facts, addresses=tuple(await self.addresses()))
        if self.has_ca_certificate() and not is_literal(identity.mail_domain):
            facts = attrs.evolve(facts, sts_id=await self._sts_id(identity.mail_domain, facts))
        return facts

    async def _sts_id(self, domain: str, facts: ZoneFacts) -> str:
        """Return the policy's id: one number for as long as the policy is the same (C1.3)."""
        digest = zlib.crc32(render_policy([facts.hostname]))
        kept, known = await self.notebook.recall(STS_ID), await self.notebook.recall(STS_POLICY)
        if kept is not None and known == digest:
            return str(kept)
        # What is published from before this program took over stays: peers have it cached.
        id = await self._published(domain) if known is None else None
        if id is None:
            id = int(datetime.fromtimestamp(self.clock.now_s(), UTC).strftime("%Y%m%d%H%M"))
        await self.notebook.remember(STS_ID, id)
        await self.notebook.remember(STS_POLICY, digest)
        return str(id)

    async def _published(self, domain: str) -> int | None:
        found = await self.zone.read(f"_mta-sts.{domain}", RecordType.TXT)
        if isinstance(found, DnsFault):
            return None
        for text in found:
            id = tags(text).get("id", "")
            if tags(text).get("v") == "STSv1" and id.isdecimal() and 0 < len(id) <= 18:
                return int(id) if str(int(id)) == id else None
        return None
