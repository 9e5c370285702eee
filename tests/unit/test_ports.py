"""What tests choose ports by."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.ports import LAST, SHARES, draw_port, share


def test_those_who_draw_at_once_never_draw_the_same() -> None:
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda _: draw_port(), range(500)))
    assert len(set(drawn)) == len(drawn)


def test_workers_share_no_port() -> None:
    everybody = [port for worker in range(SHARES) for port in share(worker)]
    assert len(set(everybody)) == len(everybody)
    assert max(everybody) < LAST
