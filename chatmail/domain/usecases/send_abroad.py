"""What a submission owes to other relays: who is queued, the signature, the first attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import attrs

from chatmail.domain.formats.body_digest import BodyDigests
from chatmail.domain.model.address import EmailAddress, is_literal
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.message import Body
from chatmail.domain.model.outbound import (
    NewOutbound,
    OutboundEntry,
    OutboundMessageId,
    QueuedMessage,
)
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.policy.quota import may_wait
from chatmail.domain.ports.mail_auth import DkimSigner
from chatmail.domain.ports.outbound import OutboundQueue
from chatmail.domain.ports.remote import FirstAttempt, QueuedLetter
from chatmail.domain.ports.system import Clock, Entropy
from chatmail.domain.usecases.count_peers import CountPeers
from chatmail.domain.usecases.peer_policy import PeerPolicy

FIRST_LEASE_S: Final = 1800.0
"""As long as the queue's own: the process that took a message in attempts it alone."""


@attrs.frozen(kw_only=True)
class RemoteRecipients:
    """Recipients elsewhere, each list in RCPT order."""

    queued: tuple[EmailAddress, ...] = ()
    denied: tuple[EmailAddress, ...] = ()
    dismissed: tuple[EmailAddress, ...] = ()


class _MessageIds:
    """Draws ids that grow with time, so that the queue keeps the order within a second, too.

    Milliseconds in 42 bits, then 21 random ones: other processes draw others in the same moment.
    """

    def __init__(self) -> None:
        self._last = 0

    def draw(self, now_s: float, entropy: Entropy) -> OutboundMessageId:
        chance = int.from_bytes(entropy.octets(3)) >> 3
        self._last = max(self._last + 1, int(now_s * 1000) << 21 | chance)
        return OutboundMessageId(self._last)


@attrs.frozen(kw_only=True)
class SendAbroad:
    """Makes queue entries and has fresh ones attempted at once."""

    policy: PeerPolicy
    signer: DkimSigner
    queue: OutboundQueue
    first: FirstAttempt
    count: CountPeers
    clock: Clock
    entropy: Entropy
    settings: Callable[[], SettingsSnapshot]
    _ids: _MessageIds = attrs.field(init=False, factory=_MessageIds)

    def digests(self) -> BodyDigests:
        """Return the hashes that have to be fed with the content of a message to be signed."""
        return self.signer.digests()

    def sort(self, remote: Iterable[EmailAddress]) -> RemoteRecipients:
        """Say what becomes of recipients elsewhere (A1.2; 7.2: dismissal comes after policy)."""
        queued, denied, dismissed = [], [], []
        for recipient in remote:
            if not self.policy.allows(recipient.domain):
                denied.append(recipient)
            elif self.policy.dismisses(recipient.domain):
                dismissed.append(recipient)
            else:
                queued.append(recipient)
        return RemoteRecipients(
            queued=tuple(queued), denied=tuple(denied), dismissed=tuple(dismissed)
        )

    def may_report(self, recipient: EmailAddress) -> bool:
        """Say whether a report may go to a sender elsewhere (A10.4): its address was verified."""
        domain = recipient.domain
        return (
            not is_literal(domain)
            and self.policy.allows(domain)
            and not self.policy.dismisses(domain)
        )

    def count_dismissed(self, recipients: Iterable[EmailAddress]) -> None:
        """Count what was accepted and discarded: once per message and domain."""
        for domain in {recipient.domain for recipient in recipients}:
            self.count.dismissed(domain)

    async def has_room(self, sender: EmailAddress, recipients: int, size_bytes: int) -> bool:
        """Say whether one more message of this author may be queued (policy 3)."""
        return may_wait(await self.queue.waiting(sender), recipients, size_bytes)

    def make(
        self,
        sender: EmailAddress,
        recipients: tuple[EmailAddress, ...],
        header: bytes,
        digests: BodyDigests | None,
    ) -> NewOutbound:
        """Return the queue's part of a submission, signed (A11.1).

        It is leased when all its peers are well and have no backlog: `attempt` follows the commit.
        Args:  header: the block as it will be stored. digests: of the content.
        Raises:  TransientFailure: the content was not hashed while it arrived.
        """
        if digests is None:
            raise TransientFailure("a message for other relays came in without hashes")
        now_s = self.clock.now_s()
        is_leased = all(self.first.is_worthwhile(domain) for domain in _domains(recipients))
        return NewOutbound(
            id=self._ids.draw(now_s, self.entropy),
            reverse_path=sender,
            recipients=recipients,
            created_s=int(now_s),
            due_s=now_s,
            prefix=self.signer.sign(header, digests, sender.domain, int(now_s)),
            leased_until_s=now_s + FIRST_LEASE_S if is_leased else 0.0,
        )

    def make_report(
        self, recipient: EmailAddress, header: bytes, digests: BodyDigests
    ) -> NewOutbound:
        """Return a delivery report of ours for a sender elsewhere, signed (A10.4, A11.4)."""
        now_s = self.clock.now_s()
        domain = self.settings().identity.mail_domain
        return NewOutbound(
            id=self._ids.draw(now_s, self.entropy),
            reverse_path=None,
            recipients=(recipient,),
            created_s=int(now_s),
            due_s=now_s,
            prefix=self.signer.sign(header, digests, domain, int(now_s)),
            is_report=True,
        )

    async def attempt(
        self, outbound: NewOutbound, body: Body, *, is_only_recipient: bool
    ) -> str | None:
        """Have a message attempted that was just committed under a lease.

        Args:  is_only_recipient: nobody else was served, so a refusal may still be the reply.
        Returns:  a permanent refusal that came in time; its entry is settled then (contract 3).
        """
        if not outbound.leased_until_s:
            return None
        read = self._reader(outbound.id, body)
        letters = [
            QueuedLetter(entries=_entries(outbound, body, domain), read=read)
            for domain in _domains(outbound.recipients)
        ]
        wait_s = self.settings().queue.reply_wait_s
        if is_only_recipient and len(outbound.recipients) == 1 and wait_s > 0:
            return await self.first.try_now(letters[0], wait_s)
        for letter in letters:
            self.first.start(letter)
        return None

    def _reader(
        self, message: OutboundMessageId, body: Body
    ) -> Callable[[int, int], Awaitable[bytes]]:
        if body.spooled is None:
            return _from_memory(body)

        async def read(offset: int, length: int) -> bytes:
            return await self.queue.read(message, offset, length)

        return read


def _domains(recipients: Sequence[EmailAddress]) -> list[str]:
    return list(dict.fromkeys(recipient.domain for recipient in recipients))


def _entries(new: NewOutbound, body: Body, domain: str) -> tuple[OutboundEntry, ...]:
    message = QueuedMessage(
        id=new.id,
        reverse_path=new.reverse_path,
        created_s=new.created_s,
        prefix=new.prefix,
        is_report=new.is_report,
        size=body.size,
        header_size=len(body.header),
    )
    return tuple(
        [
            OutboundEntry(message=message, recipient=recipient, attempts=0, due_s=new.due_s)
            for recipient in new.recipients
            if recipient.domain == domain
        ]
    )


def _from_memory(body: Body) -> Callable[[int, int], Awaitable[bytes]]:
    pieces = (body.header, *body.chunks)

    async def read(offset: int, length: int) -> bytes:
        found = []
        for piece in pieces:
            if length <= 0:
                break
            taken = bytes(piece[offset : offset + length])
            offset = max(0, offset - len(piece))
            length -= len(taken)
            found.append(taken)
        return b"".join(found)

    return read
