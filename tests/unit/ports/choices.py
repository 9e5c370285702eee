"""What histories of a store are made of: people, mailboxes, messages, flags, dates."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.unit.ports.model import INBOX
from tests.unit.ports.world import NOW_S

PEOPLE = ("ann", "bob")
NAMES = (INBOX, "a", "a/b", "c", "c/b")

people = st.sampled_from(PEOPLE)
names = st.sampled_from(NAMES)
places = st.tuples(people, names)  # where a mailbox may be
number = st.integers(0, 100)
boxes = st.tuples(people, number)  # one that exists, by a number modulo how many there are
picks = st.lists(number, min_size=1, max_size=5)  # messages, likewise, and one that is not there
keyword = st.sampled_from(("$Work", "$work", "$Forwarded"))
flags = st.builds(
    lambda system, extra: frozenset({*system, *extra}),
    st.sets(st.sampled_from(("\\Seen", "\\Deleted", "\\Flagged")), max_size=3),
    st.just(()) | keyword.map(lambda one: (one,)),
)
contents = st.binary(max_size=60)
dates = st.integers(NOW_S - 9, NOW_S)
