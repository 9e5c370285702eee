from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.adapters.outbound.rig import Authority, make_authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that only who is told so trusts."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session", autouse=True)
def system_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """The only authority in the system's store, as far as these tests go."""
    made = make_authority(tmp_path_factory.mktemp("system"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(made.file))
        patch.setenv("SSL_CERT_DIR", str(made.folder / "none"))
        yield made
