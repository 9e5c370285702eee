"""Methods about this relay: its zone and keys, its accounts, its state."""

from __future__ import annotations

import attrs
import pytest

from chatmail.domain.formats.zone import RecordType, needed_records
from chatmail.domain.model.errors import PermanentFailure
from chatmail.domain.wire.jsonrpc import ErrorCode
from tests.unit.adapters.control.operator_face import ANN, Face
from tests.unit.adapters.control.world import StillRelay
from tests.unit.fakes.zone import MemoryZone

# --- dns ------------------------------------------------------------------------------------------


async def test_the_zone_is_told_in_both_ways(face: Face) -> None:
    zone = await face("domain.zone")
    assert (zone["needed"], zone["addresses_known"]) == (True, True)
    assert zone["text"].startswith("; Required\nchat.example. 3600 IN A 192.0.2.1\n")
    assert {"name", "type", "ttl", "value", "required"} <= set(zone["records"][0])
    assert (await face("domain.zone", format="json"))["text"].startswith("[")


async def test_the_check_tells_expected_and_found(face: Face) -> None:
    world = face.world
    world.zone.publish(needed_records(await world.describe_zone()()))
    assert (await face("domain.checkDns"))["required_ok"] is True
    world.zone.found["chat.example", RecordType.MX] = ("10 old.example",)
    report = await face("domain.checkDns", probes=False)
    (mx,) = [one for one in report["records"] if one["type"] == "MX"]
    assert mx == {
        "name": "chat.example",
        "type": "MX",
        "required": True,
        "status": "differs",
        "expected": "10 chat.example.",
        "found": ["10 old.example"],
    }
    assert (report["required_ok"], report["all_ok"], report["probes"]) == (False, False, [])


async def test_a_key_is_made_published_and_switched_to(face: Face) -> None:
    world = face.world
    (shown,) = (await face("dkim.list"))["keys"]
    assert (shown["selector"], shown["in_use"]) == ("opendkim", True)
    assert shown["rdata"].startswith('"v=DKIM1;k=rsa;p=AAAA')
    assert (await face("dkim.check"))["required_ok"] is False
    world.zone.publish(needed_records(await world.describe_zone()()))
    assert (await face("dkim.check"))["required_ok"] is True
    made = await face("dkim.rotate")
    assert (made["state"], made["keys"][0]["in_use"]) == ("made", False)
    assert (await face("dkim.rotate"))["state"] == "waiting"
    assert world.keys.active.selector == "opendkim"
    world.zone.found[made["keys"][0]["name"], RecordType.TXT] = (made["keys"][0]["value"],)
    switched = await face("dkim.rotate")
    assert (switched["state"], switched["keys"][0]["in_use"]) == ("switched", True)
    assert world.keys.active.selector == "next"


async def test_a_key_is_switched_to_without_dns_when_told(face: Face) -> None:
    await face("dkim.rotate")
    assert (await face("dkim.rotate", force=True))["state"] == "switched"


async def test_a_key_file_in_trouble_is_told(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise PermanentFailure("/state/dkim/x.pem: cannot be read")

    monkeypatch.setattr(face.world.keys, "records", broken)
    error = await face.refused("dkim.list")
    assert (error.code, error.message) == (
        ErrorCode.UNAVAILABLE,
        "/state/dkim/x.pem: cannot be read",
    )


# --- accounts -------------------------------------------------------------------------------------


async def test_accounts_are_made_shown_blocked_and_deleted(face: Face) -> None:
    made = await face("account.create", username=ANN, password="a-long-password")
    assert made["email"] == made["username"] == ANN
    assert made["dclogin"].startswith(f"dclogin:{ANN}")
    again = await face.refused("account.create", username=ANN)
    assert again.code is ErrorCode.CONFLICT
    random = await face("account.create")
    assert random["username"] != ANN
    listed = await face("account.list", q="annann")
    assert ([one["username"] for one in listed["accounts"]], listed["total"]) == ([ANN], 2)
    status = await face("account.status")
    assert (status["login_count"], status["database"]) == (2, "sqlite")
    assert (await face("block.add", username=ANN, reason="spam"))["has_account"] is True
    info = await face("account.get", username=ANN)
    assert (info["blocklisted"], info["block_reason"], info["blocked"]) == (True, "spam", True)
    listed = await face("block.list")
    assert listed["entries"] == [
        {"username": ANN, "reason": "spam", "blocked_at": "1970-01-01T00:00:00Z"}
    ]
    await face("block.remove", username=ANN)
    deleted = await face("account.delete", username=ANN, reason="gone")
    assert (deleted["deleted"], deleted["blocked"]) == (True, True)
    assert (await face("account.get", username=ANN))["credentials"] is False


# --- status ---------------------------------------------------------------------------------------


async def test_status_tells_of_the_queue_and_of_the_last_look_at_dns(face: Face) -> None:
    face.services = attrs.evolve(face.services, operation=StillRelay())
    face.world.queue_mail(ANN, "b@peer.example", age_s=60)
    status = await face("server.status")
    assert status["queue"]["count"] == 1
    assert "dns" not in status
    await face("domain.checkDns", domain="chat.example")
    status = await face("server.status")
    assert status["dns"]["checked_unix"] == int(face.world.clock.now_s())
    assert "chat.example MX" in status["dns"]["missing"]


async def test_another_resolver_can_be_named(face: Face) -> None:
    other = MemoryZone()
    other.publish(needed_records(await face.world.describe_zone()()))
    asked: list[str] = []

    def reader(address: str) -> MemoryZone:
        asked.append(address)
        return other

    assert face.services.dns is not None
    desk = attrs.evolve(face.services.dns, reader=reader)
    face.services = attrs.evolve(face.services, dns=desk)
    assert (await face("domain.checkDns"))["required_ok"] is False
    assert (await face("domain.checkDns", resolver="[2001:db8::53]"))["required_ok"] is True
    assert asked == ["2001:db8::53"]


async def test_the_zone_of_one_domain(face: Face) -> None:
    zone = await face("domain.zone", domain="other.example")
    assert zone["records"] == []
    assert (await face("domain.zone", domain="Chat.example."))["needed"] is True
