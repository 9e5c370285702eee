"""Takes what an exchanger keeps for us, through the same door as everything from outside.

Source:  spec federation-web A14, B3.3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import attrs

from chatmail.domain.formats.exchange import (
    MAX_ANSWER_OCTETS,
    ExchangeError,
    Parcel,
    parse_exchange,
)
from chatmail.domain.formats.line_ends import LineEnds
from chatmail.domain.model.address import AddressError, EmailAddress
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.exchanger import Exchanger
from chatmail.domain.model.federation import Source, TransportKind
from chatmail.domain.model.message import Door, Envelope
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.ports.exchangers import ExchangerStore
from chatmail.domain.ports.remote import Fetched, FetchFault, HttpFetcher
from chatmail.domain.ports.system import Clock, Log
from chatmail.domain.usecases.collect import Collector
from chatmail.domain.usecases.receive import Accepted, Receive

POLL_S: Final = 60.0
TAKEN_S: Final = 7 * 86400
"""So long a message that comes again under its id is passed over."""
INBOX_PATH: Final = "/me/full"
_FOR_NOW: Final = frozenset(
    {
        RefusalReason.DKIM_UNAVAILABLE,
        RefusalReason.TOO_MUCH_MAIL,
        RefusalReason.TEMPORARY,
        RefusalReason.QUEUE_FULL,
    }
)
"""Refusals that say nothing of the next time."""


@attrs.frozen(kw_only=True)
class Polled:
    """What came of asking. `later`: could not be stored now, and will be there the next time."""

    is_reached: bool
    taken: int = 0
    refused: int = 0
    known: int = 0
    later: int = 0


@attrs.frozen(kw_only=True)
class PollExchanger:
    """Asks one exchanger once. `collect` begins a message; `secret` keys what is remembered."""

    store: ExchangerStore
    fetcher: HttpFetcher
    receive: Receive
    collect: Callable[[Door, int], Collector]
    clock: Clock
    settings: Callable[[], SettingsSnapshot]
    log: Log
    secret: bytes

    async def __call__(self, exchanger: Exchanger) -> Polled:
        """Fetch and take in.

        Raises:  TransientFailure: the store is in trouble; what was taken in so far is noted.
        """
        found = await self.fetcher.get(
            exchanger.url + INBOX_PATH,
            max_octets=MAX_ANSWER_OCTETS,
            timeout_s=POLL_S,
            is_operators_word=True,
        )
        if found is FetchFault.ABSENT:
            return Polled(is_reached=True)  # 404: there is nothing
        if not isinstance(found, Fetched):
            self.log.warning("exchanger_unreachable", fault=found.value)
            return Polled(is_reached=False)
        try:
            parcels = parse_exchange(found.octets)
        except ExchangeError:
            self.log.warning("exchanger_unreachable", fault="nonsense")
            return Polled(is_reached=False)
        polled = await self._take_all(exchanger.name, parcels)
        if polled.taken or polled.refused or polled.later:
            self.log.info(
                "exchanger_polled", taken=polled.taken, refused=polled.refused, later=polled.later
            )
        return polled

    async def _take_all(self, name: str, parcels: tuple[Parcel, ...]) -> Polled:
        taken = refused = known = later = 0
        for parcel in parcels:
            key = self._key(name, parcel.id)
            if await self.store.is_taken(key, int(self.clock.now_s())):
                known += 1
                continue
            try:
                is_taken = await self._take(parcel)
            except TransientFailure:
                later += 1
                continue
            taken, refused = taken + is_taken, refused + (not is_taken)
            await self.store.note_taken(key, int(self.clock.now_s()) + TAKEN_S)
        return Polled(is_reached=True, taken=taken, refused=refused, known=known, later=later)

    def _key(self, name: str, id: str) -> bytes:
        keyed = hashlib.blake2b(key=self.secret[:64], digest_size=16, person=b"exchanger")
        for part in (name.encode(), id.encode("utf-8", "replace")):
            keyed.update(len(part).to_bytes(4, "big") + part)
        return keyed.digest()

    async def _take(self, parcel: Parcel) -> bool:
        """Hand one message in; False: it was refused, and will be the next time.

        Raises:  TransientFailure: the next time may be another matter.
        """
        envelope = self._envelope(parcel)
        if envelope is None or self.receive.admit(envelope.reverse_path) is not None:
            return False
        limits = self.settings().limits
        max_bytes = min(limits.max_message_bytes, limits.max_federation_bytes)
        lines = LineEnds()
        async with self.collect(Door.HTTPS_INBOUND, max_bytes) as message:
            try:
                for piece in parcel.octets():
                    octets = lines.feed(piece)
                    for start in range(0, len(octets), 65536):
                        await message.feed(octets[start : start + 65536])
            except ExchangeError:
                return False
            # Who handed it to the exchanger is unknown, so no address speaks for an author.
            outcome = await self.receive(envelope, message, Source("", TransportKind.HTTPS))
        if isinstance(outcome, Refuse) and outcome.reason in _FOR_NOW:
            raise TransientFailure("the message was refused for now")
        return isinstance(outcome, Accepted)

    def _envelope(self, parcel: Parcel) -> Envelope | None:
        """Return sender and local recipients; None: it is not for us, or makes no sense."""
        domains = self.settings().identity.local_domains
        try:
            sender = EmailAddress.parse(parcel.sender) if parcel.sender.strip("<> ") else None
            recipients = [EmailAddress.parse(one) for one in parcel.recipients]
        except AddressError:
            return None
        local = dict.fromkeys(one.without_detail() for one in recipients if one.domain in domains)
        return Envelope(sender, tuple(local)) if local else None
