"""The final form of replies."""

from __future__ import annotations

import pytest

from chatmail.domain.formats.final_reply import as_permanent, expired, is_permanent


@pytest.mark.parametrize(
    ("reply", "final"),
    [
        ("450 4.4.1 No answer", "550 5.4.1 No answer"),
        ("451 4.5.0 Odd", "550 5.0.0 Odd"),
        ("554 5.7.1 No", "554 5.7.1 No"),
        ("nonsense", "550 5.0.0 nonsense"),
        ("", "550 5.0.0"),
    ],
)
def test_a_reply_becomes_final(reply: str, final: str) -> None:
    assert as_permanent(reply) == final
    assert is_permanent(final)


def test_expiry_names_the_last_reason_within_bounds() -> None:
    assert expired("") == "550 5.4.7 Delivery time expired"
    assert expired("450 4.2.0 Later") == "550 5.4.7 Delivery time expired: 450 4.2.0 Later"
    assert len(expired("x" * 1000)) == 300
