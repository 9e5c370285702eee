"""Commands: what they ask the server, and what they say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from chatmail.adapters.control.client import NotRunning
from chatmail.adapters.control.methods import call
from chatmail.adapters.control.services import ControlServices
from chatmail.app.cli import context as contexts
from chatmail.app.cli.context import Context
from chatmail.app.cli.output import CommandFailed, Exit
from chatmail.app.cli.parser import Invocation, parse
from chatmail.app.cli.run import run
from chatmail.domain.usecases.change_settings import ChangeSettings
from chatmail.domain.wire.jsonrpc import RpcError
from tests.unit.adapters.control.world import StillTasks
from tests.unit.fakes.settings import FixedConfiguration, MemorySettingsStore

FILE = {
    "limits.max_message_size": 30 << 20,
    "limits.max_federation_size": 70 << 20,
    "limits.max_mailbox_size": 500 << 20,
    "registration.open": True,
    "registration.jit": True,
    "registration.require_token": False,
    "web.language": "en",
    "gate.append_policy": "encrypted",
    "federation.policy": "accept",
    "push.mode": "auto",
    "server.hostname": "relay.example",
}
STATUS = {
    "name": "chatmail",
    "version": "9",
    "pid": 7,
    "domain": "relay.example",
    "uptime_seconds": 90,
    "listeners": [{"service": "imaps", "host": "127.0.0.1", "port": 993}],
    "services": [{"name": "imap", "connections": 3, "unique_ips": 2}],
    "registered_users": 5,
    "registration": {"open": True, "jit": True, "token_required": False},
    "privacy_contact": "mailto:me@relay.example",
    "certificate": {"expires_at": "", "days_left": 60},
    "settings": {"generation": 1, "pending_reload": ["__SMTP_PORT__"]},
    "warnings": ["log.level is debug"],
    "checks": [{"name": "disk", "ok": True, "remedy": ""}],
}


class Server:
    """A running server whose methods are called in place."""

    def __init__(self) -> None:
        self.tasks = StillTasks()
        self.tasks.report = {"deleted_accounts": 0, "duration_s": 0.25, "skipped": None}
        self.state: dict[str, Any] = dict(STATUS)
        self.problems: tuple[str, ...] = ()
        self.is_running = True
        self.services = ControlServices(
            settings=ChangeSettings(store=MemorySettingsStore(), in_force=FixedConfiguration(FILE)),
            tasks=self.tasks,
            operation=self,
        )

    def status(self) -> Mapping[str, object]:
        return self.state

    async def reload(self) -> tuple[str, ...]:
        return self.problems

    def answer(self, method: str, params: Mapping[str, object] | None) -> Any:
        if not self.is_running:
            raise NotRunning("down")
        try:
            return trio.run(call, self.services, method, params or {})
        except RpcError as error:
            raise contexts._failure(error.code, error.reasons or (error.message,)) from None


class Tool:
    """Runs command lines against that server."""

    def __init__(self, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        self.server = server
        self._capsys = capsys

    def __call__(self, line: str) -> tuple[int, str, str]:
        invocation = parse(line.split())
        assert isinstance(invocation, Invocation)
        code = run(invocation, {})
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def data(self, line: str) -> Any:
        code, out, err = self(f"{line} --json")
        assert (code, err) == (0, "")
        document = json.loads(out)
        assert out.count("\n") == 1
        assert document["ok"] is True
        return document["data"]

    def failure(self, line: str) -> tuple[int, str]:
        code, out, err = self(line)
        assert out == ""
        return code, err


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tool:
    server = Server()
    monkeypatch.setattr(
        Context, "call_server", lambda _, method, params: server.answer(method, params)
    )
    return Tool(server, capsys)


# --- settings -------------------------------------------------------------------------------------


def test_settings_list_shows_what_means_something(tool: Tool) -> None:
    code, out, _ = tool("settings list")
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["NAME", "VALUE", "FROM", "APPLIES"]
    assert ["max_message_size", "30M", "file", "live"] in rows
    assert not any(row[0] == "turn_secret" for row in rows)
    everything = tool("settings list --all")[1]
    assert "turn_secret" in everything
    assert len(tool.data("settings list")["settings"]) == len(everything.splitlines()) - 1


def test_settings_set_get_and_reset(tool: Tool) -> None:
    assert tool("settings set language fa") == (0, "language = fa (setting)\n", "")
    assert tool.data("settings get web.language")["value"] == "fa"
    assert tool("settings reset language")[1] == "language = en (file)\n"
    done = tool.data("settings set language ru")
    assert (done["generation"], done["reload_required"]) == (3, False)


def test_a_setting_without_effect_says_so(tool: Tool) -> None:
    assert "no effect in this version" in tool("settings set turn_ttl 60")[1]
    assert "stored: 50M" in tool("settings set max_message_size 50M")[1]


def test_failures_are_one_line_on_stderr(tool: Tool) -> None:
    assert tool.failure("settings set language de") == (
        1,
        "Error: language: is none of en, fa, es, ru, auto\n",
    )
    code, err = tool.failure("settings get nonsense --json")
    assert code == 4
    assert json.loads(err) == {"ok": False, "error": "there is no setting 'nonsense'", "code": 4}


def test_quiet_says_nothing_when_all_went_well(tool: Tool) -> None:
    assert tool("-q settings set language fa") == (0, "", "")
    assert tool("settings set language de -q")[2] != ""


# --- settings under another name ------------------------------------------------------------------


def test_registration(tool: Tool) -> None:
    assert tool.data("registration status") == {"open": True, "reload_required": False}
    assert tool("registration close")[1] == "registration is closed\n"
    assert tool.data("registration status")["open"] is False
    assert len(tool("registration status")[1].splitlines()) == 3
    assert tool.data("registration open")["open"] is True
    assert tool.data("registration jit disable") == {"enabled": False, "reload_required": False}
    assert tool("registration jit status")[1].endswith("disabled\n")
    assert tool.data("registration jit enable")["enabled"] is True


def test_message_size_sets_both_limits(tool: Tool) -> None:
    assert tool.data("message-size status") == {
        "appendlimit": None,
        "max_message_size": None,
        "effective_bytes": 30 << 20,
        "source": "file",
        "reload_required": False,
    }
    assert tool.data("message-size set 50M") == {
        "appendlimit": "50M",
        "max_message_size": "50M",
        "effective_bytes": 50 << 20,
        "source": "setting",
        "reload_required": False,
    }
    assert tool("message-size reset")[1] == "messages may have 30M (file)\n"


def test_federation_size(tool: Tool) -> None:
    assert tool.data("federation-size set 9M")["effective_bytes"] == 9 << 20
    assert tool.data("federation-size status")["max_federation_size"] == "9M"
    assert tool.data("federation-size reset")["effective_bytes"] == 70 << 20


def test_quota_default(tool: Tool) -> None:
    assert tool.data("quota default")["default_quota_bytes"] == 500 << 20
    assert tool.data("quota default 1G")["source"] == "setting"
    assert tool.data("quota default --reset")["default_quota_bytes"] == 500 << 20
    assert tool.failure("quota default 0")[0] == 1


# --- tasks ----------------------------------------------------------------------------------------


def test_tasks_are_listed_and_run(tool: Tool) -> None:
    assert tool("tasks list")[1] == "prune-old-messages\nvacuum\n"
    code, out, _ = tool("tasks run vacuum --retention 1d --dry-run")
    assert code == 0
    assert out.splitlines()[1].split() == ["vacuum", "3", "0", "would", "be", "removed"]
    assert len(tool.data("tasks run-all")["reports"]) == 2
    tool("expire")
    tool("expire --remove")
    assert tool.server.tasks.ran == [
        ("vacuum", True, 86400),
        ("prune-old-messages", False, None),
        ("vacuum", False, None),
        ("prune-old-messages", True, None),
        ("prune-old-messages", False, None),
    ]
    assert tool.failure("tasks run nonsense")[0] == 4


def test_expire_counts_unless_told_to_remove(tool: Tool) -> None:
    tool.server.tasks.report = {"deleted_accounts": 0, "duration_s": 0.25, "skipped": "off"}
    assert "nothing was removed" in tool("expire")[1]
    out = tool("expire --remove")[1]
    assert "nothing was removed" not in out
    assert "skipped: off" in out
    tool.server.tasks.expiring = list  # type: ignore[method-assign]
    assert "nothing to do" in tool("expire")[1]


# --- the relay ------------------------------------------------------------------------------------


def test_status_of_a_relay_that_is_well(tool: Tool) -> None:
    code, out, _ = tool("status --check")
    assert code == 0
    assert "domain: relay.example" in out
    assert "up 1m30s" in out
    assert "new accounts: /new and first login" in out
    assert "warning: __SMTP_PORT__ waits for: chatmail reload" in out
    assert "warning: log.level is debug" in out
    assert len(out.splitlines()) > 5
    assert "imap: 3 connections on 127.0.0.1:993" in tool("status -d")[1]
    assert tool.data("status") == {"running": True, **STATUS}


def test_status_check_fails_for_a_relay_that_is_not_well(tool: Tool) -> None:
    tool.server.state["checks"] = [{"name": "disk", "ok": False, "remedy": "free some"}]
    tool.server.state["registration"] = {"open": True, "jit": True, "token_required": True}
    code, out, _ = tool("status --check")
    assert code == Exit.CHECK_FAILED
    assert "warning: disk: free some" in out
    assert "new accounts: none" in out
    assert tool("status")[0] == 0
    code, out, _ = tool("status --check --json")
    assert json.loads(out)["ok"] is False


def test_without_a_server(tool: Tool) -> None:
    tool.server.is_running = False
    assert tool("status") == (0, "chatmail is not running\n", "")
    assert tool.data("status") == {"running": False}
    assert tool.failure("status --check")[0] == Exit.NOT_RUNNING
    assert tool.failure("reload") == (3, "Error: the server is not running\n")
    tool.server.is_running = True
    assert tool.failure("reload --offline")[0] == 3
    assert tool("--offline status")[1] == "chatmail is not running\n"


def test_reload_tells_every_problem(tool: Tool) -> None:
    assert tool("reload") == (0, "reloaded\n", "")
    tool.server.problems = ("a.toml:1: bad", "a.toml:2: worse")
    assert tool.failure("reload") == (1, "Error: a.toml:1: bad\nError: a.toml:2: worse\n")


def test_version(tool: Tool) -> None:
    assert set(tool.data("version")) == {"name", "version", "python"}


def test_an_interrupted_command_ends_with_130(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Context, "call_server", interrupted)
    assert tool("status")[0] == Exit.INTERRUPTED


# --- where the socket is --------------------------------------------------------------------------


def runtime_dir(folder: Path, text: str | None, **options: Any) -> Path:
    file = folder / "chatmail.toml"
    if text is not None:
        file.write_text(text)
    environ = options.pop("environ", {})
    config = file if text is not None else None
    return Context(environ=environ, config=config, **options).runtime_dir()


def test_the_socket_is_where_the_server_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    usual = Path("/var/lib/chatmail/run")
    assert runtime_dir(tmp_path, None) == usual
    assert runtime_dir(tmp_path, '[server]\ndomain = "x"\n') == usual
    assert runtime_dir(tmp_path, '[server]\nstate_dir = "s"\n') == tmp_path / "s" / "run"
    assert runtime_dir(tmp_path, '[server]\nruntime_dir = "/run/chatmail"\n') == Path(
        "/run/chatmail"
    )
    assert runtime_dir(tmp_path, None, state_dir=Path("d")) == tmp_path / "d" / "run"
    environ = {"CHATMAIL_STATE_DIR": "/e", "R": "/r"}
    assert runtime_dir(tmp_path, "", environ=environ) == Path("/e/run")
    inserted = '[server]\nruntime_dir = "${ENV:R}"\n'
    assert runtime_dir(tmp_path, inserted, environ=environ) == Path("/r")
    assert runtime_dir(tmp_path, inserted) == usual


def test_a_file_with_mistakes_still_leads_to_the_server(tmp_path: Path) -> None:
    text = '[server]\nstate_dir = "s"\nfoo = 1\n[limits]\nmax_recipients = "x"\n'
    assert runtime_dir(tmp_path, text) == tmp_path / "s" / "run"
    with pytest.raises(CommandFailed, match=r"chatmail\.toml"):
        runtime_dir(tmp_path, "[server\n")
    with pytest.raises(CommandFailed, match="no such configuration file"):
        Context(environ={}, config=tmp_path / "nowhere").runtime_dir()


def test_a_file_that_may_not_be_read_is_a_matter_of_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "chatmail.toml"
    file.write_text("")
    monkeypatch.setattr("chatmail.app.config_choice.os.access", lambda *_: False)
    with pytest.raises(CommandFailed, match="permission denied") as failed:
        Context(environ={}, config=file).runtime_dir()
    assert failed.value.code is Exit.PERMISSION

    def closed(_: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(Path, "exists", closed)
    with pytest.raises(CommandFailed, match="permission denied") as failed:
        Context(environ={}).runtime_dir()
    assert failed.value.code is Exit.PERMISSION
