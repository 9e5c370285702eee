"""Where configuration comes from besides the file: environment, command line, drop-ins, texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatmail.app.config import load_config
from chatmail.app.config_choice import config_file
from chatmail.app.config_values import ListenAddress
from tests.unit.app.config_files import MINIMAL, load, problems, with_domain


def test_environment_overrides_the_file(tmp_path: Path) -> None:
    environ = {
        "CHATMAIL__LIMITS__MAX_MAILBOX_SIZE": "1G",
        "CHATMAIL__REGISTRATION__OPEN": "off",
        "CHATMAIL__LIMITS__SEND_BURST": "7",
        "CHATMAIL__LISTEN__SMTP": "127.0.0.1:2525,[::1]:2525",
        "CHATMAIL_STATE_DIR": "/srv/state",
        "CHATMAIL_ADMIN_PATH": "/secret-admin",
        "CHATMAIL_ADMIN_CORS_ORIGINS": "https://a.test,https://b.test",
        "CHATMAIL_IMAP_ADDR": "127.0.0.1:1143",
        "CHATMAIL_HTTP_ADDR": ":8080",
        "MAIL_DOMAIN": "ignored.example.org",
        "HOME": "/root",
    }
    loaded = load(tmp_path, with_domain('[limits]\nmax_mailbox_size = "2G"\n'), environ)
    boot = loaded.boot
    assert boot.limits.max_mailbox_size == 1024**3
    assert not boot.registration.open
    assert boot.limits.send_burst == 7
    assert list(map(str, boot.listen.smtp)) == ["127.0.0.1:2525", "[::1]:2525"]
    assert boot.state_dir == Path("/srv/state")
    assert boot.admin.path == "/secret-admin"
    assert boot.admin.cors_origins == ("https://a.test", "https://b.test")
    assert boot.listen.imap == (ListenAddress("127.0.0.1", 1143),)
    assert boot.listen.http == (ListenAddress("*", 8080),)
    assert boot.server.domain == "relay.example.org"
    assert loaded.origins["limits.max_mailbox_size"] == "env"
    assert loaded.origins["server.domain"] == "file"
    assert "limits.send_rate_per_minute" not in loaded.origins


def test_problems_of_the_environment_name_the_variable(tmp_path: Path) -> None:
    environ = {"CHATMAIL__LIMITS__SEND_BURST": "many", "CHATMAIL__LIMITS__SEND_BURTS": "1"}
    assert problems(tmp_path, MINIMAL, environ) == [
        "environment CHATMAIL__LIMITS__SEND_BURTS: limits.send_burts: unknown key"
        " (did you mean limits.send_burst?)",
        'environment CHATMAIL__LIMITS__SEND_BURST: limits.send_burst: "many":'
        " is not a whole number",
    ]


def test_container_shorthands_count_without_a_file() -> None:
    environ = {"MADDY_DOMAIN": "relay.example.org", "MADDY_HOSTNAME": "mx.example.org"}
    boot = load_config(None, environ).boot
    assert (boot.server.domain, boot.server.hostname) == ("relay.example.org", "mx.example.org")


def test_command_line_wins(tmp_path: Path) -> None:
    environ = {"CHATMAIL_STATE_DIR": "/srv/env"}
    loaded = load(tmp_path, MINIMAL, environ, overrides={"server.state_dir": "/srv/call"})
    assert loaded.boot.state_dir == Path("/srv/call")


def test_file_to_read_is_named_by_the_environment() -> None:
    assert config_file({"CHATMAIL_CONFIG": "/x/y.toml"}) == Path("/x/y.toml")


def test_a_file_below_the_working_directory_comes_before_the_system_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "chatmail.toml").touch()
    assert config_file({}) == Path("data/chatmail.toml")


def test_drop_ins_are_merged_in_name_order(tmp_path: Path) -> None:
    folder = tmp_path / "chatmail.d"
    folder.mkdir()
    (folder / "20.toml").write_text("[limits]\nsend_burst = 20\n")
    (folder / "10.toml").write_text("[limits]\nsend_burst = 10\nmax_recipients = 10\n")
    (folder / "note.txt").write_text("not toml")
    boot = load(tmp_path, with_domain("[limits]\nsend_burst = 1\n")).boot
    assert (boot.limits.send_burst, boot.limits.max_recipients) == (20, 10)
    (folder / "30.toml").write_text("[limits]\nsend_burst = 'x'\n")
    assert problems(tmp_path, MINIMAL)[0].startswith("30.toml:2: ")


def test_variables_and_files_are_inserted_in_texts(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t" * 40 + "\n")
    text = with_domain(
        'hostname = "${ENV:HOST}.example.org"\n'
        '[admin]\ntoken = "${FILE:token}"\n'
        '[limits]\nsend_burst = "${ENV:BURST}"\n'
        '[web]\ntitle = "$HOME ${other}"\n'
        '[http]\ntrusted_proxies = ["${ENV:PROXY}"]\n'
    )
    environ = {"HOST": "mx", "BURST": "4", "PROXY": "10.0.0.0/8"}
    boot = load(tmp_path, text, environ).boot
    assert boot.server.hostname == "mx.example.org"
    assert boot.admin.token == "t" * 40
    assert boot.limits.send_burst == 4
    assert boot.web.title == "$HOME ${other}"
    assert len(boot.http.trusted_proxies) == 1


def test_insertions_that_fail_are_problems_without_the_value(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("canary")
    text = with_domain(
        'hostname = "${ENV:ABSENT}"\n'
        '[web]\ntitle = "${FILE:absent}"\n'
        '[limits]\nsend_burst = "${FILE:short}"\n'
        '[admin]\ntoken = "${FILE:short}"\n'
    )
    found = problems(tmp_path, text)
    assert found[0].endswith('"${ENV:ABSENT}": the environment has no variable ABSENT')
    assert "cannot read" in found[1]
    assert found[2].endswith('"${FILE:short}": is not a whole number')
    assert found[3] == "chatmail.toml:9: admin.token: is shorter than 32 characters"
    assert "canary" not in "".join(found)
