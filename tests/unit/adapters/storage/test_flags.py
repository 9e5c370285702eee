"""Flags as rows hold them."""

from __future__ import annotations

import pytest

from chatmail.adapters.storage.flags import decode_flags, encode_flags, spell
from chatmail.domain.model.mailbox import SYSTEM_FLAGS


@pytest.mark.parametrize(
    "flags", [(), ("\\Seen",), SYSTEM_FLAGS, ("$b", "$a", "\\Deleted"), ("$a",)]
)
def test_flags_survive_the_round_trip(flags: tuple[str, ...]) -> None:
    assert decode_flags(*encode_flags(frozenset(flags))) == set(flags)


def test_equal_flags_are_one_object() -> None:
    assert decode_flags(8, "$a") is decode_flags(8, "$a")


def test_keywords_take_the_spelling_first_used() -> None:
    flags, known = spell(frozenset({"\\Seen", "$WORK", "new"}), ("$Work",), learn=True)
    assert flags == {"\\Seen", "$Work", "new"}
    assert known == ("$Work", "new")


def test_what_is_removed_is_not_learnt() -> None:
    assert spell(frozenset({"$x"}), (), learn=False) == ({"$x"}, ())
