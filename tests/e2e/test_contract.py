"""What operators and service managers may rely on: starting, stopping, reloading."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import wire
from tests.e2e.configured import ConfiguredRelay, running
from tests.e2e.federation import free_ports
from tests.e2e.mailbox import count, messages, newcomer
from tests.e2e.rawsmtp import RawSmtp, submitter
from tests.e2e.relay import COMMAND, Relay, parse_ready, wait_until

MINIMAL = '[server]\nip = "127.0.0.1"\nhostname = "127.0.0.1"\n[listen]\n'
ALL_FREE = "".join(
    f'{face} = ["127.0.0.1:0"]\n'
    for face in ("smtp", "submission", "submissions", "imap", "imaps", "http", "https")
)


@contextlib.contextmanager
def started(folder: Path, *arguments: str, text: str) -> Iterator[subprocess.Popen[str]]:
    """A process with this configuration in chatmail.toml of `folder`."""
    (folder / "chatmail.toml").write_text(text)
    with subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


# --- starting ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [("serve", "--config", "chatmail.toml"), ("run", "--config", "chatmail.toml"), ()],
    ids=["serve", "run", "bare"],
)
def test_the_ready_line_is_all_there_is_on_stdout(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    environment = {"CHATMAIL_CONFIG": str(tmp_path / "chatmail.toml")}
    os_environment = {**os.environ, **environment}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "chatmail.toml").write_text(MINIMAL + ALL_FREE)
    (tmp_path / "chatmail.toml").write_text(MINIMAL + ALL_FREE)
    with subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=tmp_path,
        env=os_environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            line = ready(process)
            assert re.fullmatch(r"chatmail ready( [a-z]+=127\.0\.0\.1:\d+){7}\n", line)
            ports = parse_ready(line)
            assert len(set(ports.values())) == 7
            assert 0 not in ports.values()
            for port in ports.values():
                socket.create_connection(("127.0.0.1", port), 60).close()
            process.terminate()
            rest, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert rest == ""
    assert process.returncode == 0


def test_faces_may_be_off_and_have_several_addresses(tmp_path: Path) -> None:
    text = MINIMAL + 'imaps = ["127.0.0.1:0", "[::1]:0"]\nsmtp = []\n'
    text += "".join(f"{face} = []\n" for face in ("submission", "imap", "http", "https"))
    text += 'submissions = ["127.0.0.1:0"]\n'
    with started(tmp_path, "serve", "--config", "chatmail.toml", text=text) as process:
        line = ready(process)
        assert line.startswith("chatmail ready "), line or process.communicate()[1]
        pairs = re.findall(r" ([a-z]+)=(\S+):(\d+)", line)
        assert [face for face, _, _ in pairs] == ["submissions", "imaps", "imaps"]


def test_the_state_directory_of_the_command_line_wins(tmp_path: Path) -> None:
    arguments = ("serve", "--config", "chatmail.toml", "--state-dir", "elsewhere")
    with started(tmp_path, *arguments, text=MINIMAL + ALL_FREE) as process:
        assert ready(process).startswith("chatmail ready")
        assert (tmp_path / "elsewhere" / "chatmail.db").is_file()
        process.terminate()
        assert process.wait(60) == 0


BROKEN = """\
[server]
ip = "127.0.0.1"
hostname = "not a host"
surprise = 1
[listen]
imaps = ["127.0.0.1:port"]
[limits]
max_message_size = "30 parsecs"
send_rate_per_minute = "many"
[tls]
mode = "files"
[registration]
username_min = 12
[gate]
append_policy = "some"
[wrong]
"""


def test_every_problem_of_a_file_is_one_line_with_its_place(tmp_path: Path) -> None:
    with started(tmp_path, "serve", "--config", "chatmail.toml", text=BROKEN) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == ""
    assert "Traceback" not in err
    lines = err.splitlines()
    for number in (4, 6, 8, 9, 15):
        assert any(line.startswith(f"chatmail.toml:{number}: ") for line in lines), (number, err)
    assert any("wrong" in line for line in lines), err
    assert not (tmp_path / "state").exists()


def test_values_that_do_not_fit_are_all_reported(tmp_path: Path) -> None:
    text = (
        MINIMAL + '[tls]\nmode = "files"\n[registration]\nusername_min = 12\npassword_length = 4\n'
    )
    with started(tmp_path, "serve", "--config", "chatmail.toml", text=text) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    for word in ("tls.cert", "username_min", "password_length"):
        assert word in err


@pytest.mark.parametrize(
    "arguments", [("fly",), ("serve", "--config"), ("serve", "extra", "words"), ("--fly",)]
)
def test_wrong_usage_exits_with_two(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    run = subprocess.run(
        [*COMMAND, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 2
    assert run.stdout == ""
    assert "usage" in run.stderr.lower()


def test_a_taken_port_and_a_taken_state_are_one_line_each(tmp_path: Path) -> None:
    with running(tmp_path / "relay") as relay:
        (tmp_path / "second").mkdir()
        text = MINIMAL + ALL_FREE.replace(":0", f":{relay.ports['imaps']}", 1)
        arguments = ("serve", "--config", "chatmail.toml")
        with started(tmp_path / "second", *arguments, text=text) as process:
            _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert len(err.splitlines()) == 1
        assert str(relay.ports["imaps"]) in err
        arguments = (*arguments, "--state-dir", str(relay.folder / "state"))
        with started(tmp_path / "second", *arguments, text=MINIMAL + ALL_FREE) as process:
            _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert len(err.splitlines()) == 1
        # The relay that has them is not disturbed.
        newcomer(relay)


# --- stopping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_message_under_way_is_finished_before_the_end(
    tmp_path: Path, number: signal.Signals
) -> None:
    with running(tmp_path / "relay") as relay:
        alice = newcomer(relay)
        octets = wire.encrypted(alice[0], 700_000)[1]
        with submitter(relay, alice) as client, RawSmtp(relay, "smtp").secure() as idle:
            assert client.envelope(alice[0], [alice[0]]).code == 354
            client.send(octets[:500_000])
            wait_until("it is arriving", lambda: list((relay.folder / "state/spool").iterdir()))
            assert relay.process is not None
            relay.process.send_signal(number)
            assert idle.reply().whole == "421 4.3.2 Service shutting down"
            with pytest.raises(OSError):  # noqa: PT011 - whatever the system calls it
                wire.imap(relay, *alice)
            client.send(octets[500_000:] + b".\r\n")
            assert client.reply().code == 250
            assert client.reply().whole == "421 4.3.2 Service shutting down"
            assert client.is_closed()
        assert relay.process.wait(60) == 0
        relay.stop()
        relay.start()
        assert len(messages(relay, alice)) == 1


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    relay = Relay(tmp_path / "relay").start()
    alice = newcomer(relay)
    with submitter(relay, alice) as client:
        assert client.submit(alice[0], [alice[0]], wire.encrypted(alice[0])[1]).code == 250
        assert client.envelope(alice[0], [alice[0]]).code == 354
        client.send(b"From: ")  # a message that would keep the relay for its 20 seconds
        relay.tell_to_stop()
        wait_until("it is stopping", lambda: any("stopping" in line for line in relay.errors))
        assert relay.process is not None
        assert relay.process.poll() is None
        begun = time.monotonic()
        relay.process.send_signal(signal.SIGTERM)
        code = relay.process.wait(60)
        assert time.monotonic() - begun < 10, "it has not waited for the message"
    assert code != 0, "not a clean stop"
    relay.stop()
    relay.start()
    assert len(messages(relay, alice)) == 1, "what was acknowledged is there"
    assert relay.stop() == 0


def test_a_peer_that_never_finishes_holds_the_end_for_20_seconds_at_most(tmp_path: Path) -> None:
    relay = Relay(tmp_path / "relay").start()
    alice = newcomer(relay)
    with submitter(relay, alice) as client:
        assert client.envelope(alice[0], [alice[0]]).code == 354
        client.send(b"From: ")
        begun = time.monotonic()
        relay.tell_to_stop()
        assert relay.stop() == 0
        assert time.monotonic() - begun < 20
        assert client.reply().code in (421, 451)
    relay.start()
    assert count(relay, alice) == 0
    assert relay.stop() == 0


# --- reloading -----------------------------------------------------------------------------------


def test_reload_opens_and_closes_listeners_and_keeps_sessions(tmp_path: Path) -> None:
    with running(tmp_path / "relay") as relay:
        alice = newcomer(relay)
        old = relay.ports["imaps"]
        (free,) = free_ports(1)
        with wire.imap(relay, *alice) as kept, submitter(relay, alice) as sender:
            kept.select("INBOX")
            relay.reload(listen={"imaps": f'["127.0.0.1:{free}"]', "smtp": "[]"})
            wait_until("the old door is closed", lambda: not _accepts(old))
            relay.ports["imaps"] = free
            wire.imap(relay, *alice).logout()
            assert sender.submit(alice[0], [alice[0]], wire.encrypted(alice[0])[1]).code == 250
            assert kept.noop()[0] == "OK"
            assert kept.fetch("1", "(FLAGS)")[0] == "OK", "the old session goes on"
            # A port that is taken: what was open stays open, and the log says why.
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                taken.listen()
                port = taken.getsockname()[1]
                relay.reload(listen={"imaps": f'["127.0.0.1:{port}"]', "smtp": "[]"})
            assert relay.said("listener_failed") == 1
            wire.imap(relay, *alice).logout()
            assert kept.noop()[0] == "OK"
        relay.tables = {"listen": {"imaps": f'["127.0.0.1:{free}"]'}}


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 60).close()
    except ConnectionRefusedError:
        return False
    return True


def test_reload_of_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "relay") as relay:
        alice = newcomer(relay)
        before = relay.config.read_text()
        relay.config.write_text(BROKEN)
        assert relay.process is not None
        relay.process.send_signal(signal.SIGHUP)
        wait_until("it was rejected", lambda: relay.said("configuration_rejected") >= 5)
        with submitter(relay, alice) as client:
            assert "SIZE 31457280" in client.ehlo().lines
        relay.config.write_text(before)
        relay.reload(limits={"max_message_size": '"1M"'})
        with submitter(relay, alice) as client:
            assert "SIZE 1048576" in client.ehlo().lines
        assert relay.said("configuration_rejected") >= 5


def test_the_process_title_names_no_secret(tmp_path: Path) -> None:
    with running(tmp_path / "relay") as relay:
        assert relay.process is not None
        title = Path(f"/proc/{relay.process.pid}/cmdline").read_bytes().split(b"\0")
        assert title[:3] == [part.encode() for part in (sys.executable, "-m", "chatmail")]
        assert isinstance(relay, ConfiguredRelay)
