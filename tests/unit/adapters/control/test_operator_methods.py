"""Methods about the queue and other relays, and what all of them refuse."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from chatmail.adapters.control.methods import METHODS, call
from chatmail.adapters.control.services import ControlServices
from chatmail.domain.model.exchanger import Exchanger
from chatmail.domain.model.federation import LedgerEvent, PeerHealth
from chatmail.domain.model.outbound import queue_name
from chatmail.domain.usecases.poll_exchanger import Polled
from chatmail.domain.wire.jsonrpc import ErrorCode, RpcError
from tests.unit.adapters.control.operator_face import ANN, Face
from tests.unit.adapters.control.world import make_services

NEW = ("queue.", "federation.", "endpoint.", "exchanger.", "domain.", "dkim.", "account.", "block.")


def without_parts() -> ControlServices:
    return make_services()


@pytest.mark.parametrize("method", [name for name in METHODS if name.startswith(NEW)])
async def test_a_program_without_that_part_says_so(method: str) -> None:
    if method in ("federation.get", "federation.set"):
        return  # these are settings
    with pytest.raises(RpcError) as told:
        await call(without_parts(), method, {"domain": "a.example", "id": "0" * 13})
    assert told.value.code in (ErrorCode.UNAVAILABLE, ErrorCode.INVALID_PARAMS)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("queue.get", {"id": "nonsense"}),
        ("queue.get", {}),
        ("queue.list", {"limit": 0}),
        ("queue.list", {"limit": True}),
        ("queue.list", {"cursor": "x"}),
        ("queue.list", {"sender": "nobody"}),
        ("queue.list", {"sender": 7}),
        ("queue.list", {"other": 1}),
        ("queue.hold", {}),
        ("queue.delete", {}),
        ("queue.why", {"domain": "a b"}),
        ("federation.set", {}),
        ("federation.set", {"policy": "perhaps"}),
        ("federation.set", {"enabled": "yes"}),
        ("federation.rule.add", {"domain": "a b"}),
        ("federation.rule.add", {"domain": "a.example", "action": "love"}),
        ("federation.dismiss.add", {"domain": "chat.example"}),
        ("endpoint.set", {"lookup_key": "a.example", "target_host": "ftp://x"}),
        ("endpoint.set", {"lookup_key": "a.example"}),
        ("domain.zone", {"format": "poem"}),
        ("domain.checkDns", {"probes": 1}),
        ("domain.checkDns", {"resolver": "ns.example"}),
        ("domain.zone", {"domain": "a b"}),
        ("account.get", {"username": "nobody"}),
        ("account.list", {"inactive": "soon"}),
        ("account.list", {"sort": "beauty"}),
        ("account.create", {"username": "x@far.example"}),
        ("account.create", {"username": ANN, "password": "x"}),
    ],
)
async def test_wrong_parameters_are_refused(
    face: Face, method: str, params: dict[str, Any]
) -> None:
    assert (await face.refused(method, **params)).code is ErrorCode.INVALID_PARAMS


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("queue.get", {"id": "0" * 13}),
        ("queue.retry", {"id": "0" * 13}),
        ("queue.delete", {"id": "0" * 13}),
        ("federation.rule.remove", {"domain": "a.example"}),
        ("federation.dismiss.remove", {"domain": "a.example"}),
        ("endpoint.get", {"lookup_key": "a.example"}),
        ("endpoint.remove", {"lookup_key": "a.example"}),
        ("account.get", {"username": ANN}),
        ("account.delete", {"username": ANN}),
        ("block.remove", {"username": ANN}),
    ],
)
async def test_what_is_not_there_is_told(face: Face, method: str, params: dict[str, Any]) -> None:
    assert (await face.refused(method, **params)).code is ErrorCode.NOT_FOUND


# --- queue ----------------------------------------------------------------------------------------


async def test_the_queue_is_shown_without_content(face: Face) -> None:
    id = face.world.queue_mail(ANN, "b@peer.example", reply="451 4.4.1 no", age_s=120)
    now_s = int(face.world.clock.now_s())
    status = await face("queue.status")
    assert (status["count"], status["held"], status["oldest_unix"]) == (1, 0, now_s - 120)
    assert (status["max_parallelism"], status["initial_retry_secs"]) == (64, 30.0)
    assert (status["max_delivery_secs"], status["post_init_delay_secs"]) == (172800.0, 10.0)
    assert status["destinations"][0]["domain"] == "peer.example"
    (entry,) = (await face("queue.list"))["entries"]
    assert entry == {
        "id": queue_name(id),
        "mail_from": ANN,
        "rcpt_to": "b@peer.example",
        "domain": "peer.example",
        "size_bytes": 23,
        "tries_count": 3,
        "queued_at_unix": now_s - 120,
        "last_attempt_unix": now_s - 30,
        "next_attempt_unix": now_s + 300,
        "held": False,
        "last_error": "451 4.4.1 no",
        "last_transport": "smtp",
        "last_host": "mx.peer.example",
    }
    shown = await face("queue.get", id=queue_name(id))
    assert shown["recipients"] == [entry]
    assert "secret" not in repr((status, entry, shown))


async def test_a_long_list_goes_on_behind_its_cursor(face: Face) -> None:
    for _ in range(3):
        face.world.queue_mail(ANN, "b@peer.example")
    first = await face("queue.list", limit=2)
    rest = await face("queue.list", limit=2, cursor=first["cursor"])
    assert (len(first["entries"]), len(rest["entries"]), rest["cursor"]) == (2, 1, None)


async def test_entries_are_retried_held_released_and_removed(face: Face) -> None:
    id = queue_name(face.world.queue_mail("", "b@peer.example", is_report=True))
    face.world.queue_mail(ANN, "c@other.example")
    assert await face("queue.retry", id=id) == {"retried": 1}
    assert await face("queue.retry", domain="none.example") == {"retried": 0}
    assert await face("queue.hold", domain="peer.example") == {"held": 1}
    assert (await face("queue.get", id=id))["recipients"][0]["held"] is True
    assert (await face("queue.get", id=id))["mail_from"] == ""
    assert await face("queue.release") == {"released": 1}
    assert await face("queue.delete", id=id) == {"removed": 1}
    assert await face("queue.purge") == {"removed": 1}


async def test_exchangers_are_set_listed_and_polled(face: Face) -> None:
    assert await face("exchanger.list") == {"exchangers": [], "total": 0}
    shown = {
        "name": "hub",
        "url": "https://hub.test",
        "enabled": True,
        "poll_interval": 60,
        "last_poll_at": None,
    }
    assert await face("exchanger.set", name="hub", url="https://hub.test/") == shown
    await face.world.exchangers.claim("hub", 86400)
    listed = (await face("exchanger.list"))["exchangers"]
    assert listed == [shown | {"last_poll_at": "1970-01-02T00:00:00Z"}]
    refused = await face.refused("exchanger.set", name="hub", url="ftp://x")
    assert refused.code is ErrorCode.INVALID_PARAMS
    assert (await face("exchanger.enable", name="hub", enabled=False))["enabled"] is False
    for method in ("exchanger.enable", "exchanger.remove"):
        assert (await face.refused(method, name="other")).code is ErrorCode.NOT_FOUND
    assert (await face.refused("exchanger.poll", name="hub")).code is ErrorCode.UNAVAILABLE

    async def ask(exchanger: Exchanger) -> Polled:
        return Polled(is_reached=True, taken=2, known=1)

    desk = attrs.evolve(face.services.exchangers, ask=ask)  # type: ignore[type-var]
    face.services = attrs.evolve(face.services, exchangers=desk)
    polled = {"reached": True, "taken": 2, "refused": 0, "known": 1, "later": 0}
    assert await face("exchanger.poll", name="hub") == polled
    assert (await face.refused("exchanger.poll", name="other")).code is ErrorCode.NOT_FOUND
    assert await face("exchanger.remove", name="hub") == {"deleted": "hub"}


async def test_why_tells_what_is_known(face: Face) -> None:
    face.world.queue_mail(ANN, "b@peer.example", reply="451 4.4.1 no")
    now = int(face.world.clock.now_s())
    face.world.memory.remember(
        PeerHealth(domain="peer.example", not_before_s=5.5, last_ok_smtp_s=4, updated_s=now)
    )
    await face("endpoint.set", lookup_key="other.example", target_host="x.example")
    found = await face("queue.why", domain="PEER.example")
    assert (found["entries"], found["backoff_until_unix"]) == (1, 5)
    assert found["last_ok"] == {"https": None, "http": None, "smtp": 4}
    assert found["diagnostics"] == [
        {
            "reply": "451 4.4.1 no",
            "transport": "smtp",
            "host": "mx.peer.example",
            "entries": 1,
            "last_unix": int(face.world.clock.now_s()) - 30,
        }
    ]
    assert (await face("queue.why", domain="other.example"))["override"] == "x.example"


# --- federation -----------------------------------------------------------------------------------


async def test_policy_and_switch_are_settings(face: Face) -> None:
    assert await face("federation.get") == {"enabled": True, "policy": "ACCEPT"}
    assert await face("federation.set", policy="REJECT") == {"enabled": True, "policy": "REJECT"}
    assert (await face("federation.set", enabled=False))["enabled"] is False
    view = await face("setting.get", name="federation_policy")
    assert (view["value"], view["applies"]) == ("reject", "live")


async def test_rules_and_dismissals_are_kept(face: Face) -> None:
    added = await face("federation.rule.add", domain="Peer.example")
    assert (added["domain"], added["action"], added["total"]) == ("peer.example", "listed", 1)
    await face("federation.rule.add", domain="other.example", action="allow")
    assert (await face("federation.rule.list"))["total"] == 2
    removed = await face("federation.rule.remove", domain="peer.example")
    assert removed == {"domain": "peer.example", "remaining": 1}
    assert await face("federation.rule.clear") == {"removed": 1}
    assert (await face("federation.dismiss.add", domain="spam.example"))["total"] == 1
    listed = await face("federation.dismiss.list")
    assert (listed["domains"][0]["domain"], listed["total"]) == ("spam.example", 1)
    assert (await face("federation.dismiss.remove", domain="spam.example"))["remaining"] == 0
    assert await face("federation.dismiss.clear") == {"removed": 0}


async def test_overrides_are_kept(face: Face) -> None:
    made = await face(
        "endpoint.set",
        lookup_key="192.0.2.9",
        target_host="https://x.example",
        comment="test",
        smtp_fallback=False,
    )
    assert (made["lookup_key"], made["smtp_fallback"]) == ("[192.0.2.9]", False)
    assert await face("endpoint.get", lookup_key="[192.0.2.9]") == made
    assert (await face("endpoint.list"))["entries"] == [made]
    assert await face("endpoint.remove", lookup_key="192.0.2.9") == {"deleted": "192.0.2.9"}


async def test_peers_have_only_numbers(face: Face) -> None:
    ledger = face.world.ledger
    ledger.delivered("peer.example", LedgerEvent.OK_HTTPS, 5.0, 40)
    ledger.count("peer.example", LedgerEvent.FAIL_SMTP, 9.0, "451 no")
    ledger.count("peer.example", LedgerEvent.INBOUND_HTTP, 9.0)
    (peer,) = (await face("federation.peers"))["servers"]
    assert peer["success_https"] == peer["successful_deliveries"] == peer["failed_smtp"] == 1
    assert (peer["inbound_deliveries"], peer["mean_latency_ms"], peer["last_active"]) == (1, 40, 9)
    assert None not in peer.values()
    assert (await face("federation.forget", domain="peer.example"))["was_known"] is False
