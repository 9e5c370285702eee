"""How this relay looks from outside: its DNS records, its open doors."""

from __future__ import annotations

from typing import Protocol

import attrs

from chatmail.domain.formats.zone import RecordType, ZoneFacts
from chatmail.domain.ports.remote import DnsFault


class ZoneReader(Protocol):
    """DNS as its authoritative servers have it, past all caches; a resolver where they are mute."""

    async def read(self, name: str, type: RecordType) -> tuple[str, ...] | DnsFault:
        """Return the records of one type at a name, in the form of `ZoneRecord.data`.

        CNAMEs are not followed. Empty: there are none. Never raises for what servers do.
        """


@attrs.frozen(kw_only=True)
class ProbeResult:
    """One look from outside. `is_ok` None: it could not be found out, or is for information."""

    name: str
    is_ok: bool | None
    detail: str = ""


class LiveProbes(Protocol):
    """Connections to our own public names, as a peer or a client makes them."""

    async def look(self, facts: ZoneFacts, outbound_host: str = "") -> tuple[ProbeResult, ...]:
        """Make all probes (spec federation-web C2.2), each in its own bounded time.

        Args:  outbound_host: somebody's mail host, to see whether port 25 leads out.
        """


class Notebook(Protocol):
    """Numbers that outlive the process, by name."""

    async def recall(self, name: str) -> int | None:
        """Return a number that was remembered."""

    async def remember(self, name: str, value: int) -> None:
        """Remember a number for good."""
