"""Where changed settings are kept, and what they take hold of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import attrs

from chatmail.domain.model.settings import SettingValue


@attrs.frozen
class StoredSettings:
    """Everything stored, as text by key, and the generation it was read at.

    The generation grows by one with each change, whoever made it.
    """

    generation: int
    values: Mapping[str, str]


class SettingsStore(Protocol):
    """Settings that were changed while running; they win over file and environment."""

    async def all(self) -> StoredSettings:
        """Return everything that is stored, unknown keys included, as of one commit.

        Raises:  TransientFailure: the store could not be read.
        """

    async def generation(self) -> int:
        """Return the present generation. Cheaper than `all`. Raises:  TransientFailure."""

    async def change(
        self, changes: Mapping[str, str | None], expected_generation: int | None = None
    ) -> StoredSettings | None:
        """Store these texts and remove the keys whose text is None, in one transaction.

        Args:  expected_generation: change nothing unless this is still the present one.
        Returns:  everything as it is after the change; None: another change came first.
        Raises:  TransientFailure: nothing was stored.
        """


class SettingsInForce(Protocol):
    """The configuration below the stored settings, and the switch to new ones.

    Keys are those of the configuration file, such as `limits.max_message_size`.
    """

    def configured(self, config_key: str) -> SettingValue:
        """Return what file, environment and defaults say."""

    def origin(self, config_key: str) -> str:
        """Return where that comes from: `default`, `file` or `env`."""

    def problems(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """Say what of these stored texts does not fit together or with the file; empty: all does.

        Only what a change could mend is told: problems of the file alone are not.
        """

    async def prepare(self, changes: Mapping[str, str | None]) -> tuple[str, ...]:
        """Do what has to succeed before these changes are stored; None resets.

        Returns:  why it did not; empty: all is ready.
        """

    def follow(self, stored: StoredSettings) -> None:
        """Take over what is stored; an older generation than the present one is ignored."""

    def is_pending(self, key: str) -> bool:
        """Say whether a change of this setting waits for a reload."""
