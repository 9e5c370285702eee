"""Commands about the queue and other relays, through the real parser."""

from __future__ import annotations

import io
import json

import pytest

from chatmail.app.cli.output import Exit
from chatmail.domain.model.federation import LedgerEvent, PeerHealth
from chatmail.domain.model.outbound import queue_name
from tests.unit.app.cli.tool import ANN, Tool


class Terminal(io.StringIO):
    """A person's answer."""

    def isatty(self) -> bool:
        return True


# --- queue ----------------------------------------------------------------------------------------


def test_the_queue_is_told_in_words(tool: Tool) -> None:
    assert tool.text("queue") == "0 deliveries wait, 0 of them held back\n"
    assert tool.text("queue list") == "the queue is empty\n"
    id = queue_name(
        tool.world.queue_mail(ANN, "b@peer.example", reply="451 4.4.1 no route", age_s=7200)
    )
    tool.world.memory.remember(
        PeerHealth(domain="peer.example", not_before_s=tool.world.clock.now_s() + 600)
    )
    status = tool.text("queue status")
    assert "1 deliveries wait" in status
    assert "peer.example" in status
    assert "(unreachable)" in status
    listed = tool.text("queue list")
    assert id in listed
    assert "451 4.4.1 no route" in listed
    shown = tool.text(f"queue show {id}")
    assert "to b@peer.example: 3 attempts" in shown
    assert "smtp mx.peer.example: 451 4.4.1 no route" in shown
    assert "secret" not in status + listed + shown
    assert tool.data("queue status")["count"] == 1
    assert tool.data("queue")["count"] == 1


def test_why_is_told_in_words_an_operator_understands(tool: Tool) -> None:
    for _ in range(2):
        tool.world.queue_mail(ANN, "b@peer.example", reply="451 4.4.1 no route")
    tool.world.queue_mail(ANN, "c@peer.example")
    now_s = tool.world.clock.now_s()
    tool.world.memory.remember(
        PeerHealth(
            domain="peer.example",
            not_before_s=now_s + 600,
            connect_fail_since_s=int(now_s) - 3600,
            connect_fail_streak=7,
            https_block_until_s=int(now_s) + 900,
            last_ok_smtp_s=int(now_s) - 86400,
        )
    )
    told = tool.text("queue why peer.example")
    assert "3 deliveries wait for peer.example" in told
    assert "no server there was ready for mail, first 1h ago" in told
    assert "(7 attempts in a row)" in told
    assert "one delivery is tried in 10m;" in told
    assert "HTTPS did not work there" in told
    assert "last delivered: smtp 1d ago" in told
    assert "2 × 451 4.4.1 no route (smtp mx.peer.example, 30s ago)" in told
    assert "1 × not tried yet" in told
    assert "0 deliveries wait" in tool.text("queue why quiet.example")


def test_entries_are_named_by_id_domain_or_address(tool: Tool) -> None:
    id = queue_name(tool.world.queue_mail(ANN, "b@peer.example"))
    assert tool.data(f"queue retry {id}") == {"retried": 1}
    assert tool.data("queue retry peer.example") == {"retried": 1}
    assert tool.data("queue retry --domain other.example") == {"retried": 0}
    assert tool.data("queue retry 2001:db8::1") == {"retried": 0}
    assert tool.data("queue hold --recipient b@peer.example") == {"held": 1}
    assert "held back (chatmail queue release" in tool.text("queue why peer.example")
    assert tool.data(f"queue release --sender {ANN}") == {"released": 1}
    assert tool.data(f"queue remove {id} -y") == {"removed": 1}
    assert tool("queue hold")[0] == Exit.USAGE
    assert tool("queue show " + "0" * 13)[0] == Exit.NOT_FOUND
    assert tool("queue show nonsense")[0] == Exit.FAILURE


def test_purging_asks_and_may_be_about_one_address(tool: Tool) -> None:
    tool.world.queue_mail(ANN, "b@peer.example")
    tool.world.queue_mail("bobbobbob@chat.example", ANN.replace("chat", "peer"))
    code, out, err = tool("queue purge")
    assert (code, out) == (Exit.USAGE, "")
    assert "--yes" in err
    assert tool.data(f"queue purge {ANN} -y") == {"removed": 1}
    assert tool.data("queue purge annannann@peer.example --recipient -y") == {"removed": 1}
    assert tool.data("queue purge --domain peer.example -y") == {"removed": 0}


def test_what_cannot_be_undone_is_asked_on_a_terminal(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool.world.queue_mail(ANN, "b@peer.example")
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    code, out, err = tool("queue purge --json")
    assert code == 0
    assert json.loads(out) == {
        "ok": True,
        "command": "queue purge",
        "message": "aborted",
        "data": {},
    }
    assert "[y/N]" in err
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert "1 deliveries were removed" in tool("queue purge")[1]


# --- federation -----------------------------------------------------------------------------------


def test_both_spellings_of_the_policy_work(tool: Tool) -> None:
    assert "every relay that is not blocked" in tool.text("federation status")
    assert tool.data("federation policy reject")["policy"] == "REJECT"
    assert "allowed relays only" in tool.text("federation list")
    assert tool.data("federation policy accept")["policy"] == "ACCEPT"
    assert tool.data("federation policy block Peer.example")["domain"] == "peer.example"
    assert tool.data("federation allow other.example")["action"] == "allow"
    data = tool.data("federation policy list")
    assert data["policy"] == "ACCEPT"
    assert {(one["domain"], one["action"]) for one in data["rules"]} == {
        ("peer.example", "block"),
        ("other.example", "allow"),
    }
    assert tool.data("federation remove peer.example")["remaining"] == 1
    assert tool("federation policy block")[0] == Exit.USAGE
    assert tool("federation remove peer.example")[0] == Exit.NOT_FOUND
    assert tool("federation block chat.example")[0] == Exit.FAILURE
    assert tool("federation flush")[0] == Exit.USAGE
    assert tool.data("federation policy flush -y") == {"removed": 1}
    assert "federation is off" in tool.text("federation disable")
    assert tool.data("federation enable")["enabled"] is True


def test_dismissal_is_told_for_what_it_is(tool: Tool) -> None:
    assert "accepted and discarded" in tool.text("federation dismiss spam.example")
    assert tool.data("federation dismiss-list")["domains"][0]["domain"] == "spam.example"
    assert tool.data("federation undismiss spam.example")["remaining"] == 0
    assert tool.data("federation dismiss-flush -y") == {"removed": 0}
    assert tool.text("federation dismiss-list") == "no mail is discarded\n"


def test_peers_are_listed_with_their_traffic(tool: Tool) -> None:
    tool.world.ledger.delivered(
        "peer.example", LedgerEvent.OK_SMTP, tool.world.clock.now_s() - 60, 25
    )
    shown = tool.text("federation")
    assert "peer.example" in shown
    assert "25 ms" in shown
    (traffic,) = tool.data("federation status")["traffic"]
    assert traffic == {"domain": "peer.example", "sent": 1, "failed": 0, "latency_ms": 25.0}
    assert "was not known" in tool.text("federation forget peer.example")


@pytest.mark.parametrize("group", ["endpoint-cache", "dns-cache"])
def test_overrides_have_two_names(tool: Tool, group: str) -> None:
    assert tool.text(f"{group} list") == "all mail goes its usual way\n"
    made = tool.data(f"{group} set a.example https://x.example/in because --no-smtp")
    assert (made["target_host"], made["smtp_fallback"]) == ("https://x.example/in", False)
    assert tool.text(f"{group} get a.example") == "a.example -> https://x.example/in\n"
    assert "because" in tool.text(f"{group} list")
    assert tool.data(f"{group} remove a.example") == {"deleted": "a.example"}
    assert tool(f"{group} get a.example")[0] == Exit.NOT_FOUND
    assert tool(f"{group} set a.example chat.example")[0] == Exit.FAILURE


def test_there_is_no_open_relay_whatever_is_stored(tool: Tool) -> None:
    for word in ("status", "enable", "status"):
        data = tool.data(f"openrelay {word}")
        assert (data["allowed"], data["file_default"]) == (False, False)
    assert data["db_override"] == "true"
    assert "without effect" in tool.text("openrelay disable")


def test_the_size_for_other_relays_is_shown_and_set(tool: Tool) -> None:
    assert tool.data("federation-size status")["effective_bytes"] == 70 << 20
    assert tool.data("federation-size set 50M")["max_federation_size"] == "50M"
    assert tool.data("federation-size reset")["max_federation_size"] is None
