from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path

import pytest

from chatmail.adapters.system.logs import (
    DEBUG_S,
    FileSink,
    Level,
    Log,
    Manner,
    StreamSink,
    open_log,
)
from chatmail.adapters.system.redaction import PeerAddress, Pseudonyms, Redactor
from chatmail.domain.model.address import EmailAddress
from tests.unit.fakes.system import FakeClock, FakeEntropy

CANARIES = ("canary@relay.test", "192.0.2.77", "canary-password-1", "Canary subject")


def make(lines: list[str], level: Level = Level.INFO, is_json: bool = False) -> Log:
    clock = FakeClock()
    redactor = Redactor(pseudonyms=Pseudonyms(clock, FakeEntropy()))
    manner = Manner(level, redactor, math.inf)
    return Log(clock, manner, (lines.append,), is_json=is_json)


def opened(*targets: str, **settings: str) -> Log:
    return open_log(FakeClock(), FakeEntropy(), targets, **settings)


def test_text_record() -> None:
    lines: list[str] = []
    make(lines).info("login_refused", cause="password", count=3, ok=True, none=None, many=(1, 2))
    assert lines == [
        "2025-06-15T12:00:00.000Z INFO    login_refused"
        " cause=password count=3 ok=true none=- many=1,2\n"
    ]


def test_json_record() -> None:
    lines: list[str] = []
    make(lines, is_json=True).warning("disk_low", free=7)
    assert json.loads(lines[0]) == {
        "ts": "2025-06-15T12:00:00.000Z",
        "level": "warning",
        "event": "disk_low",
        "free": 7,
    }


@pytest.mark.parametrize("is_json", [False, True])
@pytest.mark.parametrize("level", list(Level))
def test_nothing_private_passes_at_any_level(level: Level, is_json: bool) -> None:
    lines: list[str] = []
    log = make(lines, level, is_json)
    for canary in CANARIES:
        for write in (log.debug, log.info, log.warning, log.error):
            write("event", value=canary, error=ValueError(canary), peer=PeerAddress(canary))
            write(canary, **{canary: 1})
    log.error("event", account=EmailAddress("canary", "relay.test"))
    assert lines
    assert "canary" not in "".join(lines).lower()
    assert "192.0.2" not in "".join(lines)


def test_level_holds_back_what_is_below() -> None:
    lines: list[str] = []
    log = make(lines, Level.WARNING)
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    assert [line.split()[2] for line in lines] == ["c", "d"]


def test_bound_fields_come_with_every_record() -> None:
    lines: list[str] = []
    make(lines).bind(sid=7).bind(face="imap").info("closed")
    assert lines[0].endswith("closed sid=7 face=imap\n")


def test_fields_cannot_replace_the_head() -> None:
    lines: list[str] = []
    make(lines).info("real", ts=1, level="x")
    assert lines[0].startswith("2025-06-15T12:00:00.000Z INFO    real")


def test_off_writes_nothing_whatever_else_is_asked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = opened("stderr", "off", str(tmp_path / "log"), level="debug")
    log.error("event")
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["stderr", "journal", "syslog"])
def test_stderr_gets_the_lines_and_stdout_none(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(target).info("event")
    out, err = capsys.readouterr()
    assert out == ""
    assert "event" in err


def test_networks_are_shown_only_at_debug_and_when_allowed(tmp_path: Path) -> None:
    for level, ip, is_shown in (
        ("debug", "truncate", True),
        ("info", "truncate", False),
        ("debug", "none", False),
    ):
        path = tmp_path / f"{level}-{ip}"
        log = opened(str(path), level=level, ip=ip)
        log.info("event", peer=PeerAddress("192.0.2.77"))
        log.reopen()
        assert ("192.0.2.0/24" in path.read_text()) is is_shown
        assert "192.0.2.77" not in path.read_text()


def test_debug_ends_after_a_day(tmp_path: Path) -> None:
    """Policy 6: what was turned on to find a fault does not stay on."""
    path, clock, peer = tmp_path / "log", FakeClock(), PeerAddress("192.0.2.77")
    log = open_log(clock, FakeEntropy(), (str(path),), level="debug", ip="truncate")
    session = log.bind(sid=1)
    clock.advance(DEBUG_S - 1)
    session.debug("before", peer=peer)
    assert log.is_debugging
    clock.advance(1)
    session.debug("behind", peer=peer)
    session.info("later", peer=peer)
    assert not log.is_debugging
    log.reopen()
    words = [line.split(" ", 1)[1].split() for line in path.read_text().splitlines()]
    assert words == [
        ["DEBUG", "before", "sid=1", "peer=192.0.2.0/24"],
        ["INFO", "debug_ended", "sid=1"],
        ["INFO", "later", "sid=1", "peer=[redacted]"],
    ]


def test_other_levels_do_not_end() -> None:
    clock = FakeClock()
    log = open_log(clock, FakeEntropy(), (), level="warning")
    clock.advance(DEBUG_S)
    assert not log.is_debugging


def test_broken_stderr_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    StreamSink(closed)("line\n")
    monkeypatch.setattr(sys, "stderr", closed)
    StreamSink()("line\n")


def test_file_is_private_and_appended(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for _ in range(2):
        sink = FileSink(path)
        sink("line\n")
        sink.reopen()
    assert path.read_text() == "line\nline\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_reopen_follows_an_outside_rotation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = opened(str(path))
    log.info("before")
    path.rename(tmp_path / "moved")
    log.reopen()
    log.info("after")
    assert "after" in path.read_text()
    assert "after" not in (tmp_path / "moved").read_text()
    log.reopen()


def test_file_turns_over_and_keeps_five(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "log", rotate_bytes=25)
    for number in range(40):
        sink(f"line {number:02}--\n")
    sink.reopen()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "log", "log.1", "log.2", "log.3", "log.4", "log.5",
    ]  # fmt: skip
    assert (tmp_path / "log").read_text() == "line 38--\nline 39--\n"
    assert (tmp_path / "log.1").read_text() == "line 36--\nline 37--\n"


def test_unwritable_file_is_no_error(tmp_path: Path) -> None:
    FileSink(tmp_path / "absent" / "log")("line\n")


def test_silence_holds_for_every_log_bound_from_this_one() -> None:
    lines: list[str] = []
    log = make(lines)
    bound = log.bind(sid=1)
    bound.silence(True)
    for one in (log, bound, log.bind(sid=2)):
        one.error("disk_low")
    assert lines == []
    log.silence(False)
    bound.error("disk_low")
    assert len(lines) == 1
