"""Other relays: how to reach them, what is remembered of them, what the operator said of them.

Domains are normalised (`normalise_domain`), literals in brackets.
"""

from __future__ import annotations

import enum

import attrs

from chatmail.domain.model.address import EmailAddress


class TransportKind(enum.Enum):
    """How a message travels."""

    HTTPS = "https"  # POST /mxdeliv over TLS
    HTTP = "http"  # the same in clear
    SMTP = "smtp"


@attrs.frozen
class Source:
    """Where a message comes from: the peer's IP address as text, and how it travelled."""

    host: str
    transport: TransportKind


class TlsRule(enum.Enum):
    """What an outward connection demands (federation-web.md A5)."""

    VERIFY = "verify"  # chain and name
    ENCRYPT = "encrypt"  # TLS, any certificate
    OPTIONAL = "optional"  # TLS when offered
    NONE = "none"  # plain http


@attrs.frozen(kw_only=True)
class Hop:
    """One place to try. `host` is a name or a bare IP address (no brackets).

    `is_operators_word`: the operator named it (an override): private addresses are allowed then.
    `takes_one`: its `/mxdeliv` serves the first recipient of a request only (A4.3).
    """

    transport: TransportKind
    host: str
    port: int
    tls: TlsRule
    path: str = "/mxdeliv"
    is_operators_word: bool = False
    takes_one: bool = False


class RecipientFate(enum.Enum):
    """What a peer said about one recipient."""

    DELIVERED = "delivered"
    TEMPORARY = "temporary"
    PERMANENT = "permanent"


@attrs.frozen
class RecipientOutcome:
    """The peer's word on one recipient; `reply` is a clean SMTP reply line, `550 5.1.1 text`."""

    recipient: EmailAddress
    fate: RecipientFate
    reply: str


class HopFault(enum.Enum):
    """Why a hop gave no word on the recipients, or what to make of its word."""

    UNSUPPORTED = "unsupported"  # no /mxdeliv there: 404, redirect, HTML
    CONNECT = "connect"  # no connection: refused, unreachable, timed out
    TLS = "tls"  # handshake or certificate
    BROKEN = "broken"  # connection lost, 5xx of a web server, nonsense
    AMBIGUOUS = "ambiguous"  # everything was sent, no answer came
    UNCLEAR = "unclear"  # 4xx without SMTP text: SMTP has to be asked
    BUSY = "busy"  # 429, 503, 421: later
    FORBIDDEN = "forbidden"  # the address may not be connected to (loopback, private, our own)


@attrs.frozen(kw_only=True)
class HopResult:
    """How one attempt at one hop ended.

    `outcomes` names every recipient of the letter exactly when `fault` is None; with a fault it may
    name those the peer spoke of before. `reply` describes the fault in one clean line beginning
    with an SMTP code. `retry_after_s`: the peer asked for that much patience.
    """

    hop: Hop
    outcomes: tuple[RecipientOutcome, ...] = ()
    fault: HopFault | None = None
    reply: str = ""
    retry_after_s: float | None = None


@attrs.frozen(kw_only=True)
class PeerHealth:
    """What earlier attempts taught about a destination (federation-web.md A8); unix seconds.

    `not_before_s`: nobody is tried there before; one probe is made then (A7.5).
    `learned_host`: the host whose `/mxdeliv` answered last.
    """

    domain: str
    last_ok_https_s: int = 0
    last_ok_http_s: int = 0
    last_ok_smtp_s: int = 0
    https_block_until_s: int = 0
    https_fail_streak: int = 0
    smtp_fail_streak: int = 0
    connect_fail_since_s: int = 0
    connect_fail_streak: int = 0
    not_before_s: float = 0.0
    learned_host: str = ""
    updated_s: int = 0


class PeerAction(enum.Enum):
    """What a rule says (spec policy 7.1): block wins, then allow, then the default."""

    LISTED = "listed"  # blocks under ACCEPT, allows under REJECT
    BLOCK = "block"
    ALLOW = "allow"


@attrs.frozen
class PeerRule:
    """One rule of the federation policy; `pattern` is normalised (policy/peer_rules.py)."""

    pattern: str
    action: PeerAction
    created_s: int


@attrs.frozen
class Dismissal:
    """Mail to this pattern is accepted and discarded."""

    pattern: str
    created_s: int


@attrs.frozen(kw_only=True)
class PeerOverride:
    """Where mail for `domain` goes instead (federation-web.md A2.1)."""

    domain: str
    target: str
    comment: str = ""
    smtp_fallback: bool = True
    created_s: int = 0


@attrs.frozen(kw_only=True)
class StsPolicy:
    """A peer's MTA-STS policy as fetched (RFC 8461 §3.2); `mode` is enforce, testing or none."""

    domain: str
    id: str
    mode: str
    mx: tuple[str, ...]
    expires_s: int
    fetched_s: int


class LedgerEvent(enum.Enum):
    """What is counted per peer (federation-web.md A13)."""

    OK_HTTPS = "ok_https"
    OK_HTTP = "ok_http"
    OK_SMTP = "ok_smtp"
    FAIL_HTTPS = "fail_https"
    FAIL_HTTP = "fail_http"
    FAIL_SMTP = "fail_smtp"
    INBOUND_HTTP = "inbound_http"
    INBOUND_SMTP = "inbound_smtp"
    BOUNCED = "bounced"
    DISMISSED = "dismissed"


@attrs.frozen(kw_only=True)
class PeerRecord:
    """Counters of one peer; no address is in it."""

    domain: str
    counts: dict[LedgerEvent, int]
    latency_sum_ms: int = 0
    latency_count: int = 0
    last_ok_s: int = 0
    last_fail_s: int = 0
    last_error: str = ""
