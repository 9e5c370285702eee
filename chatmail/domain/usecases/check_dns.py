"""Does DNS say what it has to, and does the relay answer where DNS leads?

Source:  spec federation-web C2.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import attrs

from chatmail.domain.formats.spf import referred
from chatmail.domain.formats.zone import RecordType, Role, ZoneFacts, ZoneRecord, needed_records
from chatmail.domain.formats.zone_compare import (
    Standing,
    compare,
    family,
    is_address_set_ours,
    same_address,
)
from chatmail.domain.ports.remote import DnsFault
from chatmail.domain.ports.zone import LiveProbes, ProbeResult, ZoneReader

MAX_POLICIES: Final = 10  # RFC 7208 §4.6.4
OUR_CA: Final = "letsencrypt.org"


@attrs.frozen(kw_only=True)
class CheckedRecord:
    """A needed record and what is there. `record.data` empty: nothing should be there."""

    record: ZoneRecord
    standing: Standing
    found: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class ZoneReport:
    """What was found. `is_needed` False: a relay without a name needs no DNS."""

    records: tuple[CheckedRecord, ...]
    probes: tuple[ProbeResult, ...] = ()
    is_needed: bool = True

    @property
    def has_required(self) -> bool:
        """Whether every required record is there and right."""
        return all(one.standing is Standing.OK for one in self.records if one.record.is_required)

    @property
    def is_perfect(self) -> bool:
        """Whether nothing at all is to be said."""
        return all(one.standing is Standing.OK for one in self.records) and all(
            probe.is_ok is not False for probe in self.probes
        )


@attrs.frozen(kw_only=True)
class CheckDns:
    """The check. `describe` gives the facts; `probes` None: records only."""

    describe: Callable[[], Awaitable[ZoneFacts]]
    zone: ZoneReader
    probes: LiveProbes | None = None

    async def __call__(
        self, *, domain: str = "", with_probes: bool = True, outbound_host: str = ""
    ) -> ZoneReport:
        """Compare every record, and look from outside.

        Args:  domain: records of this one only.
        Raises:  TransientFailure: the store does not answer.
        """
        facts = await self.describe()
        if not facts.named_domains:
            return ZoneReport(records=(), is_needed=False)
        needed = records_of(domain, needed_records(facts))
        checked = [await self._check(record, facts) for record in needed]
        checked += [one for one in await self._strays(facts) if is_below(one.record.name, domain)]
        probes: tuple[ProbeResult, ...] = ()
        if with_probes and self.probes is not None:
            probes = await self.probes.look(facts, outbound_host)
        return ZoneReport(records=tuple(checked), probes=probes)

    async def dkim(self) -> ZoneReport:
        """Compare the public keys alone."""
        facts = await self.describe()
        needed = [one for one in needed_records(facts) if one.role is Role.DKIM]
        checked = [await self._check(record, facts) for record in needed]
        return ZoneReport(records=tuple(checked), is_needed=bool(facts.named_domains))

    async def _check(self, record: ZoneRecord, facts: ZoneFacts) -> CheckedRecord:
        found = await self.zone.read(record.name, record.type)
        if isinstance(found, DnsFault):
            return CheckedRecord(record=record, standing=Standing.UNKNOWN, found=(found.value,))
        included = await self._included(found) if record.role is Role.SPF else {}
        standing = compare(record, found, facts, included)
        if standing is Standing.MISSING and record.role is Role.ALIAS:
            return await self._without_alias(record, facts)
        return CheckedRecord(record=record, standing=standing, found=found)

    async def _without_alias(self, record: ZoneRecord, facts: ZoneFacts) -> CheckedRecord:
        """A name may have our addresses instead of being an alias."""
        found: list[str] = []
        for type in (RecordType.A, RecordType.AAAA):
            answer = await self.zone.read(record.name, type)
            found += () if isinstance(answer, DnsFault) else answer
        if not found:
            return CheckedRecord(record=record, standing=Standing.MISSING)
        is_ours = is_address_set_ours(found, facts)
        standing = Standing.OK if is_ours else Standing.DIFFERS
        return CheckedRecord(record=record, standing=standing, found=tuple(found))

    async def _included(self, found: tuple[str, ...]) -> dict[str, str]:
        """Return the policies an SPF record refers to, directly or not."""
        policies: dict[str, str] = {}
        waiting = [name for text in found for name in referred(text)]
        while waiting and len(policies) < MAX_POLICIES:
            name = waiting.pop(0)
            if name in policies:
                continue
            answer = await self.zone.read(name, RecordType.TXT)
            texts = () if isinstance(answer, DnsFault) else answer
            policies[name] = next((t for t in texts if t.lower().startswith("v=spf1")), "")
            waiting += referred(policies[name])
        return policies

    async def _strays(self, facts: ZoneFacts) -> list[CheckedRecord]:
        """What is there and should not be: foreign addresses, a CAA record that shuts us out."""
        strays = []
        names = dict.fromkeys((*facts.named_domains[:1], *_host_names(facts)))
        for name in names if facts.addresses else ():
            for type in (RecordType.A, RecordType.AAAA):
                strays += await self._foreign_addresses(name, type, facts)
        if not facts.acme_account and facts.sts_id:
            strays += await self._foreign_ca(facts.named_domains[0])
        return strays

    async def _foreign_addresses(
        self, name: str, type: RecordType, facts: ZoneFacts
    ) -> list[CheckedRecord]:
        answer = await self.zone.read(name, type)
        found = () if isinstance(answer, DnsFault) else answer
        ours = [one for one in facts.addresses if family(one) is type]
        foreign = tuple(text for text in found if not any(same_address(text, one) for one in ours))
        if not foreign:
            return []
        # A peer that picks one of these does not reach us.
        record = ZoneRecord(name=name, type=type, data="", role=Role.ADDRESS, is_required=False)
        return [CheckedRecord(record=record, standing=Standing.DIFFERS, found=foreign)]

    async def _foreign_ca(self, domain: str) -> list[CheckedRecord]:
        wanted = ZoneRecord(
            name=domain,
            type=RecordType.CAA,
            data=f'0 issue "{OUR_CA}"',
            role=Role.CA,
            is_required=False,
        )
        answer = await self.zone.read(domain, RecordType.CAA)
        found = () if isinstance(answer, DnsFault) else answer
        if compare(wanted, found, ZoneFacts(domains=(domain,), hostname=domain)) is not (
            Standing.DIFFERS
        ):
            return []
        return [CheckedRecord(record=wanted, standing=Standing.DIFFERS, found=found)]


def is_below(name: str, domain: str) -> bool:
    """Say whether a name is a domain or below it; the empty domain is above all."""
    return not domain or name == domain or name.endswith(f".{domain}")


def records_of(domain: str, records: Iterable[ZoneRecord]) -> list[ZoneRecord]:
    """Return the records of one domain, of all for the empty one."""
    return [record for record in records if is_below(record.name, domain)]


def _host_names(facts: ZoneFacts) -> tuple[str, ...]:
    needed = needed_records(facts)
    return tuple(one.name for one in needed if one.role is Role.ADDRESS and one.is_required)
