"""METADATA answers and push tokens."""

from __future__ import annotations

import pytest

from chatmail.domain.model.account import AccountId
from chatmail.domain.model.settings import IdentitySettings, SettingsSnapshot
from chatmail.domain.usecases.service_metadata import (
    DEVICE_TOKEN,
    MetadataRefusal,
    ServiceMetadata,
)
from tests.unit.fakes.tokens import MemoryDeviceTokens

ANN = AccountId(1)


class Clock:
    def now_s(self) -> float:
        return 1.8e9

    def monotonic_s(self) -> float:
        return 0.0


def service(**providers: object) -> ServiceMetadata:
    settings = SettingsSnapshot(
        identity=IdentitySettings(
            mail_domain="d",
            local_domains=frozenset("d"),
            hostname="d",
            operator_comment="hello",
            operator_mailto="mailto:op@d",
        )
    )
    return ServiceMetadata(
        tokens=MemoryDeviceTokens(),
        settings=lambda: settings,
        clock=Clock(),
        **providers,  # type: ignore[arg-type]
    )


async def test_values_come_in_the_asked_order_and_unknown_entries_are_left_out() -> None:
    answer = await service(turn=lambda: "h:1:2:p").get(
        ANN,
        "",
        (
            "/shared/vendor/deltachat/turn",
            "/shared/unknown",
            "/shared/admin",
            "/shared/comment",
            "/shared/vendor/deltachat/maxsmtprecipients",
        ),
    )
    assert answer.entries == (
        ("/shared/vendor/deltachat/turn", b"h:1:2:p"),
        ("/shared/admin", b"mailto:op@d"),
        ("/shared/comment", b"hello"),
        ("/shared/vendor/deltachat/maxsmtprecipients", b"1000"),
    )


async def test_services_that_are_off_are_nil() -> None:
    names = tuple(f"/shared/vendor/deltachat/{x}" for x in ("irohrelay", "turn", "appversions"))
    answer = await service().get(ANN, "", names)
    assert answer.entries == tuple((name, None) for name in names)


async def test_values_above_maxsize_are_left_out_and_counted() -> None:
    answer = await service().get(ANN, "", ("/shared/comment", "/shared/admin"), max_size=5)
    assert answer.entries == (("/shared/comment", b"hello"),)
    assert answer.longest_left_out == len(b"mailto:op@d")


@pytest.mark.parametrize(("depth", "count"), [(0, 0), (1, 2), (None, 6)])
async def test_depth(depth: int | None, count: int) -> None:
    answer = await service().get(ANN, "", ("/shared",), depth=depth)
    assert len(answer.entries) == count


async def test_server_entries_are_not_those_of_a_mailbox() -> None:
    meta = service()
    assert (await meta.get(ANN, "INBOX", ("/shared/comment",))).entries == ()
    assert (await meta.get(ANN, "", (DEVICE_TOKEN,))).entries == ()


async def test_tokens_are_added_and_joined_in_order_of_first_registration() -> None:
    meta = service()
    assert (await meta.get(ANN, "INBOX", (DEVICE_TOKEN,))).entries == ((DEVICE_TOKEN, None),)
    assert await meta.set(ANN, "INBOX", ((DEVICE_TOKEN, b"1111"),), None) == "1111"
    assert await meta.set(ANN, "INBOX", ((DEVICE_TOKEN, b"2222"),), None) == "2222"
    assert await meta.set(ANN, "INBOX", ((DEVICE_TOKEN, b"1111"),), None) == "1111"
    answer = await meta.get(ANN, "INBOX", (DEVICE_TOKEN,))
    assert answer.entries == ((DEVICE_TOKEN, b"1111 2222"),)


async def test_nil_removes_the_token_of_this_session_only() -> None:
    meta = service()
    await meta.set(ANN, "INBOX", ((DEVICE_TOKEN, b"other"),), None)
    assert await meta.set(ANN, "INBOX", ((DEVICE_TOKEN, None),), None) is None
    mine = await meta.set(ANN, "INBOX", ((DEVICE_TOKEN, b"mine"),), None)
    assert isinstance(mine, str)
    assert await meta.set(ANN, "INBOX", ((DEVICE_TOKEN, None),), mine) is None
    assert await meta.tokens.of(ANN, 1_800_000_000) == ["other"]


@pytest.mark.parametrize(
    ("mailbox", "name", "value", "refusal"),
    [
        ("", "/shared/comment", b"x", MetadataRefusal.NO_PERMISSION),
        ("INBOX", "/shared/x", None, MetadataRefusal.NO_PERMISSION),
        ("INBOX", "/private/comment", b"x", MetadataRefusal.NO_PRIVATE),
        ("", DEVICE_TOKEN, b"x", MetadataRefusal.NO_PRIVATE),
        ("INBOX", DEVICE_TOKEN, b"x" * 8193, MetadataRefusal.TOO_LONG),
        ("INBOX", DEVICE_TOKEN, b"", MetadataRefusal.BAD_TOKEN),
        ("INBOX", DEVICE_TOKEN, b"a b", MetadataRefusal.BAD_TOKEN),
        ("INBOX", DEVICE_TOKEN, b"a\n", MetadataRefusal.BAD_TOKEN),
        ("INBOX", DEVICE_TOKEN, b"\xff", MetadataRefusal.BAD_TOKEN),
    ],
)
async def test_refused_entries_store_nothing(
    mailbox: str, name: str, value: bytes | None, refusal: MetadataRefusal
) -> None:
    meta = service()
    entries = ((DEVICE_TOKEN, b"good"), (name, value))
    assert await meta.set(ANN, mailbox, entries, None) is not None
    assert await meta.set(ANN, mailbox, ((name, value),), None) is refusal
    if mailbox == "INBOX":
        assert await meta.tokens.of(ANN, 1_800_000_000) == []


async def test_a_token_of_8192_octets_is_taken() -> None:
    token = b"x" * 8192
    assert await service().set(ANN, "INBOX", ((DEVICE_TOKEN, token),), None) == token.decode()
