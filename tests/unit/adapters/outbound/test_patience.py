from __future__ import annotations

import pytest

from chatmail.adapters.outbound.patience import Patience


def test_the_waits_are_those_of_the_specification() -> None:
    """A2.7, A4.8, A4.9, A6.6, A6.7."""
    patience = Patience()
    assert (patience.stagger, patience.tls) == (0.25, 10)
    assert (patience.http_connect, patience.http_stall, patience.http_answer) == (10, 30, 60)
    assert (patience.http_idle, patience.http_requests, patience.http_idle_connections) == (
        60,
        100,
        4,
    )
    assert (patience.smtp_connect, patience.smtp_command) == (15, 60)
    assert (patience.smtp_stall, patience.smtp_verdict) == (60, 300)
    assert (patience.smtp_idle, patience.smtp_messages) == (30, 10)


@pytest.mark.parametrize(
    ("size", "seconds"), [(0, 60.0), (64 * 1024, 61.0), (30 << 20, 540.0), (1 << 40, 600.0)]
)
def test_a_request_may_take_as_long_as_its_size_allows(size: int, seconds: float) -> None:
    assert Patience().http_total(size) == seconds


def test_a_hop_by_smtp_may_take_longer_the_larger_it_is() -> None:
    assert Patience().smtp_total(0) < Patience().smtp_total(1 << 20)
