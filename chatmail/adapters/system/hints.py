"""Hints inside one process: a mailbox changed, so wake whoever has it open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from chatmail.domain.model.mailbox import MailboxHint, MailboxId


class HintBoard:
    """Wakers by mailbox. A waker only sets an event or cancels a scope: it cannot fail."""

    def __init__(self) -> None:
        self._wakers: dict[MailboxId, dict[object, Callable[[], None]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._wakers.values()))

    def publish(self, hint: MailboxHint) -> None:
        """Call every waker of this mailbox; never awaits, never raises."""
        wakers = self._wakers.get(hint.mailbox)
        if wakers is not None:
            # A waker may end its own or another subscription.
            for wake in tuple(wakers.values()):
                wake()

    @contextmanager
    def subscribe(self, mailbox: MailboxId, wake: Callable[[], None]) -> Iterator[None]:
        """Call `wake` at each change while the context is open."""
        token = object()
        self._wakers.setdefault(mailbox, {})[token] = wake
        try:
            yield
        finally:
            wakers = self._wakers[mailbox]
            del wakers[token]
            if not wakers:
                del self._wakers[mailbox]
