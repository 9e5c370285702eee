"""Settings changed while the relay runs: commands, control socket, what sessions notice."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders import make_message
from tests.e2e.configured import ConfiguredRelay, running
from tests.e2e.mailbox import newcomer
from tests.e2e.raw import RawImap, client, quoted
from tests.e2e.rawsmtp import RawSmtp, submitter
from tests.e2e.relay import COMMAND, Relay, free_port, wait_until
from tests.e2e.web import Web
from tests.patience import PATIENCE_S

PLAIN = b"From: a@b.example\r\nSubject: hello\r\n\r\nin clear\r\n"


def tool(relay: Relay, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command as an operator does."""
    return subprocess.run(
        [*COMMAND, *arguments, "--config", str(relay.config)],
        cwd=relay.folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


def said(relay: Relay, *arguments: str, code: int = 0) -> Any:
    """Run a command with `--json`; returns its data, or the whole failure."""
    done = tool(relay, *arguments, "--json")
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    out, other = (done.stdout, done.stderr) if code == 0 else (done.stderr, done.stdout)
    assert other == ""
    assert out.count("\n") == 1
    document = json.loads(out)
    assert document["ok"] is (code == 0)
    return document["data"] if code == 0 else document


def change(relay: Relay, **values: object) -> None:
    """Change settings by their API names, all at once."""
    answer = rpc(relay, "setting.setMany", values=values)
    assert "result" in answer, answer


def effective(relay: Relay, name: str) -> str:
    """What holds of a setting."""
    value: str = rpc(relay, "setting.get", name=name)["result"]["effective"]
    return value


def control(relay: Relay) -> socket.socket:
    """Connect to the control socket, however long its path is."""
    folder = os.open(relay.folder / "state" / "run", os.O_PATH)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE_S)
    try:
        sock.connect(f"/proc/self/fd/{folder}/control.sock")
    except OSError:
        sock.close()
        raise
    finally:
        os.close(folder)
    return sock


def rpc(relay: Relay, method: str, **params: object) -> Any:
    """Call a method of the control socket."""
    request = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    return json.loads(raw_rpc(relay, json.dumps(request).encode() + b"\n"))


def raw_rpc(relay: Relay, octets: bytes) -> bytes:
    """Send octets, read one line."""
    with control(relay) as sock, sock.makefile("rb") as stream:
        sock.sendall(octets)
        return stream.readline()


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredRelay]:
    with running(tmp_path_factory.mktemp("settings")) as relay:
        yield relay


@pytest.fixture(autouse=True)
def _as_in_the_file(request: pytest.FixtureRequest) -> Iterator[None]:
    """Forget after each test what it has stored."""
    yield
    if "relay" in request.fixturenames:
        relay = request.getfixturevalue("relay")
        found = rpc(relay, "setting.list")["result"]["settings"]
        if names := [one["key"] for one in found if one["is_set"]]:
            rpc(relay, "setting.reset", names=names)


@pytest.fixture
def alice(relay: Relay) -> tuple[str, str]:
    return newcomer(relay)


# --- what open sessions notice --------------------------------------------------------------------


def test_an_smtp_session_meets_the_new_size_at_its_next_command(
    relay: Relay, alice: tuple[str, str]
) -> None:
    message = make_message(sender=alice[0], size=60_000)
    with submitter(relay, alice) as smtp:
        assert smtp.submit(alice[0], [alice[0]], message).code == 250
        assert tool(relay, "message-size", "set", "40K").returncode == 0
        assert "SIZE 40960" in "\n".join(smtp.ehlo().lines)
        refused = smtp.command(f"MAIL FROM:<{alice[0]}> SIZE={len(message)}")
        assert refused.code == 552
        assert smtp.submit(alice[0], [alice[0]], message).code == 552
        assert tool(relay, "message-size", "reset").returncode == 0
        assert smtp.submit(alice[0], [alice[0]], message).code == 250


def test_a_message_on_its_way_keeps_the_limit_it_began_with(
    relay: Relay, alice: tuple[str, str]
) -> None:
    message = make_message(sender=alice[0], size=60_000)
    with submitter(relay, alice) as smtp:
        assert smtp.envelope(alice[0], [alice[0]]).code == 354
        smtp.send(message[:1000])
        change(relay, max_message_size="20K")
        assert smtp.content(message[1000:]).code == 250


def test_an_imap_session_appends_by_the_new_limit(relay: Relay, alice: tuple[str, str]) -> None:
    message = make_message(sender=alice[0], size=60_000)
    with client(relay, alice) as imap:
        imap.ok("NOOP")
        change(relay, appendlimit="40K")
        assert "APPENDLIMIT=40960" in str(imap.ok("CAPABILITY").lines)
        assert b"TOOBIG" in imap.append(message).tagged
        change(relay, appendlimit="30M")
        assert imap.append(message).is_ok


def test_the_gate_of_append_opens_and_closes(relay: Relay, alice: tuple[str, str]) -> None:
    with client(relay, alice) as imap:
        assert not imap.append(PLAIN).is_ok
        change(relay, gate_append_policy="any")
        assert imap.append(PLAIN).is_ok
        rpc(relay, "setting.reset", name="gate_append_policy")
        assert not imap.append(PLAIN).is_ok


def test_a_new_quota_is_shown_at_once(relay: Relay, alice: tuple[str, str]) -> None:
    with client(relay, alice) as imap:
        before = imap.ok("GETQUOTAROOT INBOX").number(rb"STORAGE \d+ (\d+)")
        assert said(relay, "quota", "default", "40M")["default_quota_bytes"] == 40 * 1024**2
        assert imap.ok("GETQUOTAROOT INBOX").number(rb"STORAGE \d+ (\d+)") == 40 * 1024
        assert said(relay, "quota", "default", "--reset")["default_quota_bytes"] == before * 1024


def test_rate_and_recipients_hold_for_the_session_that_is_open(
    relay: Relay, alice: tuple[str, str]
) -> None:
    message = make_message(sender=alice[0])
    others = [newcomer(relay)[0] for _ in range(2)]
    with submitter(relay, alice) as smtp:
        assert smtp.submit(alice[0], others, message).code == 250
        change(relay, limits_max_recipients=1)
        smtp.command(f"MAIL FROM:<{alice[0]}>")
        assert smtp.command(f"RCPT TO:<{others[0]}>").code == 250
        assert smtp.command(f"RCPT TO:<{others[1]}>").code == 452
        smtp.command("RSET")
        change(relay, limits_send_rate_per_minute=1, limits_send_burst=1)
        codes = []
        for _ in range(2):
            smtp.command(f"MAIL FROM:<{alice[0]}>")
            codes.append(smtp.command(f"RCPT TO:<{others[0]}>").code)
            smtp.command("RSET")
        assert codes[-1] == 450


def test_session_and_connection_limits_spare_who_is_there(
    relay: Relay, alice: tuple[str, str]
) -> None:
    with client(relay, alice) as first:
        change(relay, limits_imap_sessions_per_account=1)
        with RawImap(relay) as second:
            second.greet()
            assert b"LIMIT" in second.refused(f"LOGIN {quoted(alice[0])} {quoted(alice[1])}")
        change(relay, limits_max_imap_connections=1)
        with pytest.raises((AssertionError, OSError)), RawImap(relay) as third:
            third.greet()
        # In cleartext the refusal is one packet; behind TLS it would cost a handshake each.
        with socket.create_connection(("127.0.0.1", relay.ports["imap"]), PATIENCE_S) as late:
            assert late.makefile("rb").read() == b"* BYE [UNAVAILABLE] Too many connections\r\n"
        first.ok("NOOP")
    change(relay, limits_max_imap_connections=100, limits_imap_sessions_per_account=5)
    with client(relay, alice):
        pass


def test_registration_closes_and_opens_for_the_next_one(relay: Relay) -> None:
    web = Web(relay)
    assert web.post("/new").status == 200
    assert said(relay, "registration", "close") == {"open": False, "reload_required": False}
    assert web.post("/new").status != 200
    assert said(relay, "registration", "jit", "disable")["enabled"] is False
    address, password = relay.credentials()
    with RawImap(relay) as imap:
        imap.greet()
        login = f"LOGIN {quoted(address)} {quoted(password)}"
        imap.refused(login)
        assert said(relay, "registration", "jit", "enable")["enabled"] is True
        imap.ok(login)
    assert said(relay, "registration", "status")["open"] is False
    assert said(relay, "registration", "open")["open"] is True
    assert web.post("/new").status == 200


def test_the_page_follows_its_language(relay: Relay) -> None:
    assert b'<html lang="fa"' not in Web(relay).get("/").body
    change(relay, language="fa")
    assert b'<html lang="fa"' in Web(relay).get("/").body


def test_the_file_is_followed_by_sessions_as_settings_are(
    relay: ConfiguredRelay, alice: tuple[str, str]
) -> None:
    with client(relay, alice) as imap:
        assert "COMPRESS=DEFLATE" in str(imap.ok("CAPABILITY").lines)
        relay.reload(imap={"compress": "false"})
        assert "COMPRESS=DEFLATE" not in str(imap.ok("CAPABILITY").lines)
        assert imap.refused("COMPRESS DEFLATE")
        relay.reload(imap={"compress": "true"})
        assert "COMPRESS=DEFLATE" in str(imap.ok("CAPABILITY").lines)


def test_a_setting_wins_over_a_later_edit_of_the_file(relay: ConfiguredRelay) -> None:
    change(relay, limits_max_recipients=7)
    relay.reload(limits={"max_recipients": "9"})
    one = said(relay, "settings", "get", "limits.max_recipients")
    assert (one["effective"], one["source"], one["is_set"]) == ("7", "setting", True)
    said(relay, "settings", "reset", "limits.max_recipients")
    one = rpc(relay, "setting.get", name="limits_max_recipients")["result"]
    assert (one["effective"], one["source"], one["is_set"]) == ("9", "file", False)
    relay.reload(limits={"max_recipients": "1000"})


def test_a_disabled_log_is_silent_at_once(relay: ConfiguredRelay) -> None:
    change(relay, log_disabled=True)
    lines = len(relay.errors)
    newcomer(relay)
    assert tool(relay, "reload").returncode == 0
    assert len(relay.errors) == lines
    change(relay, log_disabled=False)
    wait_until("the log goes on", lambda: len(relay.errors) > lines)


# --- what waits for a reload ----------------------------------------------------------------------


def test_host_name_and_port_wait_for_the_reload(relay: Relay, alice: tuple[str, str]) -> None:
    port = relay.ports["submission"]
    new_port = free_port()
    with RawSmtp(relay, "submission") as smtp:
        done = said(relay, "settings", "set", "smtp_hostname", "mail.relay.example")
        assert done["reload_required"] is True
        change(relay, submission_port=new_port)
        assert "127.0.0.1" in smtp.ehlo().lines[0]
        status = rpc(relay, "server.status")["result"]
        assert status["settings"]["pending_reload"] == ["__SMTP_HOSTNAME__", "__SUBMISSION_PORT__"]
        assert said(relay, "reload") == {"reloaded": True}
        assert rpc(relay, "server.status")["result"]["settings"]["pending_reload"] == []
        relay.ports["submission"] = new_port
        with RawSmtp(relay, "submission") as other:
            assert "mail.relay.example" in other.ehlo().lines[0]
        with (
            pytest.raises(ConnectionRefusedError),
            socket.create_connection(("127.0.0.1", port), PATIENCE_S),
        ):
            pass
        smtp.ehlo()  # whoever was there stays
    rpc(relay, "setting.reset", names=["smtp_hostname", "submission_port"])
    rpc(relay, "server.reload")
    relay.ports["submission"] = port
    RawSmtp(relay, "submission").close()


def test_a_new_web_port_answers_at_once_and_the_old_one_until_the_reload(relay: Relay) -> None:
    """Spec admin 1.7, 3: the dashboard sends its reload to the new port."""
    old, new = relay.ports["http"], free_port()
    with socket.create_server(("127.0.0.1", new)):
        refused = rpc(relay, "setting.set", name="http_port", value=str(new))["error"]
        assert str(new) in json.dumps(refused)
        assert said(relay, "settings", "get", "http_port")["is_set"] is False
    change(relay, http_port=new)
    for port in (old, new):
        socket.create_connection(("127.0.0.1", port), PATIENCE_S).close()
    rpc(relay, "server.reload")
    socket.create_connection(("127.0.0.1", new), PATIENCE_S).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", old), PATIENCE_S)
    rpc(relay, "setting.reset", names=["http_port"])
    rpc(relay, "server.reload")


def test_a_broken_file_fails_the_reload_and_changes_nothing(relay: ConfiguredRelay) -> None:
    good = relay.config.read_text()
    relay.config.write_text(good.replace("[limits]", "[limits]\nsend_burst = 5\nfoo = 1"))
    try:
        failed = tool(relay, "reload")
        assert failed.returncode == 1
        assert "limits.foo" in failed.stderr
        assert failed.stderr.startswith("Error: ")
        assert effective(relay, "limits_send_burst") == "10"
        relay.config.write_text(good + "\n[limits]\n")
        torn = tool(relay, "reload")
        assert (torn.returncode, "chatmail.toml" in torn.stderr) == (1, True)
    finally:
        relay.config.write_text(good)
    assert tool(relay, "reload").stdout == "reloaded\n"


# --- commands -------------------------------------------------------------------------------------


def test_values_are_judged_before_they_are_stored(relay: Relay) -> None:
    for name, text, words in (
        ("limits_send_burst", "many", "whole number"),
        ("max_message_size", "30", "30"),
        ("max_message_size", "30 M", "unknown unit"),
        ("registration_username_min", "12", "username_max"),
        ("registration_open", "perhaps", "true or false"),
        ("smtp_port", "70000", "must be 1-65535"),
    ):
        message = rpc(relay, "setting.set", name=name, value=text)["error"]["message"]
        assert words in message
        assert "\n" not in message
    failed = said(relay, "settings", "set", "max_message_size", "30 M", code=1)
    assert failed["code"] == 1
    assert failed["error"].count("\n") == 0
    settings = rpc(relay, "setting.list")["result"]["settings"]
    assert not any(one["is_set"] for one in settings)


def test_exit_codes_tell_what_went_wrong(relay: Relay, tmp_path: Path) -> None:
    assert said(relay, "settings", "get", "nonsense", code=4)["code"] == 4
    assert said(relay, "settings", "fly", code=2)["code"] == 2
    assert tool(relay, "status", "--check").returncode == 0
    nowhere = ConfiguredRelay(tmp_path)
    nowhere.write_config()
    assert said(nowhere, "status") == {"running": False}
    assert said(nowhere, "status", "--check", code=3)["code"] == 3
    assert said(nowhere, "reload", code=3)["code"] == 3
    assert "start the server once" in said(nowhere, "settings", "list", code=1)["error"]
    assert not (tmp_path / "state").exists()


def test_people_get_text_and_programs_one_line(relay: Relay) -> None:
    listed = tool(relay, "settings", "list").stdout.splitlines()
    assert listed[0].split() == ["NAME", "VALUE", "FROM", "APPLIES"]
    assert ["max_message_size", "30M", "default", "live"] in [line.split() for line in listed]
    assert not any("ss_password" in line for line in listed)
    everything = tool(relay, "settings", "list", "--all").stdout
    assert "ss_password" in everything
    status = tool(relay, "status", "-d").stdout
    assert f"127.0.0.1:{relay.ports['imaps']}" in status
    assert len(status.splitlines()) > 5
    version = said(relay, "version")
    assert version["name"] == "chatmail"
    assert set(version) == {"name", "version", "python"}
    for arguments in (["settings", "--help"], ["settings", "set", "--help"]):
        assert "usage: chatmail settings" in tool(relay, *arguments).stdout


def test_secrets_are_never_shown(relay: Relay) -> None:
    change(relay, turn_secret="hunter2hunter2")
    shown = tool(relay, "settings", "list", "--all", "--json").stdout
    shown += tool(relay, "settings", "get", "turn_secret").stdout + "".join(relay.errors)
    assert "hunter2" not in shown
    assert "********" in shown


# --- without a server -----------------------------------------------------------------------------


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[ConfiguredRelay]:
    with running(tmp_path / "relay") as relay:
        relay.stop()
        yield relay
        if relay.process is None or relay.process.poll() is not None:
            relay.start()


def test_settings_are_changed_on_the_store_while_nobody_serves(stopped: ConfiguredRelay) -> None:
    assert said(stopped, "settings", "set", "max_message_size", "20M")["generation"] == 1
    assert said(stopped, "registration", "close")["open"] is False
    stopped.start()
    assert effective(stopped, "registration_open") == "false"
    assert effective(stopped, "max_message_size") == "20M"
    assert (
        "its control socket does not answer"
        in tool(stopped, "settings", "list", "--offline").stderr
    )


def test_bad_and_unknown_stored_texts_are_told_once_and_kept(stopped: ConfiguredRelay) -> None:
    rows = {
        "__FROM_A_NEWER_VERSION__": "x y z",
        "__LIMITS_MAX_RECIPIENTS__": "many",
        "__REGISTRATION_USERNAME_MIN__": "12",
        "__APPENDLIMIT__": "20971520",
    }
    with stopped.rows() as database:
        for row in rows.items():
            database.execute("INSERT INTO settings VALUES (?, ?)", row)
    stopped.start()
    assert stopped.said("setting_ignored") == 2
    listed = rpc(stopped, "setting.list")["result"]["settings"]
    settings = {one["key"]: one for one in listed}
    assert settings["__LIMITS_MAX_RECIPIENTS__"]["effective"] == "1000"
    assert settings["__APPENDLIMIT__"]["effective"] == "20M"
    assert settings["__FROM_A_NEWER_VERSION__"]["is_known"] is False
    change(stopped, limits_send_burst=5)
    assert stopped.said("setting_ignored") == 2
    assert Web(stopped).post("/new").status == 200  # names of 9 characters still
    with stopped.rows() as kept:
        assert rows.items() <= dict(kept.execute("SELECT key, value FROM settings")).items()


def test_an_acknowledged_setting_survives_a_kill(stopped: ConfiguredRelay) -> None:
    stopped.start()
    change(stopped, limits_max_recipients=7)
    stopped.kill()
    assert (stopped.folder / "state" / "run" / "control.sock").exists()
    assert said(stopped, "status") == {"running": False}
    stopped.start()  # over the socket that was left behind
    assert effective(stopped, "limits_max_recipients") == "7"


# --- the control socket ---------------------------------------------------------------------------


def test_the_socket_is_for_the_servers_user_alone(relay: Relay) -> None:
    run = relay.folder / "state" / "run"
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    assert [path.name for path in run.iterdir()] == ["control.sock"]
    assert stat.S_IMODE((run / "control.sock").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (b"nonsense\n", -32700),
        (b"\xff\xfe\n", -32700),
        (b"[" * 60_000 + b"\n", -32700),
        (b"1" * 60_000 + b"\n", -32700),
        (b"[]\n", -32600),
        (b'{"jsonrpc":"2.0","id":1}\n', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"fly"}\n', -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"setting.get","params":["x"]}\n', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"setting.get","params":{"x":1}}\n', -32602),
        (b"x" * 70_000, -32013),
    ],
)
def test_nonsense_is_answered_and_harms_nobody(relay: Relay, octets: bytes, code: int) -> None:
    assert json.loads(raw_rpc(relay, octets))["error"]["code"] == code
    assert rpc(relay, "rpc.ping")["result"] == "pong"


def test_a_batch_is_answered_as_one_and_notifications_are_not(relay: Relay) -> None:
    ping = {"jsonrpc": "2.0", "method": "rpc.ping"}
    batch = json.dumps([{**ping, "id": 1}, ping, {**ping, "id": "two"}]).encode()
    answers = json.loads(raw_rpc(relay, json.dumps(ping).encode() + b"\n" + batch + b"\n"))
    assert [answer["id"] for answer in answers] == [1, "two"]


def test_a_second_server_does_not_take_the_socket_of_the_first(
    relay: ConfiguredRelay, tmp_path: Path
) -> None:
    shared = {"runtime_dir": f'"{relay.folder}/state/run"'}
    with running(tmp_path / "other", server=shared) as other:
        wait_until("it is told", lambda: other.said("control_unavailable") == 1)
        assert said(other, "status")["pid"] == relay.process.pid  # type: ignore[union-attr]
    assert rpc(relay, "rpc.ping")["result"] == "pong"


def test_reloads_by_signal_and_by_command_do_not_disturb_each_other(
    relay: ConfiguredRelay, alice: tuple[str, str]
) -> None:
    assert relay.process is not None
    before = relay.said("reloaded")
    with client(relay, alice) as imap:
        for _ in range(3):
            relay.process.send_signal(signal.SIGHUP)
            assert rpc(relay, "server.reload")["result"] == {"reloaded": True}
        imap.ok("NOOP")
    wait_until("all were followed", lambda: relay.said("reloaded") >= before + 4)
