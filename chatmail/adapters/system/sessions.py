"""Live sessions by account and face: limits, and the way to end them all."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from chatmail.domain.model.account import AccountId


@attrs.define(eq=False)
class _Ticket:
    account: AccountId
    face: str
    close: Callable[[], None]


class SessionTable:
    """Every authenticated session of this process."""

    def __init__(self) -> None:
        self._accounts: dict[AccountId, dict[_Ticket, None]] = {}

    def admit(self, account: AccountId, face: str, limit: int, close: Callable[[], None]) -> object:
        """Register one session; None when the account already has `limit` of them on this face.

        `close` is called at most once, from the event loop, and must not raise.
        """
        tickets = self._accounts.get(account, {})
        if sum(ticket.face == face for ticket in tickets) >= limit:
            return None
        ticket = _Ticket(account, face, close)
        self._accounts.setdefault(account, {})[ticket] = None
        return ticket

    def leave(self, ticket: object) -> None:
        """Unregister a session by what `admit` returned; again, or None, does nothing."""
        if isinstance(ticket, _Ticket):
            tickets = self._accounts.get(ticket.account, {})
            tickets.pop(ticket, None)
            if not tickets:
                self._accounts.pop(ticket.account, None)

    def close_all(self, account: AccountId) -> None:
        """End every session of this account."""
        for ticket in self._accounts.pop(account, {}):
            ticket.close()

    def count(self, account: AccountId | None = None) -> int:
        """Return how many sessions live, of one account or of all."""
        if account is not None:
            return len(self._accounts.get(account, {}))
        return sum(map(len, self._accounts.values()))
