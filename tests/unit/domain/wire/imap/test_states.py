from __future__ import annotations

import pytest

from chatmail.domain.wire.imap.grammar import PARSERS
from chatmail.domain.wire.imap.states import (
    ALLOWED_IN,
    NO_TAG,
    State,
    problem_of,
    read_head,
    tag_of,
)

ANY = {b"CAPABILITY", b"NOOP", b"LOGOUT", b"ID"}
BEFORE_LOGIN = {b"STARTTLS", b"LOGIN", b"AUTHENTICATE"}
SELECTED = {b"CHECK", b"CLOSE", b"UNSELECT", b"EXPUNGE", b"UID"} | {
    b"FETCH",
    b"STORE",
    b"SEARCH",
    b"COPY",
    b"MOVE",
}


def allowed(state: State, *, tls_active: bool = True) -> set[bytes]:
    return {word for word in ALLOWED_IN if problem_of(word, state, tls_active) is None}


def test_each_command_has_its_states():
    assert set(ALLOWED_IN) == {*PARSERS, b"APPEND"}
    everything = set(ALLOWED_IN)
    assert allowed(State.NOT_AUTHENTICATED) == ANY | BEFORE_LOGIN - {b"STARTTLS"}
    assert allowed(State.AUTHENTICATED) == everything - BEFORE_LOGIN - SELECTED
    assert allowed(State.SELECTED) == everything - BEFORE_LOGIN
    assert allowed(State.LOGOUT) == set()


def test_idle_needs_no_mailbox():
    assert problem_of(b"IDLE", State.AUTHENTICATED, tls_active=True) is None


def test_without_tls_only_starttls_leads_on():
    assert allowed(State.NOT_AUTHENTICATED, tls_active=False) == ANY | {b"STARTTLS"}


@pytest.mark.parametrize("word", [b"LOGIN", b"AUTHENTICATE"])
def test_login_without_tls_is_privacyrequired(word):
    reply = problem_of(word, State.NOT_AUTHENTICATED, tls_active=False)
    assert reply == b"NO [PRIVACYREQUIRED] TLS required."


def test_starttls_inside_tls_is_bad():
    assert problem_of(b"STARTTLS", State.NOT_AUTHENTICATED, True).startswith(b"BAD")


@pytest.mark.parametrize("tag", [b"A1", b"1", b"x" * 64, b"a.b-c]d[e}f", b"&'!#$,/:;<=>?@^_`|~"])
def test_a_tag_is_of_astring_characters(tag):
    head = read_head(tag + b"  noop x")
    assert (head.tag, head.word, head.args_at) == (tag, b"NOOP", len(tag) + 6)
    assert tag_of(tag) == tag


@pytest.mark.parametrize(
    "tag",
    [b"", b"+", b"a+b", b"x" * 65, b"a*", b"a%", b'"a"', b"(a", b"a\\", b"\xc3", b"a\0", b"{a"],
)
def test_any_other_tag_is_none(tag):
    assert read_head(tag + b" NOOP") is None
    assert tag_of(tag + b" NOOP") == NO_TAG
