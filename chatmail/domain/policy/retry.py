"""When a delivery is tried again, when it is given up, and what an attempt teaches of its peer.

Source: federation-web.md A2.5, A6.8, A7.1, A7.5, A8.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

import attrs

from chatmail.domain.model.federation import HopFault, HopResult, PeerHealth, TransportKind
from chatmail.domain.model.settings import QueueSettings

HOUR_S: Final = 3600
DAY_S: Final = 24 * HOUR_S
JITTER: Final = 0.2
MAX_PATIENCE_S: Final = HOUR_S
"""A peer's Retry-After counts up to here (A4.7)."""

LOST_LINE: Final = "4.4.2"
"""The enhanced code (RFC 3463) of attempts whose end is unknown; the queue keeps it (A3.4)."""

BROKEN_BLOCK_S: Final = 30 * 60
REFUSED_BLOCK_S: Final = DAY_S
MAX_BLOCK_S: Final = 7 * DAY_S
KNOWN_GOOD_S: Final = DAY_S
FLUSH_INTERVAL_S: Final = 30.0
"""One wake-up of all that waits for a domain in so long a time (A7.3)."""

_POST: Final = (TransportKind.HTTPS, TransportKind.HTTP)
_HTTPS_BROKEN: Final = (HopFault.CONNECT, HopFault.TLS, HopFault.BROKEN, HopFault.AMBIGUOUS)
_ALIVE: Final = (None, HopFault.AMBIGUOUS, HopFault.UNCLEAR)
_UNREACHABLE: Final = (HopFault.CONNECT, HopFault.TLS)
_UNSEEN: Final = (*_UNREACHABLE, HopFault.FORBIDDEN)
_NOBODY_THERE: Final = (*_UNREACHABLE, HopFault.BUSY, HopFault.FORBIDDEN)


def delay_s(attempts: int, schedule_s: Sequence[float], chance: float) -> float:
    """Return the pause after so many attempts (at least 1); the last step repeats.

    Args:  chance: 0.0 to 1.0, evenly drawn: ±20 %, so that what failed together comes back apart.
    """
    step = schedule_s[min(max(attempts, 1), len(schedule_s)) - 1]
    return step * (1 + JITTER * (2 * chance - 1))


def max_age_s(is_report: bool, queue: QueueSettings) -> float:
    """Return the life time of a queued message."""
    return queue.dsn_max_age_s if is_report else queue.max_age_s


def waiting_reply(result: HopResult) -> str:
    """Return what the queue says of a recipient nobody spoke of, after this result."""
    text = result.reply.split(" ", 2)[-1]
    match result.fault:
        case HopFault.AMBIGUOUS:
            return f"451 {LOST_LINE} {text}"
        case HopFault.FORBIDDEN:  # to us, a host without a usable address (A2.5)
            return f"450 4.4.4 {text}"
        case _:
            return result.reply


def may_give_up(result: HopResult, age_s: float) -> bool:
    """Say whether what a hop said of us, not of a recipient, is final by now (A2.5, A4.7, A6.8)."""
    if result.fault is HopFault.FORBIDDEN:
        return age_s >= DAY_S
    is_refusal = result.reply.startswith("5")
    return is_refusal and (result.fault is HopFault.UNCLEAR or age_s >= HOUR_S)


def is_reachable_by_smtp(results: Sequence[HopResult]) -> bool:
    """Say whether some mail host took a connection in this attempt, or none was tried."""
    smtp = [one.fault for one in results if one.hop.transport is TransportKind.SMTP]
    return not smtp or any(fault not in _UNREACHABLE for fault in smtp)


def is_down(results: Sequence[HopResult]) -> bool:
    """Say whether an attempt says that nobody is there, whatever the message (A7.5).

    A connection that breaks in the middle may be the fault of one message and says nothing of
    others.
    """
    if not results or any(result.fault in _ALIVE for result in results):
        return False
    smtp = [one for one in results if one.hop.transport is TransportKind.SMTP]
    return all(result.fault in _NOBODY_THERE for result in smtp or results)


def is_the_message_innocent(results: Sequence[HopResult]) -> bool:
    """Say whether an attempt ended before any peer could see the message."""
    return bool(results) and all(result.fault in _UNSEEN for result in results)


class NextStep(enum.Enum):
    """What to do after a hop for the recipients that still wait."""

    NEXT_HOP = "next_hop"
    MAIL_HOSTS_ONLY = "mail_hosts_only"
    STOP = "stop"


def next_step(result: HopResult) -> NextStep:
    """Say how an attempt goes on behind one hop (A3.3, A3.4, A4.7, A6.8)."""
    is_smtp = result.hop.transport is TransportKind.SMTP
    match result.fault:
        case None:
            # A relay that spoke over HTTPS has spoken; a mail host may be the worst of several.
            return NextStep.MAIL_HOSTS_ONLY if is_smtp else NextStep.STOP
        case HopFault.AMBIGUOUS:
            return NextStep.STOP
        case HopFault.UNCLEAR:
            return NextStep.MAIL_HOSTS_ONLY
        case HopFault.BUSY if not is_smtp and _is_about_rate(result.reply):
            return NextStep.STOP
        case _:
            return NextStep.NEXT_HOP


def _is_about_rate(reply: str) -> bool:
    """Say whether a peer finds us too eager (429): the other door is none then (A4.7)."""
    return reply.partition(" ")[2].startswith("4.7.")


def learn(
    health: PeerHealth,
    results: Sequence[HopResult],
    now_s: float,
    queue: QueueSettings,
    chance: float,
) -> PeerHealth:
    """Return what is known of a peer after an attempt over these hops, in their order."""
    if not results:
        return health
    learned = attrs.evolve(health, updated_s=int(now_s))
    if is_down(results):
        patience = max((result.retry_after_s or 0.0 for result in results), default=0.0)
        return after_failed_contact(learned, now_s, queue, chance, patience)
    learned = attrs.evolve(learned, connect_fail_since_s=0, connect_fail_streak=0, not_before_s=0.0)
    return _learn_of_transports(learned, results, now_s)


def after_failed_contact(
    health: PeerHealth, now_s: float, queue: QueueSettings, chance: float, patience_s: float = 0.0
) -> PeerHealth:
    """Nobody answered: one probe when the schedule says so, and nothing else until then."""
    if health.not_before_s > now_s:
        return health  # another attempt of the same moment has said so already
    streak = health.connect_fail_streak + 1
    pause_s = max(delay_s(streak, queue.schedule_s, chance), min(patience_s, MAX_PATIENCE_S))
    return attrs.evolve(
        health,
        connect_fail_since_s=health.connect_fail_since_s or int(now_s),
        connect_fail_streak=streak,
        not_before_s=now_s + pause_s,
        updated_s=int(now_s),
    )


def _learn_of_transports(
    health: PeerHealth, results: Sequence[HopResult], now_s: float
) -> PeerHealth:
    now = int(now_s)
    refused = any(_is_post(one) and one.fault is HopFault.UNSUPPORTED for one in results)
    broken = any(_is_post(one) and one.fault in _HTTPS_BROKEN for one in results)
    for result in results:
        kind = result.hop.transport
        if kind is TransportKind.SMTP and result.fault is not None:
            health = attrs.evolve(health, smtp_fail_streak=health.smtp_fail_streak + 1)
        if result.fault is not None:
            continue
        if kind is TransportKind.HTTPS:
            health = _cleared(health, last_ok_https_s=now, learned_host=result.hop.host)
        elif kind is TransportKind.HTTP:
            health = attrs.evolve(health, last_ok_http_s=now)
        else:
            health = attrs.evolve(health, last_ok_smtp_s=now, smtp_fail_streak=0)
            health = _without_https(health, now, is_refused=refused, is_broken=broken)
    return health


def _is_post(result: HopResult) -> bool:
    return result.hop.transport is TransportKind.HTTPS


def _cleared(health: PeerHealth, *, last_ok_https_s: int, learned_host: str) -> PeerHealth:
    """A8.4: success over HTTPS clears everything."""
    return PeerHealth(
        domain=health.domain,
        last_ok_https_s=last_ok_https_s,
        last_ok_http_s=health.last_ok_http_s,
        last_ok_smtp_s=health.last_ok_smtp_s,
        learned_host=learned_host,
        updated_s=health.updated_s,
    )


def _without_https(
    health: PeerHealth, now: int, *, is_refused: bool, is_broken: bool
) -> PeerHealth:
    """SMTP worked: leave HTTPS alone for a while if it did not."""
    if is_refused:  # A8.1
        block_s = min(REFUSED_BLOCK_S * 2 ** min(health.https_fail_streak, 3), MAX_BLOCK_S)
    elif is_broken:
        is_known_good = now - health.last_ok_https_s < KNOWN_GOOD_S
        if is_known_good and health.https_fail_streak == 0:  # A8.5: it gets another chance first
            return attrs.evolve(health, https_fail_streak=1)
        block_s = BROKEN_BLOCK_S  # A8.2
    else:
        return health
    streak = health.https_fail_streak + is_refused
    return attrs.evolve(health, https_block_until_s=now + block_s, https_fail_streak=streak)


def without_block(health: PeerHealth) -> PeerHealth:
    """A8.3: SMTP could not connect, so HTTPS may be tried again, at once."""
    return attrs.evolve(health, https_block_until_s=0)


def after_contact(health: PeerHealth) -> PeerHealth:
    """The peer was heard of: whoever waits for its next probe need not wait (A7.3)."""
    return attrs.evolve(health, not_before_s=0.0)
