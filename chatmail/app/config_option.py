"""How a key of the configuration file is declared: default, profile, older names."""

from __future__ import annotations

from typing import Final, TypeVar

import attrs

T = TypeVar("T")

UNSET: Final = object()


def option(
    default: T, *, madmail: object = UNSET, aliases: tuple[str, ...] = (), secret: bool = False
) -> T:
    """Declare a key.

    Args:  madmail: the default of that profile, as the file would give it. aliases: older
        names; one without a dot is read in its own section and at the top. secret: never shown.
    """
    metadata = {"madmail": madmail, "aliases": aliases, "secret": secret}
    field: T = attrs.field(default=default, metadata=metadata)
    return field
