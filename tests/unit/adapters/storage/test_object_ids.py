"""Object identifiers: stable, opaque, never given twice."""

from __future__ import annotations

import re

import attrs
import pytest

from chatmail.adapters.storage.object_ids import KeyedObjectIds
from chatmail.adapters.storage.segments import Place
from chatmail.domain.model.account import AccountId
from chatmail.domain.model.mailbox import (
    MailboxEntry,
    MailboxId,
    MailboxInfo,
    Modseq,
    Uid,
    UidValidity,
)

INFO = MailboxInfo(
    id=MailboxId(7),
    name="INBOX",
    uid_validity=UidValidity(1_700_000_000),
    uid_next=Uid(1),
    highest_modseq=Modseq(1),
    messages=0,
    unseen=0,
    deleted=0,
    octets=0,
    special_use=None,
    is_subscribed=False,
)
ENTRY = MailboxEntry(Uid(1), Modseq(2), frozenset(), 100, 50, 1_700_000_000, Place(12, 1, 0))
ANN, BOB = AccountId(1), AccountId(2)


@pytest.fixture
def ids() -> KeyedObjectIds:
    return KeyedObjectIds(b"k" * 32)


def test_ids_are_of_the_grammar_and_of_one_length(ids: KeyedObjectIds) -> None:
    found = {ids.mailbox(attrs.evolve(INFO, id=MailboxId(number))) for number in range(300)}
    places = (Place(number, 1, 0) for number in range(300))
    found |= {ids.email(ANN, attrs.evolve(ENTRY, blob=place)) for place in places}
    assert len(found) == 600
    assert all(re.fullmatch(r"[FM][A-Za-z0-9_-]{20}", one) for one in found)


def test_ids_are_those_of_the_server_key(ids: KeyedObjectIds) -> None:
    again, other = KeyedObjectIds(b"k" * 32), KeyedObjectIds(b"x" * 32)
    assert again.mailbox(INFO) == ids.mailbox(INFO) != other.mailbox(INFO)
    assert again.email(ANN, ENTRY) == ids.email(ANN, ENTRY) != other.email(ANN, ENTRY)


def test_a_mailbox_keeps_its_id_under_another_name(ids: KeyedObjectIds) -> None:
    assert ids.mailbox(attrs.evolve(INFO, name="x", messages=3)) == ids.mailbox(INFO)


def test_a_mailbox_made_again_has_another_id_even_with_the_same_number(
    ids: KeyedObjectIds,
) -> None:
    later = attrs.evolve(INFO, uid_validity=UidValidity(INFO.uid_validity + 1))
    assert ids.mailbox(later) != ids.mailbox(INFO)


def test_a_copy_has_the_id_of_its_original(ids: KeyedObjectIds) -> None:
    copy = attrs.evolve(ENTRY, uid=Uid(9), modseq=Modseq(30), flags=frozenset(("\\Seen",)))
    copy = attrs.evolve(copy, blob=Place(12, 8, 4096))  # wherever the octets lie
    assert ids.email(ANN, copy) == ids.email(ANN, ENTRY)


def test_one_message_has_different_ids_in_different_accounts(ids: KeyedObjectIds) -> None:
    assert ids.email(ANN, ENTRY) != ids.email(BOB, ENTRY)


def test_a_number_given_again_is_another_message(ids: KeyedObjectIds) -> None:
    assert ids.email(ANN, attrs.evolve(ENTRY, size=101)) != ids.email(ANN, ENTRY)
    assert ids.email(ANN, attrs.evolve(ENTRY, internal_date_s=5)) != ids.email(ANN, ENTRY)
