"""Commands about DNS, the queue, other relays and accounts, through the real parser."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio

from chatmail.adapters.control.methods import call
from chatmail.app.cli import accounts
from chatmail.app.cli import context as contexts
from chatmail.app.cli.context import Context
from chatmail.app.cli.output import Exit
from chatmail.app.cli.parser import Invocation, parse
from chatmail.app.cli.run import run
from chatmail.app.selftest.checks import Result, Trial
from chatmail.domain.formats.zone import RecordType, needed_records
from chatmail.domain.model.federation import LedgerEvent, PeerHealth
from chatmail.domain.model.outbound import queue_name
from chatmail.domain.ports.remote import DnsFault
from chatmail.domain.usecases.manage_accounts import AccountOrder
from chatmail.domain.wire.jsonrpc import RpcError
from tests.unit.app.cli.test_commands import STATUS
from tests.unit.fakes.operator import Operator

ANN = "annannann@chat.example"


class Tool:
    """Runs command lines against a server in memory."""

    def __init__(self, world: Operator, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = world
        self.services = world.services()
        self._capsys = capsys

    def answer(self, method: str, params: Mapping[str, object] | None) -> Any:
        try:
            return trio.run(call, self.services, method, params or {})
        except RpcError as error:
            raise contexts._failure(error.code, error.reasons or (error.message,)) from None

    def __call__(self, *line: str) -> tuple[int, str, str]:
        words = line[0].split() if len(line) == 1 else list(line)
        invocation = parse(words)
        assert isinstance(invocation, Invocation)
        code = run(invocation, {})
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def text(self, *line: str) -> str:
        code, out, err = self(*line)
        assert (code, err) == (0, "")
        return out

    def data(self, line: str) -> Any:
        code, out, err = self(f"{line} --json")
        assert (code, err) == (0, "")
        document = json.loads(out)
        assert out.count("\n") == 1
        assert document["ok"] is True
        return document["data"]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tool:
    world = Operator()
    world.clock.time_s = float(int(time.time()))
    still = SimpleNamespace(time=world.clock.now_s)
    monkeypatch.setattr("chatmail.app.cli.queue.time", still)
    found = Tool(world, capsys)
    monkeypatch.setattr(
        Context, "call_server", lambda _, method, params: found.answer(method, params)
    )
    return found


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


# --- dns ------------------------------------------------------------------------------------------


def publish(tool: Tool) -> None:
    facts = trio.run(tool.world.describe_zone())
    tool.world.zone.publish(needed_records(facts))


def test_the_zone_is_printed_or_written(tool: Tool, tmp_path: Path) -> None:
    printed = tool.text("dns zone")
    assert printed.startswith("; Required\nchat.example. 3600 IN A 192.0.2.1\n")
    assert tool.text("dns records") == printed
    path = tmp_path / "zone"
    assert str(path) in tool.text("dns", "zone", "--zonefile", str(path))
    assert path.read_text() == printed
    assert tool.text("dns zone --format deploy-shell").startswith("#!/bin/sh")
    assert tool("dns", "zone", "--zonefile", str(tmp_path / "no" / "zone"))[0] == Exit.FAILURE
    tool.world.addresses = ()
    assert "set server.public_ips" in tool.text("dns zone")


def test_a_check_ends_with_6_when_a_required_record_is_missing(tool: Tool) -> None:
    code, out, _ = tool("dns")
    assert code == Exit.CHECK_FAILED
    assert "MISSING  chat.example MX" in out
    assert "expected: 10 chat.example." in out
    publish(tool)
    assert "everything is as it should be" in tool.text("dns check")
    tool.world.zone.found["_dmarc.chat.example", RecordType.TXT] = ()
    assert tool("dns check")[0] == 0
    code, out, _ = tool("dns check --strict --no-probes --json")
    assert code == Exit.CHECK_FAILED
    assert json.loads(out)["ok"] is False
    tool.world.zone.found["chat.example", RecordType.MX] = ("10 old.example",)
    code, out, _ = tool("dns check --outbound mx.far.example")
    assert code == Exit.CHECK_FAILED
    assert "found:    10 old.example" in out
    assert tool.world.probes.outbound[-1] == "mx.far.example"
    tool.world.zone.found["chat.example", RecordType.MX] = DnsFault.TIMEOUT
    code, out, _ = tool("dns check")
    assert code == Exit.CHECK_FAILED
    assert "unknown  chat.example MX" in out
    assert "name servers did not answer" in out


def test_status_shows_what_waits_and_the_last_look_at_dns(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Relay:
        def status(self) -> Mapping[str, object]:
            return STATUS

        async def reload(self) -> tuple[str, ...]:
            return ()

    tool.services = attrs.evolve(tool.services, operation=Relay())
    tool.world.queue_mail(ANN, "b@peer.example", age_s=7200)
    shown = tool.text("status")
    assert "queue: 1 deliveries wait, oldest 2h ago" in shown
    assert "dns" not in shown
    tool("dns check --domain chat.example")
    assert "missing or wrong: chat.example A" in tool.text("status")
    publish(tool)
    tool("dns check")
    assert "all required records are there" in tool.text("status")


def test_a_literal_relay_is_told_that_it_needs_nothing(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool.services = Operator("[192.0.2.1]").services()
    for line in ("dns", "dns zone", "dkim check"):
        assert "no records needed" in tool.text(line)


def test_exchangers_are_named_switched_and_asked(tool: Tool) -> None:
    assert "no exchanger" in tool.text("exchanger")
    assert "asked every 90 s" in tool.text("exchanger add hub https://hub.test --interval 90")
    line = tool.text("exchanger list")
    assert "https://hub.test" in line
    assert "never" in line
    assert tool("exchanger add bad http://hub.test")[0] == Exit.FAILURE
    assert "not asked any more" in tool.text("exchanger disable hub")
    assert "off" in tool.text("exchanger list")
    assert "asked again" in tool.text("exchanger enable hub")
    assert tool("exchanger enable other")[0] == Exit.NOT_FOUND
    assert tool("exchanger poll hub")[0] != Exit.OK
    assert "was removed" in tool.text("exchanger remove hub")
    assert tool("exchanger remove hub")[0] == Exit.NOT_FOUND


def test_keys_are_shown_checked_and_rotated(tool: Tool) -> None:
    shown = tool.text("dkim show")
    assert '_domainkey.chat.example. 3600 IN TXT "v=DKIM1;k=rsa;p=AAAA;s=email;t=s"' in shown
    assert "\nv=DKIM1;k=rsa;p=AAAA;s=email;t=s\n" in shown
    assert tool("dkim check")[0] == Exit.CHECK_FAILED
    publish(tool)
    assert tool("dkim check")[0] == 0
    assert "a new key was made" in tool.text("dkim rotate")
    assert "to come" in tool.text("dkim show")
    assert "does not show the new key yet" in tool.text("dkim rotate")
    assert "signed with the new key" in tool.text("dkim rotate --force")


# --- accounts -------------------------------------------------------------------------------------


def test_accounts_are_made_shown_and_deleted(tool: Tool) -> None:
    assert tool.text("accounts list") == "there are no such accounts\n"
    made = tool.text(f"accounts create {ANN}")
    assert "password: " in made
    assert ANN in tool.text("accounts list --q annann --limit 5")
    assert tool.data("accounts list --inactive 90d --over-quota --sort used")["accounts"] == []
    assert "holds 0 messages" in tool.text(f"accounts info {ANN}")
    assert "1 accounts" in tool.text("accounts status")
    assert tool(f"accounts create {ANN}")[0] == Exit.FAILURE
    assert tool(f"accounts delete {ANN}")[0] == Exit.USAGE
    assert tool.data(f"accounts delete {ANN} was spam -y")["reason"] == "was spam"
    assert "was spam" in tool.text("accounts ban-list")
    assert "has no account" in tool.text(f"accounts info {ANN}")
    assert tool(f"delete {ANN} -y")[0] == Exit.NOT_FOUND
    assert tool.data(f"accounts unban {ANN}") == {"username": ANN}
    assert tool.text("ban-list") == "nobody is blocked\n"


def test_old_names_do_the_same(tool: Tool) -> None:
    assert tool.data(f"create-user {ANN} --json-only")["dclogin"].startswith("dclogin:")
    assert tool.data(f"blocklist add {ANN} --reason spam")["reason"] == "spam"
    assert tool.data("blocklist list")["entries"][0]["username"] == ANN
    assert tool.data(f"blocklist remove {ANN}") == {"username": ANN}
    assert tool.data(f"delete {ANN} -y --reason bye")["reason"] == "bye"


def test_random_accounts_come_with_a_link(tool: Tool) -> None:
    made = tool.data("accounts create-random")
    assert set(made) == {"username", "email", "password", "dclogin"}
    assert "for Delta Chat: dclogin:" in tool.text("accounts create-random")
    bare = tool.text("accounts create-random --json-only")
    assert set(json.loads(bare)) == {"dclogin"}


def test_given_passwords_are_not_repeated(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = tool(f"accounts create {ANN} --password hunter2hunter2 --json")
    assert code == 0
    assert "hunter2" not in out
    assert "can be seen by others" in err
    monkeypatch.setattr("sys.stdin", io.StringIO("from-a-pipe-1\n"))
    other = ANN.replace("ann", "bob")
    assert "password" not in tool.data(f"accounts create {other} --password-stdin")
    assert tool(f"accounts create x{ANN} --ask-password")[0] == Exit.USAGE


def test_a_ban_without_account_is_told(tool: Tool) -> None:
    assert "there is no account" in tool.text(f"accounts ban {ANN} a reason")


def test_the_orders_are_those_of_the_server() -> None:
    assert tuple(AccountOrder) == accounts._ORDERS


# --- test -----------------------------------------------------------------------------------------


def trying(tool: Tool, monkeypatch: pytest.MonkeyPatch, *, is_ok: bool) -> list[Trial]:
    """Have checks end as told, in a relay that runs; returns the trials they were made on."""
    trials: list[Trial] = []

    def run_none(trial: Trial, names: list[str]) -> list[Result]:
        trials.append(trial)
        if trial.create is not None:
            trial.account(0)
        return [Result(name=name, is_ok=is_ok, detail="why", seconds=0.5) for name in names]

    monkeypatch.setattr("chatmail.app.selftest.checks.run_checks", run_none)
    status = {
        "domain": "chat.example",
        "listeners": [
            {"service": "smtp", "host": "0.0.0.0", "port": 25},
            {"service": "imaps", "host": "[::]", "port": 993},
            {"service": "imaps", "host": "192.0.2.1", "port": 993},
        ],
        "registration": {"jit": False, "token_required": False},
    }
    inner = tool.answer

    def answer(method: str, params: Mapping[str, object] | None) -> Any:
        return status if method == "server.status" else inner(method, params)

    monkeypatch.setattr(tool, "answer", answer)
    return trials


def test_the_self_test_uses_this_servers_listeners_and_leaves_nothing(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = trying(tool, monkeypatch, is_ok=True)
    assert "all is well" in tool.text("test --local")
    assert trials[0].target.ports == {"smtp": ("127.0.0.1", 25), "imaps": ("::1", 993)}
    assert trials[0].expects_jit is False
    assert len(trials[0].accounts) == 1
    assert tool.data("accounts list")["total"] == 0
    assert tool.data("ban-list")["total"] == 0


def test_a_failed_self_test_ends_with_6(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    trying(tool, monkeypatch, is_ok=False)
    code, out, _ = tool("test -k federation-st --json")
    assert code == Exit.CHECK_FAILED
    document = json.loads(out)
    assert (document["ok"], document["data"]["failed"]) == (False, ["federation-starttls"])
    assert "1 of 1 checks failed" in tool("test -k federation-st")[1]
    assert tool("test -k nonsense")[0] == Exit.USAGE


def test_a_relay_elsewhere_is_tested_at_its_public_ports(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = trying(tool, monkeypatch, is_ok=True)
    tool.text("test --online far.example")
    assert trials[0].target.ports["submissions"] == ("far.example", 465)
    assert trials[0].target.context.check_hostname is True
    assert trials[0].create is None
