"""Names, parents that do not exist, attributes."""

from __future__ import annotations

from chatmail.domain.wire.imap.listing import hierarchy, named_among, parents, true_attributes
from tests.unit.domain.wire.imap.test_responses import info


def test_parents_are_there_without_a_mailbox() -> None:
    known = hierarchy([info(name="a/b/c"), info(name="INBOX")])
    assert set(known) == {"a", "a/b", "a/b/c", "INBOX"}
    assert [known[name].has_children for name in ("a", "a/b", "a/b/c")] == [True, True, False]
    assert list(parents("a/b/c")) == ["a/b", "a"]


def test_attributes_are_all_told() -> None:
    known = hierarchy([info(name="a/b", is_subscribed=False, special_use="\\Sent"), info()])
    assert true_attributes(known["a"]) == ["\\Noselect", "\\NonExistent", "\\HasChildren"]
    assert true_attributes(known["a/b"]) == ["\\HasNoChildren", "\\Sent"]
    assert true_attributes(known["INBOX"]) == ["\\HasNoChildren", "\\Subscribed"]
    gone = named_among("gone", known)
    assert true_attributes(gone) == ["\\Noselect", "\\NonExistent", "\\HasNoChildren"]
    assert not gone.is_subscribed
    assert gone.special_use is None
