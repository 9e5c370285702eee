"""The Autocrypt Setup Message, asked directly; its forms are in the tables of the gate."""

from __future__ import annotations

import pytest

from tests.builders import make_message, setup_message
from tests.unit.domain.scanning import scan


def test_setup_message_is_told_from_others() -> None:
    assert scan(setup_message()).autocrypt_setup
    assert not scan(make_message()).autocrypt_setup


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"multipart/mixed", b"multipart/alternative"),
        (b"boundary=", b"other="),
        (b"Autocrypt-Setup-Message: v1", b"X: y"),
        (b"Content-Type: text/plain", b"X-Note: text"),
    ],
)
def test_another_frame_is_none(old: bytes, new: bytes) -> None:
    assert not scan(setup_message().replace(old, new, 1)).autocrypt_setup
