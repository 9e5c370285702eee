from __future__ import annotations

from contextlib import ExitStack

from chatmail.adapters.system.hints import HintBoard
from chatmail.domain.model.mailbox import MailboxHint, MailboxId, Modseq

INBOX, OTHER = MailboxId(7), MailboxId(8)


def test_hint_wakes_exactly_the_sessions_of_its_mailbox() -> None:
    board, woken = HintBoard(), []
    board.publish(MailboxHint(INBOX, Modseq(1)))
    with (
        board.subscribe(INBOX, lambda: woken.append("a")),
        board.subscribe(INBOX, lambda: woken.append("b")),
        board.subscribe(OTHER, lambda: woken.append("c")),
    ):
        board.publish(MailboxHint(INBOX, Modseq(2)))
    board.publish(MailboxHint(INBOX, Modseq(3)))
    assert woken == ["a", "b"]
    assert len(board) == 0
    assert board._wakers == {}


def test_one_waker_may_subscribe_twice() -> None:
    board, woken = HintBoard(), []

    def wake() -> None:
        woken.append(1)

    with board.subscribe(INBOX, wake):
        with board.subscribe(INBOX, wake):
            board.publish(MailboxHint(INBOX, Modseq(1)))
        board.publish(MailboxHint(INBOX, Modseq(2)))
    assert len(woken) == 3


def test_waker_may_end_its_own_subscription() -> None:
    board, woken = HintBoard(), []
    with ExitStack() as stack:
        stack.enter_context(board.subscribe(INBOX, lambda: (woken.append(1), stack.close())))
        stack.enter_context(board.subscribe(INBOX, lambda: woken.append(2)))
        board.publish(MailboxHint(INBOX, Modseq(1)))
    assert woken == [1, 2]
