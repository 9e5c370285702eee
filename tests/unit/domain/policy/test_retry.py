"""When again, when no more, and what attempts teach (A6.8, A7.1, A7.5, A8)."""

from __future__ import annotations

import attrs
import pytest

from chatmail.domain.model.federation import (
    Hop,
    HopFault,
    HopResult,
    PeerHealth,
    TlsRule,
    TransportKind,
)
from chatmail.domain.model.settings import QueueSettings
from chatmail.domain.policy import retry
from chatmail.domain.policy.retry import NextStep

NOW = 1_000_000
DAY, HOUR, MINUTE = 86400, 3600, 60
QUEUE = QueueSettings()
HTTPS, SMTP, HTTP = TransportKind.HTTPS, TransportKind.SMTP, TransportKind.HTTP
BLANK = PeerHealth(domain="peer.test")


def result(
    kind: TransportKind, fault: HopFault | None = None, reply: str = "451 4.4.1 x", **more: float
) -> HopResult:
    hop = Hop(transport=kind, host="mx.peer.test", port=25, tls=TlsRule.VERIFY)
    return HopResult(hop=hop, fault=fault, reply=reply, **more)


def learn(health: PeerHealth, *results: HopResult, now: float = NOW) -> PeerHealth:
    return retry.learn(health, results, now, QUEUE, 0.5)


# --- the schedule -----


def test_the_schedule_of_a7_1_with_its_last_step_repeated() -> None:
    minutes = [retry.delay_s(n, QUEUE.schedule_s, 0.5) / 60 for n in range(1, 12)]
    assert minutes == [0.5, 1, 2, 5, 10, 15, 30, 60, 60, 60, 60]


def test_jitter_is_a_fifth_both_ways() -> None:
    assert retry.delay_s(1, (100.0,), 0.0) == 80
    assert retry.delay_s(1, (100.0,), 1.0) == 120
    assert retry.delay_s(0, (100.0,), 0.5) == 100


def test_reports_live_shorter() -> None:
    assert retry.max_age_s(False, QUEUE) == 48 * HOUR
    assert retry.max_age_s(True, QUEUE) == 24 * HOUR


@pytest.mark.parametrize(
    ("fault", "reply", "final_after_s"),
    [
        (HopFault.BROKEN, "554 5.7.1 No", HOUR),
        (HopFault.BROKEN, "421 4.3.2 Closing", None),
        (HopFault.UNCLEAR, "550 5.7.1 Forbidden", 0),
        (HopFault.UNCLEAR, "450 4.0.0 Bad request", None),
        (HopFault.FORBIDDEN, "550 5.4.4 Not allowed", DAY),
        (HopFault.TLS, "454 4.7.5 Expired", None),
    ],
)
def test_when_a_refusal_of_us_is_final(
    fault: HopFault, reply: str, final_after_s: int | None
) -> None:
    end = result(SMTP, fault, reply)
    if final_after_s is None:
        assert not retry.may_give_up(end, 10 * DAY)
    else:
        assert retry.may_give_up(end, final_after_s)
        assert not retry.may_give_up(end, final_after_s - 1) or not final_after_s


@pytest.mark.parametrize(
    ("fault", "reply", "waiting"),
    [
        (HopFault.AMBIGUOUS, "451 4.4.0 Timed out", "451 4.4.2 Timed out"),
        (HopFault.FORBIDDEN, "550 5.4.4 Not allowed", "450 4.4.4 Not allowed"),
        (HopFault.BROKEN, "554 5.7.1 No", "554 5.7.1 No"),
    ],
)
def test_what_the_queue_says_meanwhile(fault: HopFault, reply: str, waiting: str) -> None:
    assert retry.waiting_reply(result(SMTP, fault, reply)) == waiting


# --- steps -----


@pytest.mark.parametrize(
    ("kind", "fault", "reply", "step"),
    [
        (HTTPS, None, "", NextStep.STOP),
        (HTTP, None, "", NextStep.STOP),
        (SMTP, None, "", NextStep.MAIL_HOSTS_ONLY),
        (HTTPS, HopFault.UNSUPPORTED, "450 4.4.4 x", NextStep.NEXT_HOP),
        (HTTPS, HopFault.CONNECT, "451 4.4.1 x", NextStep.NEXT_HOP),
        (HTTPS, HopFault.TLS, "454 4.7.5 x", NextStep.NEXT_HOP),
        (SMTP, HopFault.TLS, "454 4.7.5 x", NextStep.NEXT_HOP),
        (HTTPS, HopFault.BROKEN, "451 4.3.0 x", NextStep.NEXT_HOP),
        (HTTPS, HopFault.FORBIDDEN, "550 5.4.4 x", NextStep.NEXT_HOP),
        (HTTPS, HopFault.AMBIGUOUS, "451 4.4.2 x", NextStep.STOP),
        (SMTP, HopFault.AMBIGUOUS, "451 4.4.2 x", NextStep.STOP),
        (HTTPS, HopFault.UNCLEAR, "550 5.7.1 x", NextStep.MAIL_HOSTS_ONLY),
        (HTTPS, HopFault.BUSY, "450 4.7.1 HTTP 429: x", NextStep.STOP),
        (HTTPS, HopFault.BUSY, "451 4.3.2 HTTP 503: x", NextStep.NEXT_HOP),
        (SMTP, HopFault.BUSY, "421 4.7.0 x", NextStep.NEXT_HOP),
    ],
)
def test_what_follows_a_hop(
    kind: TransportKind, fault: HopFault | None, reply: str, step: NextStep
) -> None:
    assert retry.next_step(result(kind, fault, reply)) is step


# --- memory (A8) -----


def test_a_definite_no_to_https_leaves_it_alone_for_a_day_doubling_to_a_week() -> None:
    health = BLANK
    blocks = []
    for n in range(5):
        now = NOW + n * 10 * DAY
        health = learn(health, result(HTTPS, HopFault.UNSUPPORTED), result(SMTP), now=now)
        blocks.append((health.https_block_until_s - now) / DAY)
    assert blocks == [1, 2, 4, 7, 7]


@pytest.mark.parametrize("fault", [HopFault.CONNECT, HopFault.TLS, HopFault.BROKEN])
def test_broken_https_is_left_alone_for_half_an_hour(fault: HopFault) -> None:
    health = learn(BLANK, result(HTTPS, fault), result(SMTP))
    assert health.https_block_until_s == NOW + 30 * MINUTE
    assert health.last_ok_smtp_s == NOW


def test_nothing_is_left_alone_when_smtp_did_not_succeed() -> None:
    health = learn(BLANK, result(HTTPS, HopFault.UNSUPPORTED), result(SMTP, HopFault.BROKEN))
    assert health.https_block_until_s == 0
    assert health.smtp_fail_streak == 1


def test_https_known_good_gets_a_second_chance() -> None:
    good = attrs.evolve(BLANK, last_ok_https_s=NOW - HOUR)
    once = learn(good, result(HTTPS, HopFault.CONNECT), result(SMTP))
    assert once.https_block_until_s == 0
    twice = learn(once, result(HTTPS, HopFault.CONNECT), result(SMTP))
    assert twice.https_block_until_s == NOW + 30 * MINUTE
    long_ago = attrs.evolve(BLANK, last_ok_https_s=NOW - DAY)
    assert learn(long_ago, result(HTTPS, HopFault.CONNECT), result(SMTP)).https_block_until_s


def test_https_that_works_clears_everything_and_its_host_is_remembered() -> None:
    bad = attrs.evolve(
        BLANK,
        https_block_until_s=NOW + DAY,
        https_fail_streak=3,
        smtp_fail_streak=2,
        connect_fail_since_s=NOW - DAY,
        connect_fail_streak=7,
        last_ok_smtp_s=5,
    )
    health = learn(bad, result(HTTPS))
    assert health == PeerHealth(
        domain="peer.test",
        last_ok_https_s=NOW,
        last_ok_smtp_s=5,
        learned_host="mx.peer.test",
        updated_s=NOW,
    )


def test_plain_http_is_remembered_for_itself() -> None:
    health = learn(BLANK, result(HTTPS, HopFault.CONNECT), result(HTTP))
    assert (health.last_ok_http_s, health.last_ok_https_s) == (NOW, 0)


def test_smtp_without_connection_lifts_the_block() -> None:
    blocked = attrs.evolve(BLANK, https_block_until_s=NOW + DAY)
    assert retry.without_block(blocked).https_block_until_s == 0


def test_a_peer_that_does_not_answer_pauses_longer_and_longer() -> None:
    health, now = BLANK, float(NOW)
    pauses = []
    for _ in range(9):
        health = learn(
            health, result(HTTPS, HopFault.CONNECT), result(SMTP, HopFault.CONNECT), now=now
        )
        pauses.append(health.not_before_s - now)
        now = health.not_before_s
    assert pauses == [30, 60, 120, 300, 600, 900, 1800, 3600, 3600]
    assert health.connect_fail_since_s == NOW
    assert health.connect_fail_streak == 9


def test_attempts_of_one_moment_count_once() -> None:
    down = (result(SMTP, HopFault.CONNECT),)
    assert learn(learn(BLANK, *down), *down).connect_fail_streak == 1


def test_a_peer_that_asks_for_patience_gets_an_hour_at_most() -> None:
    health = learn(BLANK, result(SMTP, HopFault.BUSY, retry_after_s=900.0))
    assert health.not_before_s == NOW + 900
    health = learn(BLANK, result(SMTP, HopFault.BUSY, retry_after_s=10**6))
    assert health.not_before_s == NOW + HOUR


def test_any_word_of_a_peer_ends_its_pause() -> None:
    down = learn(BLANK, result(SMTP, HopFault.CONNECT))
    for word in (result(HTTPS), result(SMTP), result(HTTPS, HopFault.UNCLEAR)):
        health = learn(down, word, now=NOW + HOUR)
        assert (health.connect_fail_streak, health.not_before_s) == (0, 0)
        assert health.connect_fail_since_s == 0


def test_no_attempt_teaches_nothing() -> None:
    assert learn(BLANK) is BLANK


def test_news_of_a_peer_end_its_pause_but_not_the_doubt() -> None:
    down = learn(BLANK, result(SMTP, HopFault.CONNECT))
    heard = retry.after_contact(down)
    assert (heard.not_before_s, heard.connect_fail_streak) == (0.0, 1)


@pytest.mark.parametrize(
    ("results", "is_down"),
    [
        ([result(HTTPS, HopFault.CONNECT), result(SMTP, HopFault.CONNECT)], True),
        ([result(HTTPS, HopFault.UNSUPPORTED), result(SMTP, HopFault.CONNECT)], True),
        ([result(HTTPS, HopFault.BROKEN), result(SMTP, HopFault.TLS)], True),
        ([result(SMTP, HopFault.BUSY)], True),
        ([result(HTTPS, HopFault.FORBIDDEN)], True),
        ([result(HTTPS, HopFault.CONNECT), result(SMTP, HopFault.BROKEN)], False),
        ([result(HTTPS, HopFault.AMBIGUOUS)], False),
        ([result(HTTPS, HopFault.UNCLEAR), result(SMTP, HopFault.CONNECT)], False),
        ([result(HTTPS, HopFault.BROKEN)], False),
        ([result(HTTPS)], False),
        ([], False),
    ],
)
def test_who_is_down(results: list[HopResult], is_down: bool) -> None:
    assert retry.is_down(results) is is_down


def test_who_can_be_reached_by_smtp() -> None:
    assert retry.is_reachable_by_smtp([result(HTTPS, HopFault.CONNECT)])
    assert retry.is_reachable_by_smtp([result(SMTP, HopFault.CONNECT), result(SMTP, HopFault.BUSY)])
    assert not retry.is_reachable_by_smtp(
        [result(SMTP, HopFault.CONNECT), result(SMTP, HopFault.TLS)]
    )


def test_whose_fault_it_cannot_be() -> None:
    assert retry.is_the_message_innocent(
        [result(HTTPS, HopFault.TLS), result(SMTP, HopFault.CONNECT)]
    )
    assert not retry.is_the_message_innocent(
        [result(HTTPS, HopFault.BROKEN), result(SMTP, HopFault.CONNECT)]
    )
    assert not retry.is_the_message_innocent([])
