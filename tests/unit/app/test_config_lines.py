from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from chatmail.app.config_lines import key_lines, line_of

TEXT = '''\
top = 1
# [commented]
[server]
domain = "a = [b" # c = 1
  extra_domains = [
    "one", # "]
    'two]',
  ]
state_dir = """
[not.a.table]
fake = 1
"""
[ listen ]
"smtp" = ['x']
turn.relay = { a = 1,
}
after.'it' = \'\'\'
x = 1\'\'\'
last = 1
[[array.of]]
x = 1'''


def test_lines_of_keys_and_tables() -> None:
    tomllib.loads(TEXT.replace("turn.relay = { a = 1,\n}", "turn.relay = { a = 1 }\n"))
    assert key_lines(TEXT) == {
        ("top",): 1,
        ("server",): 3,
        ("server", "domain"): 4,
        ("server", "extra_domains"): 5,
        ("server", "state_dir"): 9,
        ("listen",): 13,
        ("listen", "smtp"): 14,
        ("listen", "turn", "relay"): 15,
        ("listen", "after", "it"): 17,
        ("listen", "last"): 19,
        ("array", "of"): 20,
        ("array", "of", "x"): 21,
    }


def test_keys_inside_inline_tables_have_the_line_of_their_parent() -> None:
    lines = key_lines("a = 1\nlimits = { max = 3 }\n")
    assert line_of(lines, ("limits", "max")) == 2
    assert line_of(lines, ("absent", "key")) is None


def test_windows_line_ends() -> None:
    assert key_lines("[a]\r\nb = 1\r\nc = 2\r\n")[("a", "c")] == 3


@given(st.text(alphabet="ab=[]{}\"'#\n .\\", max_size=60))
def test_any_text_has_lines_within_it(text: str) -> None:
    for number in key_lines(text).values():
        assert 1 <= number <= text.count("\n") + 1
