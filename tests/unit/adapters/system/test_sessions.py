from __future__ import annotations

from chatmail.adapters.system.sessions import SessionTable
from chatmail.domain.model.account import AccountId

ALICE, BOB = AccountId(1), AccountId(2)


def test_limit_counts_per_account_and_face() -> None:
    table = SessionTable()
    tickets = [table.admit(ALICE, "imap", 2, lambda: None) for _ in range(3)]
    assert tickets[2] is None
    assert None not in tickets[:2]
    assert table.admit(ALICE, "smtp", 2, lambda: None) is not None
    assert table.admit(BOB, "imap", 2, lambda: None) is not None
    table.leave(tickets[0])
    table.leave(tickets[0])
    table.leave(None)
    assert table.admit(ALICE, "imap", 2, lambda: None) is not None


def test_close_all_ends_each_session_of_the_account_once() -> None:
    table = SessionTable()
    closed: list[str] = []
    ticket = table.admit(ALICE, "imap", 9, lambda: closed.append("imap"))
    table.admit(ALICE, "smtp", 9, lambda: closed.append("smtp"))
    table.admit(BOB, "imap", 9, lambda: closed.append("bob"))
    table.close_all(ALICE)
    table.close_all(ALICE)
    assert sorted(closed) == ["imap", "smtp"]
    table.leave(ticket)
    assert (table.count(ALICE), table.count(BOB), table.count()) == (0, 1, 1)


def test_nothing_is_kept_of_accounts_without_sessions() -> None:
    table = SessionTable()
    table.leave(table.admit(ALICE, "imap", 1, lambda: None))
    assert table.admit(BOB, "imap", 0, lambda: None) is None
    assert table._accounts == {}


def test_close_may_leave_by_itself() -> None:
    table = SessionTable()
    tickets: list[object] = []
    tickets.append(table.admit(ALICE, "imap", 1, lambda: table.leave(tickets[0])))
    table.close_all(ALICE)
    assert table.count() == 0
