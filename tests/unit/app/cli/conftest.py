"""A tool for each test, with a clock that stands still."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from chatmail.app.cli.context import Context
from tests.unit.app.cli.tool import Tool
from tests.unit.fakes.operator import Operator


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tool:
    world = Operator()
    world.clock.time_s = float(int(time.time()))
    still = SimpleNamespace(time=world.clock.now_s)
    monkeypatch.setattr("chatmail.app.cli.queue.time", still)
    found = Tool(world, capsys)
    monkeypatch.setattr(
        Context, "call_server", lambda _, method, params: found.answer(method, params)
    )
    return found
