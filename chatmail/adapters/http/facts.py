"""What the web face shows and obeys, as one frozen snapshot read once per request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import attrs

from chatmail.adapters.http.mxdeliv import MxdelivServices
from chatmail.domain.formats.account_links import RelayFacts
from chatmail.domain.ports.system import Log
from chatmail.domain.usecases.register import Registered, RegistrationProblem


@attrs.frozen(kw_only=True)
class ShownLimits:
    """Numbers for people; None: there is no such limit and the page keeps silent about it."""

    message_bytes: int | None = None
    mailbox_bytes: int | None = None
    retention_days: int | None = None
    large_retention_days: int | None = None
    inactive_days: int | None = None


@attrs.frozen(kw_only=True)
class SiteFacts:
    """Everything the web face depends on besides its services.

    `language`: `en`, `fa`, `ru`, `es`, or `auto` (by Accept-Language).
    `contact`: the operator's public mail address, empty: not shown.
    `own_hosts`: further bare addresses of a literal relay; a request to one gets links to it.
    `cors_origins`: exact origins, or `*`. `echo_origins`: WebIMAP and WebSMTP are both on.
    `trusted_proxies`: networks as text, whose X-Forwarded-For is believed.
    """

    relay: RelayFacts
    registration_open: bool = True
    jit: bool = True
    require_token: bool = False
    language: str = "en"
    title: str = ""
    contact: str = ""
    limits: ShownLimits = ShownLimits()
    own_hosts: frozenset[str] = frozenset()
    cors_origins: frozenset[str] = frozenset()
    echo_origins: bool = False
    trusted_proxies: tuple[str, ...] = ()


class Register(Protocol):
    """The use case behind `/new`."""

    async def __call__(
        self, source: str, token: str | None = None
    ) -> Registered | RegistrationProblem:
        """Draw credentials, and create the account where its first login would not.

        Every limit per source is applied here. Args:  source: the client's address as text.
        """


@attrs.frozen(kw_only=True)
class Check:
    """One line of the readiness report."""

    name: str
    ok: bool
    detail: str = ""
    remedy: str = ""


AcmeChallenge: TypeAlias = Callable[[str], str | None]


def no_challenge(_token: str) -> str | None:
    """Know no ACME token."""
    return None


PublicKey: TypeAlias = Callable[[str], str | None]
"""Selector → text of its DKIM record; None: there is no such selector."""


def no_key(_selector: str) -> str | None:
    """Know no DKIM key."""
    return None


@attrs.frozen(kw_only=True)
class HttpServices:
    """What the web face needs of the rest of the program.

    `acme_challenge` gives the key authorization of a pending HTTP-01 token. `dkim_key` gives the
    text of a DKIM record. `mxdeliv` None: this relay takes no mail over HTTP.
    """

    site: Callable[[], SiteFacts]
    register: Register
    checks: Callable[[], Sequence[Check]]
    log: Log
    acme_challenge: AcmeChallenge = no_challenge
    dkim_key: PublicKey = no_key
    mxdeliv: MxdelivServices | None = None
