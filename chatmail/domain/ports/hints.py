"""Hints: "something changed", never what. A lost or doubled hint costs latency only."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from chatmail.domain.model.mailbox import MailboxHint, MailboxId


class MailboxHints(Protocol):
    """Wake-ups of sessions by mailbox. Sync."""

    def publish(self, hint: MailboxHint) -> None:
        """Call every waker of this mailbox, from the event loop; never awaits, never raises."""

    def subscribe(
        self, mailbox: MailboxId, wake: Callable[[], None]
    ) -> AbstractContextManager[None]:
        """Call `wake` at each change while the context is open."""
