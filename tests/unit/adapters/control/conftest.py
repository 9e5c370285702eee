"""A fresh world for each test of the operator's methods."""

from __future__ import annotations

import pytest

from tests.unit.adapters.control.operator_face import Face


@pytest.fixture
def face() -> Face:
    return Face()
