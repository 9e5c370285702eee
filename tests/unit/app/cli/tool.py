"""The command line against a server in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import trio

from chatmail.adapters.control.methods import call
from chatmail.app.cli import context as contexts
from chatmail.app.cli.parser import Invocation, parse
from chatmail.app.cli.run import run
from chatmail.domain.wire.jsonrpc import RpcError
from tests.unit.fakes.operator import Operator

ANN = "annannann@chat.example"


class Tool:
    """Runs command lines against a server in memory."""

    def __init__(self, world: Operator, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = world
        self.services = world.services()
        self._capsys = capsys

    def answer(self, method: str, params: Mapping[str, object] | None) -> Any:
        try:
            return trio.run(call, self.services, method, params or {})
        except RpcError as error:
            raise contexts._failure(error.code, error.reasons or (error.message,)) from None

    def __call__(self, *line: str) -> tuple[int, str, str]:
        words = line[0].split() if len(line) == 1 else list(line)
        invocation = parse(words)
        assert isinstance(invocation, Invocation)
        code = run(invocation, {})
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def text(self, *line: str) -> str:
        code, out, err = self(*line)
        assert (code, err) == (0, "")
        return out

    def data(self, line: str) -> Any:
        code, out, err = self(f"{line} --json")
        assert (code, err) == (0, "")
        document = json.loads(out)
        assert out.count("\n") == 1
        assert document["ok"] is True
        return document["data"]
