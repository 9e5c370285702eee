"""MailboxWatch: which change becomes which line, against RFC 5465."""

from __future__ import annotations

import pytest

from chatmail.domain.model.mailbox import MailboxId, MailboxInfo, Modseq, Uid, UidValidity
from chatmail.domain.wire.imap.commands import NotifyGroup
from chatmail.domain.wire.imap.notify import MailboxWatch

MESSAGES = frozenset(("MESSAGENEW", "MESSAGEEXPUNGE"))
FLAGS = MESSAGES | {"FLAGCHANGE"}
NAMES = frozenset(("MAILBOXNAME", "SUBSCRIPTIONCHANGE"))


def box(id: int, name: str, **changes: object) -> MailboxInfo:
    fields: dict[str, object] = {
        "id": MailboxId(id),
        "name": name,
        "uid_validity": UidValidity(id * 10),
        "uid_next": Uid(5),
        "highest_modseq": Modseq(9),
        "messages": 2,
        "unseen": 1,
        "deleted": 0,
        "octets": 99,
        "special_use": None,
        "is_subscribed": False,
    }
    return MailboxInfo(**{**fields, **changes})  # type: ignore[arg-type]


def told(
    before: list[MailboxInfo],
    after: list[MailboxInfo],
    *groups: NotifyGroup,
    selected: int | None = None,
    with_modseq: bool = False,
    own: tuple[str, ...] = (),
) -> list[bytes]:
    watch = MailboxWatch(groups, before)
    watch.own_change(*own)
    chosen = None if selected is None else MailboxId(selected)
    lines = watch.update(after, chosen, with_modseq=with_modseq, is_utf8=False)
    assert watch.update(after, chosen, with_modseq=with_modseq, is_utf8=False) == b""
    return lines.split(b"\r\n")[:-1]


PERSONAL = NotifyGroup("PERSONAL", (), MESSAGES)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        pytest.param(
            {"uid_next": Uid(6), "messages": 3, "unseen": 2},
            b'* STATUS "a" (MESSAGES 3 UIDNEXT 6)',
            id="new",
        ),
        pytest.param({"messages": 1}, b'* STATUS "a" (MESSAGES 1 UIDNEXT 5)', id="expunged"),
        pytest.param(
            {"uid_next": Uid(6)}, b'* STATUS "a" (MESSAGES 2 UIDNEXT 6)', id="one came, one went"
        ),
        pytest.param({"unseen": 0}, None, id="flags are not asked for"),
    ],
)
def test_messages_elsewhere_are_told_by_status(
    changes: dict[str, object], line: bytes | None
) -> None:
    before = [box(1, "a"), box(2, "b")]
    after = [box(1, "a", highest_modseq=Modseq(10), **changes), before[1]]
    assert told(before, after, PERSONAL) == ([line] if line else [])
    assert told(before, after, PERSONAL, selected=1) == []
    if line:
        with_modseq = line[:-1] + b" HIGHESTMODSEQ 10)"
        assert told(before, after, PERSONAL, with_modseq=True) == [with_modseq]


def test_flags_elsewhere_are_told_to_who_asks() -> None:
    """RFC 5465 §5.1: without CONDSTORE as far as UNSEEN shows them."""
    group = NotifyGroup("PERSONAL", (), FLAGS)
    before = [box(1, "a")]
    seen = [box(1, "a", highest_modseq=Modseq(10), unseen=0)]
    other = [box(1, "a", highest_modseq=Modseq(10))]
    assert told(before, seen, group) == [b'* STATUS "a" (UIDVALIDITY 10 UNSEEN 0)']
    assert told(before, other, group) == []
    assert told(before, other, group, with_modseq=True) == [
        b'* STATUS "a" (UIDVALIDITY 10 UNSEEN 1 HIGHESTMODSEQ 10)'
    ]


@pytest.mark.parametrize(
    ("group", "names"),
    [
        pytest.param(NotifyGroup("PERSONAL", (), MESSAGES), "INBOX,a,a/b,ab", id="personal"),
        pytest.param(NotifyGroup("INBOXES", (), MESSAGES), "INBOX", id="inboxes"),
        pytest.param(NotifyGroup("SUBSCRIBED", (), MESSAGES), "ab", id="subscribed"),
        pytest.param(NotifyGroup("SUBTREE", ("a",), MESSAGES), "a,a/b", id="subtree"),
        pytest.param(NotifyGroup("MAILBOXES", ("a/b", "*"), MESSAGES), "a/b", id="mailboxes"),
        pytest.param(NotifyGroup("SELECTED", (), MESSAGES), "", id="selected is another matter"),
    ],
)
def test_which_mailboxes_a_group_is_about(group: NotifyGroup, names: str) -> None:
    before = [box(1, "INBOX"), box(2, "a"), box(3, "a/b"), box(4, "ab", is_subscribed=True)]
    watch = MailboxWatch((group,), before)
    found = [
        info.name for info in before if watch.events(info.name, is_subscribed=info.is_subscribed)
    ]
    assert ",".join(found) == names


def test_groups_about_one_mailbox_add_up() -> None:
    watch = MailboxWatch((PERSONAL, NotifyGroup("MAILBOXES", ("a",), NAMES)), ())
    assert watch.events("a") == MESSAGES | NAMES
    assert watch.events("b") == MESSAGES


def test_first_status_of_what_is_watched() -> None:
    watch = MailboxWatch(
        (NotifyGroup("SUBTREE", ("a",), FLAGS), NotifyGroup("MAILBOXES", ("b",), MESSAGES)),
        [box(1, "a"), box(2, "a/x"), box(3, "b"), box(4, "c")],
    )
    assert watch.statuses(MailboxId(1), with_modseq=False, is_utf8=False).split(b"\r\n")[:-1] == [
        b'* STATUS "a/x" (MESSAGES 2 UIDNEXT 5 UIDVALIDITY 20 HIGHESTMODSEQ 9)',
        b'* STATUS "b" (MESSAGES 2 UIDNEXT 5 UIDVALIDITY 30)',
    ]


# --- names ------------------------------------------------------------------------------------

ALL_NAMES = NotifyGroup("PERSONAL", (), NAMES)


def test_created_with_its_parent() -> None:
    before = [box(1, "INBOX")]
    after = [*before, box(2, "a/b", is_subscribed=True)]
    assert told(before, after, ALL_NAMES) == [
        b'* LIST (\\HasNoChildren \\Subscribed) "/" "a/b"',
        b'* LIST (\\Noselect \\NonExistent \\HasChildren) "/" "a"',
    ]
    assert told(before, after, ALL_NAMES, own=("a/b",)) == []


def test_deleted() -> None:
    before = [box(1, "INBOX"), box(2, "a")]
    assert told(before, before[:1], ALL_NAMES) == [
        b'* LIST (\\Noselect \\NonExistent \\HasNoChildren) "/" "a"'
    ]


def test_deleted_and_created_again_is_one_line_and_new_numbers() -> None:
    before, after = [box(1, "a")], [box(2, "a")]
    group = NotifyGroup("PERSONAL", (), NAMES | FLAGS)
    assert told(before, after, group) == [
        b'* LIST (\\HasNoChildren) "/" "a"',
        b'* STATUS "a" (MESSAGES 2 UIDNEXT 5 UIDVALIDITY 20 HIGHESTMODSEQ 9)',
    ]


def test_renamed_tells_the_old_name_once_for_all_children() -> None:
    before = [box(1, "a"), box(2, "a/b"), box(3, "c")]
    after = [box(1, "n/a"), box(2, "n/a/b"), before[2]]
    assert told(before, after, ALL_NAMES) == [b'* LIST (\\HasChildren) "/" "n/a" ("OLDNAME" ("a"))']
    old_only = NotifyGroup("MAILBOXES", ("a",), NAMES)
    assert len(told(before, after, old_only)) == 1
    assert told(before, after, ALL_NAMES, own=("a", "n/a")) == []


def test_a_child_with_a_way_of_its_own_is_told() -> None:
    before = [box(1, "a"), box(2, "a/b")]
    after = [box(1, "n"), box(2, "other")]
    assert told(before, after, ALL_NAMES) == [
        b'* LIST (\\HasNoChildren) "/" "n" ("OLDNAME" ("a"))',
        b'* LIST (\\HasNoChildren) "/" "other" ("OLDNAME" ("a/b"))',
    ]


def test_subscribed_and_not() -> None:
    off, on = [box(1, "a")], [box(1, "a", is_subscribed=True)]
    group = NotifyGroup("MAILBOXES", ("a",), frozenset(("SUBSCRIPTIONCHANGE",)))
    assert told(off, on, group) == [b'* LIST (\\HasNoChildren \\Subscribed) "/" "a"']
    assert told(on, off, group) == [b'* LIST (\\HasNoChildren) "/" "a"']
    names = NotifyGroup("MAILBOXES", ("a",), frozenset(("MAILBOXNAME",)))
    assert told(off, on, names) == []


def test_names_are_utf8_for_who_enabled_it() -> None:
    watch = MailboxWatch((ALL_NAMES,), ())
    assert watch.update([box(1, "ü")], None, with_modseq=False, is_utf8=True) == (
        '* LIST (\\HasNoChildren) "/" "ü"\r\n'.encode()
    )


@pytest.mark.parametrize(
    ("changes", "is_told"),
    [
        pytest.param({"uid_next": Uid(7), "messages": 4, "highest_modseq": Modseq(10)}, False),
        pytest.param(
            {"uid_next": Uid(8), "messages": 5, "highest_modseq": Modseq(11)}, True, id="more"
        ),
        pytest.param(
            {"uid_next": Uid(7), "messages": 3, "highest_modseq": Modseq(11)}, True, id="expunged"
        ),
        pytest.param(
            {"uid_next": Uid(7), "messages": 4, "highest_modseq": Modseq(11)}, True, id="flags"
        ),
    ],
)
def test_own_arrivals_are_news_only_with_what_others_did(
    changes: dict[str, object], is_told: bool
) -> None:
    watch = MailboxWatch((PERSONAL,), [box(1, "a")])
    after = box(1, "a", **changes)
    watch.own_arrivals(after, 2, 1)
    lines = watch.update([after], None, with_modseq=False, is_utf8=False)
    assert bool(lines) is is_told


def test_own_arrivals_in_a_mailbox_never_told_of_are_news() -> None:
    watch = MailboxWatch((PERSONAL,), [])
    watch.own_arrivals(box(1, "a"), 2, 1)
    assert watch.update([box(1, "a")], None, with_modseq=False, is_utf8=False) != b""


@pytest.mark.parametrize(("told", "is_told"), [(Modseq(10), False), (Modseq(9), True)])
def test_a_mailbox_that_is_left_is_news_from_where_the_client_knew_it(
    told: Modseq, is_told: bool
) -> None:
    watch = MailboxWatch((PERSONAL,), [box(1, "a")])
    after = box(1, "a", messages=1, highest_modseq=Modseq(10))
    watch.left(after, told)
    assert (watch.update([after], None, with_modseq=False, is_utf8=False) != b"") is is_told
