"""The messages of the self-test."""

from __future__ import annotations

from chatmail.app.selftest.letters import cleartext_letter, encrypted_letter
from chatmail.domain.model.verdict import Accept, RefusalReason, Refuse
from tests.builders import ALICE, BOB
from tests.unit.domain.scanning import verdict


def test_the_encrypted_letter_passes_our_own_gate() -> None:
    id, octets = encrypted_letter(ALICE, BOB)
    assert isinstance(verdict(octets), Accept)
    assert f"Message-ID: {id}\r\n".encode() in octets
    assert encrypted_letter(ALICE, BOB)[0] != id


def test_the_letter_in_clear_does_not() -> None:
    judged = verdict(cleartext_letter(ALICE, BOB)[1])
    assert isinstance(judged, Refuse)
    assert judged.reason is RefusalReason.ENCRYPTION_NEEDED
