"""The inbound door over memory ports, and what its surroundings were asked."""

from __future__ import annotations

import attrs

from chatmail.domain.formats.body_digest import BodyDigests
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.federation import LedgerEvent, Source, TransportKind
from chatmail.domain.model.message import Door, Envelope
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.policy.encryption_gate import DkimResult
from chatmail.domain.usecases.collect import Collect
from chatmail.domain.usecases.receive import Accepted, Receive, inbound_digests
from tests.builders import make_message
from tests.unit.domain.usecases.relay import DOMAIN, SETTINGS, CountingEntropy, MemoryRelay
from tests.unit.fakes.intake import MemoryBlobStore
from tests.unit.fakes.system import FakeLog

PEER = "peer.example"

ANN = f"ann@{PEER}"
BOB = f"bob@{DOMAIN}"
NOBODY = f"nobody@{DOMAIN}"
MESSAGE = make_message(sender=ANN)
SMTP = Source("192.0.2.7", TransportKind.SMTP)
HTTPS = Source("192.0.2.7", TransportKind.HTTPS)
SECRET = b"s" * 32


@attrs.define
class Verifier:
    """Says what it was told to say of every signature."""

    result: DkimResult = DkimResult.PASS
    asked: list[str] = attrs.field(factory=list)

    async def verify(self, header: bytes, digests: BodyDigests, author_domain: str) -> DkimResult:
        self.asked.append(author_domain)
        return self.result


@attrs.define
class Budgets:
    """Endless, but for the kinds in `empty`."""

    empty: set[str] = attrs.field(factory=set)
    taken: list[tuple[str, str, float, float]] = attrs.field(factory=list)

    def take(self, kind: str, key: str, *, per_s: float, burst: float, cost: float = 1.0) -> bool:
        self.taken.append((kind, key, per_s, burst))
        return kind not in self.empty


@attrs.define
class Ledger:
    """Keeps what was counted."""

    counted: list[tuple[str, LedgerEvent]] = attrs.field(factory=list)

    def count(self, domain: str, event: LedgerEvent, now_s: float, error: str = "") -> None:
        self.counted.append((domain, event))


class InboundRelay(MemoryRelay):
    """A relay other relays hand mail to."""

    def __init__(self, settings: SettingsSnapshot = SETTINGS) -> None:
        super().__init__(settings)
        self.collect = Collect(MemoryBlobStore(self.state), inbound_digests)
        self.verifier = Verifier()
        self.budgets = Budgets()
        self.ledger = Ledger()
        self.log = FakeLog()
        self.denied: set[str] = set()
        self.contacts: list[str] = []
        self.receive = Receive(
            take_in=self.take_in,
            accounts=self.accounts,  # type: ignore[arg-type]
            verifier=self.verifier,
            budgets=self.budgets,  # type: ignore[arg-type]
            ledger=self.ledger,  # type: ignore[arg-type]
            clock=self.clock,
            entropy=CountingEntropy(),
            settings=lambda: self.settings,
            is_allowed=lambda domain: domain not in self.denied,
            contact=self.contacts.append,
            secret=SECRET,
            log=self.log,
        )

    def change(self, part: str, **values: object) -> None:
        """Change one part of the settings."""
        changed = attrs.evolve(getattr(self.settings, part), **values)
        self.settings = attrs.evolve(self.settings, **{part: changed})

    async def hand_in(
        self,
        octets: bytes,
        *recipients: str,
        sender: str | None = ANN,
        source: Source = SMTP,
    ) -> Accepted | Refuse:
        """Send a whole message."""
        is_smtp = source.transport is TransportKind.SMTP
        door = Door.SMTP_INBOUND if is_smtp else Door.HTTPS_INBOUND
        envelope = Envelope(
            None if sender is None else EmailAddress.parse(sender),
            tuple(EmailAddress.parse(text) for text in recipients or (BOB,)),
        )
        async with await self.collected(octets, door) as message:
            return await self.receive(envelope, message, source)


def reason_of(outcome: Accepted | Refuse) -> RefusalReason:
    assert isinstance(outcome, Refuse)
    return outcome.reason
