"""What processes tell each other: a text others can read, and garbage that hurts nobody."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatmail.adapters.storage import notices
from chatmail.adapters.storage.notices import News


def test_what_is_told_is_heard() -> None:
    told = [
        notices.mailbox_changed(7, 912),
        notices.names_changed(3),
        notices.account_changed(4),
        notices.tokens_changed(5),
        notices.settings_changed(6),
        notices.REPORTS,
        notices.OUTBOUND,
        notices.PEERS,
        notices.peer_learned("[IPv6:2001:db8::1]"),
    ]
    (text,) = notices.texts("99", told)
    assert text == "99 m7:912 n3 a4 t5 s6 r o f h[IPv6:2001:db8::1]"
    news = News()
    assert not news
    news.add(text, "98")
    assert news == News(
        {7},
        {3},
        {4},
        {5},
        settings=True,
        reports=True,
        outbound=True,
        peers=True,
        learned={"[IPv6:2001:db8::1]"},
    )
    assert news


def test_own_notices_are_not_news() -> None:
    news = News()
    news.add("99 m7:912 r", "99")
    assert news == News(heard_self=True)


def test_nothing_to_tell_is_not_told() -> None:
    assert notices.texts("99", []) == []


def test_many_notices_take_several_texts_below_the_limit() -> None:
    told = [notices.mailbox_changed(number, 10**12) for number in range(3000)]
    found = notices.texts("99", told)
    assert len(found) > 1
    assert all(len(text) < 8000 for text in found)
    news = News()
    for text in found:
        news.add(text, "1")
    assert news.mailboxes == set(range(3000))


def test_one_thing_is_told_once() -> None:
    assert notices.texts("9", ["a1", "a1"]) == ["9 a1"]


@given(st.text())
def test_garbage_is_left_alone(text: str) -> None:
    news = News()
    news.add(text, "99")
    assert all(number >= 0 for number in news.mailboxes | news.accounts)


def test_letters_of_a_newer_version_are_left_alone() -> None:
    news = News()
    news.add("1 z5 m8:1 q", "99")
    assert news == News({8})
