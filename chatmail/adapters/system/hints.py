"""Hints inside one process: a mailbox changed, so wake whoever has it open."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

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

    def subscribe(
        self, mailbox: MailboxId, wake: Callable[[], None]
    ) -> AbstractContextManager[None]:
        """Call `wake` at each change while the context is open."""
        return _Subscription(self._wakers, mailbox, wake)


class _Subscription:
    """A waker's stay on the board. Every idle session holds one: a generator takes 900 octets."""

    __slots__ = ("_all", "_mailbox", "_wake")

    def __init__(
        self,
        wakers: dict[MailboxId, dict[object, Callable[[], None]]],
        mailbox: MailboxId,
        wake: Callable[[], None],
    ) -> None:
        self._all = wakers
        self._mailbox = mailbox
        self._wake = wake

    def __enter__(self) -> None:
        self._all.setdefault(self._mailbox, {})[self] = self._wake

    def __exit__(self, *_: object) -> None:
        wakers = self._all[self._mailbox]
        del wakers[self]
        if not wakers:
            del self._all[self._mailbox]
