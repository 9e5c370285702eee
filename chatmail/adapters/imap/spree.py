"""How long waiting sessions may be told of news one after the other before somebody else runs.

They are told where a commit is published (`idle`), in one step of the event loop. A message to a
hundred sessions must not make the sender's reply, or anybody, wait for all of them.
"""

from __future__ import annotations

import math
from typing import Final

SPREE_S: Final = 0.002
GAP_S: Final = 0.0002
"""A pause that ends a spree: four times what telling one session takes."""


class Spree:
    """The one spree of a process. Times are Trio's clock."""

    __slots__ = ("_began_s", "_last_s")

    def __init__(self) -> None:
        self._began_s = -math.inf
        self._last_s = -math.inf

    def goes_on(self, now_s: float) -> bool:
        """Say whether one more session may be told now; the others wake their own tasks."""
        if now_s - self._last_s > GAP_S:
            self._began_s = now_s
        self._last_s = now_s
        return now_s - self._began_s < SPREE_S
