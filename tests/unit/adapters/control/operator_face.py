"""Calls of methods on an operator's world."""

from __future__ import annotations

from typing import Any

import pytest

from chatmail.adapters.control.methods import call
from chatmail.domain.wire.jsonrpc import RpcError
from tests.unit.fakes.operator import Operator

ANN = "annannann@chat.example"


class Face:
    """Calls methods on an operator's world."""

    def __init__(self) -> None:
        self.world = Operator()
        self.services = self.world.services()

    async def __call__(self, method: str, **params: Any) -> Any:
        return await call(self.services, method, params)

    async def refused(self, method: str, **params: Any) -> RpcError:
        with pytest.raises(RpcError) as told:
            await call(self.services, method, params)
        return told.value
