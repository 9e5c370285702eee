"""Commands about accounts, and the self-test with accounts of its own, through the real parser."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import pytest

from chatmail.app.cli import accounts
from chatmail.app.cli.output import Exit
from chatmail.app.selftest.checks import Result, Trial
from chatmail.domain.usecases.manage_accounts import AccountOrder
from tests.unit.app.cli.tool import ANN, Tool

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
