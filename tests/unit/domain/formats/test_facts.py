"""Findings: which answer counts at which door."""

from __future__ import annotations

import pytest

from chatmail.domain.formats.facts import NO_FINDING, Finding, broken
from chatmail.domain.model.message import Door


@pytest.mark.parametrize(
    ("door", "rule"),
    [
        (Door.SUBMISSION, "M-08"),
        (Door.APPEND, "M-08"),
        (Door.SMTP_INBOUND, "A-05"),
        (Door.HTTPS_INBOUND, "A-05"),
    ],
)
def test_finding_of_a_door(door: Door, rule: str) -> None:
    assert Finding("M-08", "A-05").at(door) == rule


def test_an_earlier_layer_hides_a_later_one() -> None:
    assert NO_FINDING.then(broken("O-07")) == Finding("O-07", "O-07")
    assert Finding("M-08", None).then(broken("O-07")) == Finding("M-08", "O-07")
    assert broken("M-08").then(NO_FINDING) == broken("M-08")
