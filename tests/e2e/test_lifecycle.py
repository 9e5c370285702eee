"""Starting, stopping, reloading: what an operator and a service manager see."""

from __future__ import annotations

import contextlib
import imaplib
import random
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import wire
from tests.e2e.relay import COMMAND, FACES, Relay, parse_ready, wait_until
from tests.patience import PATIENCE_S


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60
    )


def test_help_version_and_usage_errors(tmp_path: Path) -> None:
    helped = run("--help", cwd=tmp_path)
    assert helped.returncode == 0
    assert "serve --demo" in helped.stdout
    assert run("--version", cwd=tmp_path).stdout.startswith("chatmail ")
    wrong = run("serve", "--fly", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "--fly" in wrong.stderr


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    started = run("serve", "--config", "nowhere.toml", cwd=tmp_path)
    assert started.returncode == 1
    assert len(started.stderr.splitlines()) == 1
    assert "nowhere.toml" in started.stderr
    assert started.stdout == ""


def test_a_broken_file_starts_nothing_and_lists_every_problem(tmp_path: Path) -> None:
    config = tmp_path / "chatmail.toml"
    config.write_text(
        '[server]\nip = "127.0.0.1"\n[limits]\nmax_message_size = "30 M"\n'
        "[registration]\npasword_min = 9\nusername_min = 12\n"
    )
    started = run("serve", "--config", str(config), cwd=tmp_path)
    assert started.returncode == 1
    assert re.search(r"chatmail\.toml:4: limits\.max_message_size: .*30 M", started.stderr)
    assert re.search(r"chatmail\.toml:6: .*did you mean registration\.password_min", started.stderr)
    assert "username_min" in started.stderr
    assert "Traceback" not in started.stderr
    assert not (tmp_path / "state").exists()


@contextlib.contextmanager
def demo(folder: Path, base: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running demo relay and everything it said up to its ready line."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "--demo", "--port-base", str(base)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                if line.startswith("chatmail ready"):
                    break
            yield process, said
        finally:
            process.kill()


OFFSETS = (525, 587, 465, 143, 993, 80, 443)


@pytest.fixture
def free_base() -> Iterator[int]:
    """A base whose ports are free, below those that other relays of tests draw.

    Whoever else runs this test meanwhile gets another one: a name in the abstract namespace says
    that it is taken.
    """
    bases = list(range(2000, 10_000, 1000))
    random.SystemRandom().shuffle(bases)
    with socket.socket(socket.AF_UNIX) as holder:
        for base in bases:
            with contextlib.suppress(OSError):
                with contextlib.ExitStack() as stack:
                    for offset in OFFSETS:
                        stack.enter_context(socket.socket()).bind(("127.0.0.1", base + offset))
                holder.bind(f"\0chatmail-tests-base-{base}")
                yield base
                return
    raise AssertionError("no free ports for a demo")


def test_demo_runs_from_nothing_and_tells_how_to_join(tmp_path: Path, free_base: int) -> None:
    base = free_base
    with demo(tmp_path, base) as (process, said):
        ports = parse_ready(said.splitlines()[-1])
        assert ports == {
            "smtp": base + 525,
            "submission": base + 587,
            "submissions": base + 465,
            "imap": base + 143,
            "imaps": base + 993,
            "http": base + 80,
            "https": base + 443,
        }
        assert f"http://127.0.0.1:{base + 80}/" in said
        assert "dclogin:" in said
        assert "Delta Chat" in said
        taken = run(
            "serve", "--demo", "--port-base", str(base), "--state-dir", "other", cwd=tmp_path
        )
        assert taken.returncode == 1
        assert re.fullmatch(
            rf".*port {base + 525} is already in use by .*pid {process.pid}.*\n", taken.stderr
        )
        locked = run("serve", "--demo", "--port-base", str(base + 100), cwd=tmp_path)
        assert locked.returncode == 1
        assert len(locked.stderr.splitlines()) == 1
        assert "chatmail-demo" in locked.stderr
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert (tmp_path / "chatmail-demo" / "chatmail.db").exists()


def test_port_zero_is_a_free_port_that_the_ready_line_shows(tmp_path: Path) -> None:
    config = tmp_path / "chatmail.toml"
    listen = "\n".join(f'{face} = ["127.0.0.1:0"]' for face in FACES)
    config.write_text(f'[server]\nip = "127.0.0.1"\nstate_dir = "state"\n[listen]\n{listen}\n')
    with subprocess.Popen(
        [*COMMAND, "serve", "--config", str(config)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        ports = parse_ready(process.stdout.readline())
        assert set(ports) == set(FACES)
        assert len(set(ports.values())) == len(FACES)
        for port in ports.values():
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S).close()
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "", "nothing but the ready line goes to stdout"
    assert process.returncode == 0


def test_sigterm_tells_sessions_and_exits_zero(relay: Relay) -> None:
    account = relay.credentials()
    reader, sender = wire.imap(relay, *account), wire.smtp(relay, *account)
    with contextlib.closing(reader.socket()), contextlib.closing(sender):
        reader.select("INBOX")
        reader.send(b"A1 IDLE\r\n")
        assert reader.readline().startswith(b"+ ")
        started = time.monotonic()
        relay.tell_to_stop()
        assert reader.readline() == b"* BYE [UNAVAILABLE] Server restarting\r\n"
        assert sender.getreply()[0] == 421
        assert relay.stop() == 0
        assert time.monotonic() - started < 20


def test_accounts_and_mail_outlive_a_restart(relay: Relay) -> None:
    alice, bob = relay.credentials(), relay.credentials()
    wire.imap(relay, *bob).logout()
    with wire.smtp(relay, *alice) as sender:
        sender.sendmail(alice[0], [bob[0]], wire.encrypted(alice[0])[1])
    relay.restart()
    with wire.imap(relay, *bob) as reader:
        assert reader.select("INBOX")[1] == [b"1"]
    relay.restart()
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        wire.imap(relay, bob[0], "a wrong password")


def test_sighup_changes_settings_and_keeps_connections(relay: Relay) -> None:
    with wire.imap(relay, *relay.credentials()) as reader:
        assert relay.process is not None
        relay.registration = "jit = false"
        relay.write_config()
        relay.process.send_signal(signal.SIGHUP)

        def closed() -> bool:
            try:
                wire.imap(relay, *relay.credentials()).logout()
            except imaplib.IMAP4.error:
                return True
            return False

        wait_until("registration is closed", closed)
        assert reader.noop()[0] == "OK"
        relay.config.write_text("[server\n")
        relay.process.send_signal(signal.SIGHUP)
        wait_until(
            "the broken file was reported", lambda: any("chatmail.toml" in e for e in relay.errors)
        )
        assert reader.noop()[0] == "OK"


def test_health_answers_on_loopback_http(relay: Relay) -> None:
    for path in ("livez", "readyz"):
        with urllib.request.urlopen(
            f"http://127.0.0.1:{relay.ports['http']}/{path}", timeout=PATIENCE_S
        ) as answer:
            assert answer.status == 200


def test_service_manager_hears_ready_and_stopping(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(PATIENCE_S)
        relay = Relay(tmp_path / "relay", env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2000000"})
        relay.start()
        heard = b""
        while b"READY=1" not in heard or b"WATCHDOG=1" not in heard:
            heard += manager.recv(4096) + b"\n"
        assert relay.stop() == 0
        while b"STOPPING=1" not in heard:
            heard += manager.recv(4096) + b"\n"


def test_nothing_private_reaches_the_log(relay: Relay) -> None:
    alice, bob = relay.credentials(), relay.credentials()
    wire.imap(relay, *bob).logout()
    message_id, octets = wire.encrypted(alice[0])
    with wire.smtp(relay, *alice) as sender:
        sender.sendmail(alice[0], [bob[0]], octets)
    with pytest.raises(imaplib.IMAP4.error):
        wire.imap(relay, alice[0], "canary-password")
    relay.stop()
    log = "\n".join(relay.errors)
    for secret in (alice[0], bob[0], alice[1], "canary-password", message_id.strip("<>")):
        assert secret not in log
        assert secret.split("@")[0] not in log
    relay.start()
