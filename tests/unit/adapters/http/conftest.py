"""The inbound surfaces of a relay that knows two people."""

from __future__ import annotations

import pytest

from tests.unit.adapters.http.posts import CAROL
from tests.unit.adapters.inbound.surfaces import Surfaces
from tests.unit.domain.usecases.inbound import BOB


@pytest.fixture
def surfaces() -> Surfaces:
    surfaces = Surfaces()
    surfaces.relay.accounts.add(BOB)
    surfaces.relay.accounts.add(CAROL)
    return surfaces
