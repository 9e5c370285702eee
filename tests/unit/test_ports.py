"""What tests choose ports by."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.ports import LAST, SHARES, draw_port, share, take_share


def test_those_who_draw_at_once_never_draw_the_same() -> None:
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda _: draw_port(), range(min(500, len(share(0))))))
    assert len(set(drawn)) == len(drawn)


def test_shares_have_no_port_in_common() -> None:
    everybody = [port for number in range(SHARES) for port in share(number)]
    assert len(set(everybody)) == len(everybody)
    assert max(everybody) < LAST


def test_who_runs_beside_another_gets_another_share() -> None:
    one, holds_one = take_share()
    other, holds_other = take_share()
    for holder in (holds_one, holds_other):
        if holder is not None:
            holder.close()
    assert holds_one is None or holds_other is None or not set(one) & set(other)
