"""The drain signal reaches every waiting session exactly once."""

from __future__ import annotations

from chatmail.app.drain import Drain


def test_waiting_sessions_are_called_once() -> None:
    drain, calls = Drain(), []
    with drain.subscribe(lambda: calls.append("a")), drain.subscribe(lambda: calls.append("b")):
        assert not drain.is_set()
        drain.start()
        drain.start()
    assert calls == ["a", "b"]
    assert drain.is_set()


def test_late_and_gone_sessions() -> None:
    drain, calls = Drain(), []
    with drain.subscribe(lambda: calls.append("gone")):
        pass
    drain.start()
    with drain.subscribe(lambda: calls.append("late")):
        assert calls == ["late"]
