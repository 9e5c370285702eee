"""Exchangers: servers that keep mail for us until it is asked for (federation-web.md A14)."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Exchanger:
    """One exchanger, as the operator named it. `url` without a trailing slash.

    `last_poll_s`: when it was asked last, unix seconds; 0: never.
    """

    name: str
    url: str
    is_enabled: bool = True
    interval_s: int = 60
    last_poll_s: int = 0
