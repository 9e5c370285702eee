"""The way out as tests want it: names, documents and peers that do as they are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import attrs
import trio

from chatmail.domain.formats.body_digest import BodyDigests, Canonicalization
from chatmail.domain.model.federation import (
    Hop,
    HopFault,
    HopResult,
    RecipientFate,
    RecipientOutcome,
    TransportKind,
)
from chatmail.domain.ports.mail_auth import DkimRecord
from chatmail.domain.ports.remote import (
    DnsFault,
    Fetched,
    FetchFault,
    Letter,
    MxAnswer,
    MxHost,
    QueuedLetter,
)

ADDRESS = "203.0.113.9"
OK = "250 2.0.0 OK"


class FakeResolver:
    """`Resolver` from dictionaries. Every name has `ADDRESS`, none has MX or TXT, unless told."""

    def __init__(self) -> None:
        self.mxs: dict[str, MxAnswer | DnsFault] = {}
        self.hosts: dict[str, tuple[str, ...] | DnsFault] = {}
        self.txts: dict[str, tuple[bytes, ...] | DnsFault] = {}
        self.asked: list[tuple[str, str]] = []

    def add_mx(self, domain: str, *hosts: str | tuple[int, str]) -> None:
        """Give a domain mail hosts, in this order of preference unless numbers are given."""
        pairs = [(10 * n, one) if isinstance(one, str) else one for n, one in enumerate(hosts, 1)]
        self.mxs[domain] = MxAnswer(hosts=tuple(MxHost(*pair) for pair in pairs))

    async def mx(self, domain: str) -> MxAnswer | DnsFault:
        await trio.lowlevel.checkpoint()
        self.asked.append(("mx", domain))
        return self.mxs.get(domain, DnsFault.NO_DATA)

    async def addresses(self, host: str) -> tuple[str, ...] | DnsFault:
        await trio.lowlevel.checkpoint()
        self.asked.append(("addresses", host))
        return self.hosts.get(host, (ADDRESS,))

    async def txt(self, name: str) -> tuple[bytes, ...] | DnsFault:
        await trio.lowlevel.checkpoint()
        self.asked.append(("txt", name))
        return self.txts.get(name, DnsFault.NO_DATA)


class FakeFetcher:
    """`HttpFetcher` from a dictionary of URLs."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes | FetchFault] = {}
        self.asked: list[str] = []

    async def get(
        self, url: str, *, max_octets: int, timeout_s: float, is_operators_word: bool = False
    ) -> Fetched | FetchFault:
        await trio.lowlevel.checkpoint()
        self.asked.append(url)
        found = self.documents.get(url, FetchFault.ABSENT)
        return found if isinstance(found, FetchFault) else Fetched("text/plain", found)


def spoken(hop: Hop, letter: Letter, fate: RecipientFate, reply: str = OK) -> HopResult:
    """A peer says the same of all recipients."""
    return HopResult(
        hop=hop,
        outcomes=tuple(RecipientOutcome(one, fate, reply) for one in letter.recipients),
    )


def failed(hop: Hop, fault: HopFault, reply: str = "", **details: float) -> HopResult:
    """A hop that gave no word on the recipients."""
    return HopResult(hop=hop, fault=fault, reply=reply or f"451 4.4.1 {fault.value}", **details)


Behaviour: TypeAlias = "Callable[[Hop, Letter], HopResult]"


def accepts(hop: Hop, letter: Letter) -> HopResult:
    """Deliver to all."""
    return spoken(hop, letter, RecipientFate.DELIVERED)


def refuses(reply: str = "550 5.1.1 User unknown") -> Behaviour:
    """Refuse all recipients, for good or for now as the code says."""
    fate = RecipientFate.PERMANENT if reply[0] == "5" else RecipientFate.TEMPORARY
    return lambda hop, letter: spoken(hop, letter, fate, reply)


def breaks(fault: HopFault, reply: str = "", **details: float) -> Behaviour:
    """Fail in this way."""
    return lambda hop, letter: failed(hop, fault, reply, **details)


@attrs.frozen
class Attempt:
    """What a transport was asked to do."""

    hop: Hop
    letter: Letter
    octets: bytes


class FakeTransport:
    """`RemoteTransport`: behaviour by transport and host; whoever is not named accepts.

    `pause_s` is how long each attempt takes. `busiest` counts attempts that ran at once.
    """

    def __init__(self) -> None:
        self.behaviours: dict[tuple[TransportKind | None, str], Behaviour] = {}
        self.pauses: dict[str, float] = {}
        self.attempts: list[Attempt] = []
        self.running: dict[str, int] = {}
        self.busiest: dict[str, int] = {}

    def on(self, kind: TransportKind | None, host: str, behaviour: Behaviour) -> None:
        """Set what a host does; None: over every transport."""
        self.behaviours[kind, host] = behaviour

    async def attempt(self, hop: Hop, letter: Letter) -> HopResult:
        octets = letter.prefix + await letter.read(0, letter.size)
        self.attempts.append(Attempt(hop, letter, octets))
        for name in (hop.host, "*"):
            self.running[name] = self.running.get(name, 0) + 1
            self.busiest[name] = max(self.busiest.get(name, 0), self.running[name])
        try:
            await trio.sleep(self.pauses.get(hop.host, 0.0))
        finally:
            for name in (hop.host, "*"):
                self.running[name] -= 1
        found = self.behaviours.get((hop.transport, hop.host))
        found = found or self.behaviours.get((None, hop.host)) or accepts
        return found(hop, letter)

    def tried(self) -> list[tuple[str, str]]:
        """(transport, host) of every attempt."""
        return [(one.hop.transport.value, one.hop.host) for one in self.attempts]


class FakeSigner:
    """`DkimSigner`: a field that names the hash of the content."""

    def __init__(self, domains: Sequence[str]) -> None:
        self.domains = domains

    def digests(self) -> BodyDigests:
        return BodyDigests(Canonicalization.SIMPLE)

    def sign(self, header: bytes, digests: BodyDigests, author_domain: str, now_s: int) -> bytes:
        found = digests.sha256(Canonicalization.SIMPLE)
        assert found is not None
        if author_domain not in self.domains:
            return b""
        return b"DKIM-Signature: d=%s; bh=%s\r\n" % (author_domain.encode(), found.hex().encode())

    def records(self) -> tuple[DkimRecord, ...]:
        return ()


class FakeFirstAttempt:
    """`FirstAttempt` that notes what it was given. `refusal` is what `try_now` returns."""

    def __init__(self) -> None:
        self.unwell: set[str] = set()
        self.refusal: str | None = None
        self.tried: list[tuple[QueuedLetter, float]] = []
        self.started: list[QueuedLetter] = []

    def is_worthwhile(self, domain: str) -> bool:
        return domain not in self.unwell

    async def try_now(self, letter: QueuedLetter, wait_s: float) -> str | None:
        await trio.lowlevel.checkpoint()
        self.tried.append((letter, wait_s))
        return self.refusal

    def start(self, letter: QueuedLetter) -> bool:
        self.started.append(letter)
        return True
