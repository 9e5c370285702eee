from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.reply_line import (
    MAX_REPLY_LINE,
    clean_text,
    parse_reply_text,
    reply_line,
)


@pytest.mark.parametrize(
    ("code", "texts", "line"),
    [
        pytest.param(550, ["5.1.1 No such user"], "550 5.1.1 No such user", id="as-it-is"),
        pytest.param(550, ["No such user"], "550 5.0.0 No such user", id="permanent"),
        pytest.param(450, ["Later"], "450 4.0.0 Later", id="temporary"),
        pytest.param(250, ["Ok"], "250 2.0.0 Ok", id="positive"),
        pytest.param(
            550, ["5.1.1 No such", "5.1.1 user"], "550 5.1.1 No such user", id="several-lines"
        ),
        pytest.param(550, ["No", "5.7.1 way"], "550 5.7.1 No way", id="code-in-a-later-line"),
        pytest.param(550, ["4.2.0 Odd"], "550 5.0.0 Odd", id="class-does-not-fit"),
        pytest.param(550, ["5.5.0 Odd"], "550 5.0.0 Odd", id="core-would-retry"),
        pytest.param(554, ["5.5.0 Odd"], "554 5.0.0 Odd", id="core-would-retry-any-code"),
        pytest.param(550, ["5.7.1: Odd"], "550 5.7.1 Odd", id="colon"),
        pytest.param(550, ["5.7.1.2 version"], "550 5.0.0 5.7.1.2 version", id="not-a-code"),
        pytest.param(550, [""], "550 5.0.0 No reason given", id="empty"),
        pytest.param(550, [], "550 5.0.0 No reason given", id="nothing"),
        pytest.param(550, ["5.1.1"], "550 5.1.1 No reason given", id="code-alone"),
        pytest.param(550, ["a\x00b\r\x1b[1mc\xe4"], "550 5.0.0 a b [1mc", id="unprintable"),
    ],
)
def test_replies_become_one_clean_line(code: int, texts: list[str], line: str) -> None:
    assert reply_line(code, texts) == line


def test_the_caller_may_name_the_missing_code() -> None:
    assert reply_line(552, ["Too big"], absent="5.3.4") == "552 5.3.4 Too big"
    assert reply_line(552, ["5.2.2 Full"], absent="5.3.4") == "552 5.2.2 Full"


@given(st.integers(200, 599), st.lists(st.text(max_size=400), max_size=5))
def test_whatever_a_peer_says_the_form_is_kept(code: int, texts: list[str]) -> None:
    line = reply_line(code, texts)
    assert re.fullmatch(r"[2-5]\d\d [2-5]\.\d{1,3}\.\d{1,3} [\x20-\x7e]*[\x21-\x7e]", line)
    assert len(line) <= MAX_REPLY_LINE
    assert line[0] == line[4] == str(code)[0]
    assert line[4:10] != "5.5.0 "


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("554 5.7.1 No\r\nmore", "554 5.7.1 No", id="first-line"),
        pytest.param("  450 4.2.0 Later", "450 4.2.0 Later", id="space-in-front"),
        pytest.param("550-5.1.1 No", "550 5.1.1 No", id="hyphen"),
        pytest.param("250", "250 2.0.0 No reason given", id="code-alone"),
        pytest.param("Forbidden", None, id="prose"),
        pytest.param("5500 x", None, id="other-number"),
        pytest.param("354 go", None, id="no-verdict"),
        pytest.param("", None, id="empty"),
    ],
)
def test_texts_in_the_form_of_a_reply_are_recognised(text: str, line: str | None) -> None:
    assert parse_reply_text(text) == line


def test_clean_text_is_bounded() -> None:
    assert len(clean_text("x" * 100_000)) <= 4096
