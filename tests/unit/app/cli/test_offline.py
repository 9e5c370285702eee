"""Commands on the store itself."""

from __future__ import annotations

import ipaddress
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from chatmail.adapters.storage.recovery import locked
from chatmail.adapters.storage.store import open_store
from chatmail.app.cli import offline
from chatmail.app.cli.context import Context
from chatmail.app.cli.offline import Refused, call_store
from chatmail.app.cli.output import CommandFailed, Exit
from chatmail.app.cli.parser import Invocation, parse
from chatmail.app.cli.run import run
from chatmail.app.config import LoadedConfig
from chatmail.app.config_keys import BootConfig
from chatmail.app.config_sections import ListenSection, ServerSection, TlsSection
from chatmail.app.config_values import ListenAddress
from tests.unit.fakes.mailstate import MemoryHints
from tests.unit.ports.world import ListLog, StillClock


def loaded(state_dir: Path) -> LoadedConfig:
    boot = BootConfig(server=ServerSection(domain="relay.example", state_dir=state_dir))
    return LoadedConfig(boot=boot, warnings=(), origins={})


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    async def make() -> None:
        async with open_store(tmp_path, "sqlite", MemoryHints(), StillClock(), ListLog()):
            pass

    trio.run(make)
    return tmp_path


def test_a_setting_is_stored_and_read_back(state_dir: Path) -> None:
    params = {"name": "limits.max_recipients", "value": "7"}
    assert call_store(loaded(state_dir), "setting.set", params)["generation"] == 1
    found = call_store(loaded(state_dir), "setting.get", {"name": "limits_max_recipients"})
    assert (found["effective"], found["source"]) == ("7", "setting")


def test_nothing_waits_for_a_reload_where_nobody_serves(state_dir: Path) -> None:
    changed = call_store(loaded(state_dir), "setting.set", {"name": "smtp_port", "value": "2525"})
    assert changed["settings"][0]["restart_required"] is False


def test_refusals_are_values(state_dir: Path) -> None:
    refused = call_store(loaded(state_dir), "setting.get", {"name": "nonsense"})
    assert refused == Refused(-32004, ("there is no setting 'nonsense'",))
    assert call_store(loaded(state_dir), "server.status", {}).code == -32050


def test_a_store_in_use_and_a_store_that_is_none_are_told(state_dir: Path, tmp_path: Path) -> None:
    with locked(state_dir):
        refused = call_store(loaded(state_dir), "setting.list", {})
    assert "its control socket does not answer" in refused.reasons[0]
    nowhere = call_store(loaded(tmp_path / "nowhere"), "setting.list", {})
    assert "start the server once" in nowhere.reasons[0]
    assert not (tmp_path / "nowhere").exists()


def test_a_database_that_cannot_be_used_is_one_line(state_dir: Path) -> None:
    (state_dir / "chatmail.db").write_bytes(b"not a database at all" * 100)
    for name in ("chatmail.db-wal", "chatmail.db-shm"):
        (state_dir / name).unlink(missing_ok=True)
    refused = call_store(loaded(state_dir), "setting.list", {})
    assert refused.code == -32050
    assert "\n" not in refused.reasons[0]


def test_root_works_as_the_owner_of_the_files(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[tuple[str, int]] = []
    monkeypatch.setattr(offline.os, "geteuid", lambda: 0)
    monkeypatch.setattr(offline.os, "setegid", lambda gid: became.append(("group", gid)))
    monkeypatch.setattr(offline.os, "seteuid", lambda uid: became.append(("user", uid)))
    call_store(loaded(state_dir), "setting.list", {})
    owner = state_dir.stat()
    assert became == [("group", owner.st_gid), ("user", owner.st_uid)]


def test_somebody_else_is_not_allowed(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(offline, "_become_owner", closed)
    assert call_store(loaded(state_dir), "setting.list", {}).code == -32001


def test_a_command_goes_to_the_store_when_nobody_answers(state_dir: Path) -> None:
    file = state_dir / "chatmail.toml"
    file.write_text(f'[server]\nip = "127.0.0.1"\nstate_dir = "{state_dir}"\n')
    for is_offline in (False, True):
        context = Context(environ=dict(os.environ), config=file, is_offline=is_offline)
        found: Any = context.call("setting.get", {"name": "language"})
        assert found["effective"] == "en"
        with pytest.raises(CommandFailed) as failed:
            context.call("setting.get", {"name": "nonsense"})
        assert failed.value.code is Exit.NOT_FOUND
    file.write_text(f'[server]\nip = "nonsense"\nstate_dir = "{state_dir}"\n')
    with pytest.raises(CommandFailed, match="not an IP address"):
        context.call("setting.list")


def test_what_is_said_of_other_relays_is_kept(state_dir: Path) -> None:
    config = loaded(state_dir)
    made = call_store(config, "federation.rule.add", {"domain": "a.example", "action": "block"})
    assert made["total"] == 1
    call_store(config, "endpoint.set", {"lookup_key": "b.example", "target_host": "c.example"})
    assert call_store(config, "federation.rule.list", {})["rules"][0]["domain"] == "a.example"
    assert call_store(config, "endpoint.list", {})["total"] == 1
    assert call_store(config, "federation.set", {"policy": "reject"})["policy"] == "REJECT"
    assert call_store(config, "federation.get", {})["policy"] == "REJECT"
    assert call_store(config, "queue.status", {})["count"] == 0
    assert call_store(config, "queue.retry", {}) == {"retried": 0}


def test_accounts_are_made_and_deleted(state_dir: Path) -> None:
    config = loaded(state_dir)
    made = call_store(config, "account.create", {})
    status = call_store(config, "account.status", {})
    assert (status["login_count"], status["state_dir"]) == (1, str(state_dir))
    assert call_store(config, "account.delete", {"username": made["username"]})["deleted"] is True
    assert call_store(config, "account.get", {"username": made["username"]})["blocklisted"] is True


def test_the_zone_needs_no_server(state_dir: Path) -> None:
    server = ServerSection(
        domain="relay.example",
        public_ips=(ipaddress.ip_address("192.0.2.1"),),
        state_dir=state_dir,
    )
    listen = ListenSection(submission=(), imaps=(ListenAddress("127.0.0.1", 1993),))
    boot = BootConfig(server=server, listen=listen, tls=TlsSection(mode="self-signed"))
    config = LoadedConfig(boot=boot, warnings=(), origins={})
    lines = call_store(config, "domain.zone", {})["text"].split("\n")
    assert "relay.example. 3600 IN A 192.0.2.1" in lines
    assert "_imaps._tcp.relay.example. 3600 IN SRV 0 1 1993 relay.example." in lines
    assert not any("_submission._tcp" in line for line in lines)


# --- files the database has never known


@pytest.fixture
def tool(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    file = state_dir / "chatmail.toml"
    file.write_text(f'[server]\nip = "127.0.0.1"\nstate_dir = "{state_dir}"\n')

    def say(*words: str) -> tuple[int, str]:
        words = words if words[0] == "uidvalidity" else ("segments", *words)
        invocation = parse([*words, "--config", str(file)])
        assert isinstance(invocation, Invocation)
        code = run(invocation, {})
        said = capsys.readouterr()
        return code, said.out + said.err

    return say


def test_unknown_segments_are_named_and_go_only_when_told_to(
    state_dir: Path, tool: Callable[..., tuple[int, str]]
) -> None:
    assert tool("unknown") == (0, "the database knows every file of mail\n")
    assert tool("discard-unknown", "-y")[0] == 0
    orphan = state_dir / "mail" / "00000009.seg"
    orphan.write_bytes(b"somebody's mail")
    assert "00000009.seg" in tool("unknown")[1]
    code, told = tool("discard-unknown")
    assert code == 2  # nobody to ask
    assert "Remove 00000009.seg for ever?" in told
    assert orphan.exists()
    code, told = tool("discard-unknown", "-y")
    assert (code, told) == (0, f"removed {orphan}\n")
    assert not orphan.exists()


def test_segments_the_database_knows_stay(
    state_dir: Path, tool: Callable[..., tuple[int, str]]
) -> None:
    mail = state_dir / "mail" / "00000003.seg"
    mail.write_bytes(b"mail")
    with closing(sqlite3.connect(state_dir / "chatmail.db")) as database:
        database.execute("INSERT INTO segments (number) VALUES (3)")
        database.commit()
    assert tool("discard-unknown", "-y") == (0, "the database knows every file of mail\n")
    assert mail.exists()


def test_nothing_is_unknown_without_a_database_or_beside_a_server(
    state_dir: Path, tool: Callable[..., tuple[int, str]]
) -> None:
    orphan = state_dir / "mail" / "00000009.seg"
    orphan.write_bytes(b"somebody's mail")
    with locked(state_dir):
        code, told = tool("discard-unknown", "-y")
    assert code == 1
    assert "another chatmail process" in told
    (state_dir / "chatmail.db").unlink()
    code, told = tool("discard-unknown", "-y")
    assert code == 1
    assert "no database" in told
    assert orphan.exists()


def test_uidvalidity_is_renewed_after_a_question(
    state_dir: Path, tool: Callable[..., tuple[int, str]]
) -> None:
    code, told = tool("uidvalidity", "renew")
    assert code == 2  # nobody to ask
    assert "never fetch" in told
    assert tool("uidvalidity", "renew", "-y") == (0, "0 mailboxes have a new UIDVALIDITY\n")
    with locked(state_dir):
        code, told = tool("uidvalidity", "renew", "-y")
    assert code == 1
    assert "another chatmail process" in told
    (state_dir / "chatmail.db").unlink()
    assert tool("uidvalidity", "renew", "-y")[0] == 1
    assert not (state_dir / "chatmail.db").exists()
