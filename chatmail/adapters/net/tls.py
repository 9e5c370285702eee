"""The TLS contexts of all faces, and their replacement while running.

A context is never changed once it is in use: loading a key that does not match its certificate
into a live one leaves it broken for everybody. A reload builds fresh contexts, and only when all
of them loaded the references are swapped; connections keep the context they began with.
"""

from __future__ import annotations

import enum
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs
import trio

from chatmail.adapters.net.certificates import (
    CertificateFacts,
    CertificatePair,
    Fingerprint,
    check_pair,
    load_into,
)
from chatmail.adapters.net.errors import CertificateError

POLL_S: Final = 30.0
TICKET_KEY_LIFE_S: Final = 12 * 3600.0


class TlsPurpose(enum.Enum):
    """What a handshake is for; decides lowest version and ALPN."""

    IMAP = "imap"
    SUBMISSION = "submission"
    RELAY = "relay"  # port 25
    HTTPS = "https"


# Every list holds every protocol that is spoken here, the own ones first: a client that offers
# several gets ours, one that offers only another face's is recognised and refused after the
# handshake (cross-protocol attacks), and one that offers something unknown gets none, which
# OpenSSL answers by going on without ALPN.
ALPN: Final[Mapping[TlsPurpose, tuple[str, ...]]] = {
    TlsPurpose.IMAP: ("imap", "smtp", "h2", "http/1.1"),
    TlsPurpose.SUBMISSION: ("smtp", "imap", "h2", "http/1.1"),
    TlsPurpose.RELAY: ("smtp", "imap", "h2", "http/1.1"),
    TlsPurpose.HTTPS: ("imap", "smtp", "h2", "http/1.1"),
}


@attrs.frozen(kw_only=True)
class TlsPolicy:
    """Lowest versions (keys `tls.min`, `tls.submission_min`).

    `submission_min` holds for IMAP and submission, also by ALPN on 443.
    """

    min: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    submission_min: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3

    def lowest(self, purpose: TlsPurpose) -> ssl.TLSVersion:
        """Return the lowest version for a purpose."""
        is_mail = purpose in (TlsPurpose.IMAP, TlsPurpose.SUBMISSION)
        return self.submission_min if is_mail else self.min

    def allows(self, purpose: TlsPurpose, version: str | None) -> bool:
        """Judge a finished handshake's version (`TLSv1.2`, `TLSv1.3`)."""
        seen = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
        return version in seen and seen[version] >= self.lowest(purpose)


class TlsKeeper:
    """Holds one context per purpose for one certificate. `facts` describes that certificate."""

    def __init__(
        self,
        pair: CertificatePair,
        *,
        now_s: Callable[[], float],
        policy: TlsPolicy | None = None,
        names: Sequence[str] = (),
        allow_expired: bool = False,
    ) -> None:
        """Load the pair.

        Args:  names: what the certificate has to cover. allow_expired: for certificates that this
            program renews itself: clients that remember the key still accept an expired one, so a
            failed renewal must not keep the server from starting.
        Raises:  CertificateError: it cannot be used.
        """
        self.pair = pair
        self.policy = policy or TlsPolicy()
        self.facts: CertificateFacts
        self._now_s = now_s
        self._names = tuple(names)
        self._allow_expired = allow_expired
        self._contexts: dict[TlsPurpose, ssl.SSLContext] = {}
        self._fingerprint: Fingerprint | None = None
        self.reload()

    def context(self, purpose: TlsPurpose) -> ssl.SSLContext:
        """Return the context for a handshake that begins now."""
        return self._contexts[purpose]

    def changed(self) -> bool:
        """Say whether the files differ from those last tried. Two `stat` calls."""
        return self.pair.fingerprint() not in (None, self._fingerprint)

    def reload(
        self, pair: CertificatePair | None = None, policy: TlsPolicy | None = None
    ) -> CertificateFacts:
        """Load the pair anew (or another one) and use it for every handshake from now on.

        Raises:  CertificateError: it cannot be used; the old contexts stay.
        """
        pair, policy = pair or self.pair, policy or self.policy
        fingerprint = pair.fingerprint()
        if pair == self.pair:
            self._fingerprint = fingerprint  # a bad pair is tried and reported once, not each poll
        facts = check_pair(pair, self._now_s(), self._names, allow_expired=self._allow_expired)
        contexts = {purpose: _build(purpose, pair, policy) for purpose in TlsPurpose}
        if pair.fingerprint() != fingerprint:
            raise CertificateError(f"{pair.chain}: the files changed while they were read")
        self.pair, self.policy, self.facts = pair, policy, facts
        self._contexts, self._fingerprint = contexts, fingerprint
        return facts

    async def watch(
        self,
        on_reload: Callable[[CertificateFacts], None],
        on_error: Callable[[CertificateError], None],
        poll_s: float = POLL_S,
    ) -> None:
        """Reload when a file changes, and every 12 h for fresh session ticket keys. Runs for ever.

        A change is seen by polling mtime, inode and size: notifications miss bind mounts.
        """
        keys_due = trio.current_time() + TICKET_KEY_LIFE_S
        while True:
            await trio.sleep(poll_s)
            is_due = trio.current_time() >= keys_due
            if not (is_due or self.changed()):
                continue
            keys_due = trio.current_time() + TICKET_KEY_LIFE_S
            try:
                facts = self.reload()
            except CertificateError as error:
                on_error(error)
            else:
                on_reload(facts)


def _build(purpose: TlsPurpose, pair: CertificatePair, policy: TlsPolicy) -> ssl.SSLContext:
    # OpenSSL's own order of groups has X25519 first (3.5: its post-quantum hybrid) and Python
    # could only replace the list by a single group, so it stays; the server's choice counts.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = policy.lowest(purpose)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    # Delta Chat core keeps a ticket store; tickets are used once, one per connection is enough.
    context.num_tickets = 1
    context.set_alpn_protocols(list(ALPN[purpose]))
    load_into(context, pair)
    return context
