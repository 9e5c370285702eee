"""Where the control socket lives."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from chatmail.adapters.control.binding import (
    SOCKET_NAME,
    ControlSocketError,
    connect,
    control_socket,
)


@pytest.fixture(params=["short", "long"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / ("run" if request.param == "short" else "x" * 120)


def test_it_is_private_and_goes_when_left(directory: Path) -> None:
    with control_socket(directory) as sock:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE((directory / SOCKET_NAME).stat().st_mode) == 0o600
        assert [path.name for path in directory.iterdir()] == [SOCKET_NAME]
        with connect(directory, 5):
            sock.accept()[0].close()
    assert list(directory.iterdir()) == []


def test_no_umask_makes_it_wider(directory: Path) -> None:
    before = os.umask(0)
    try:
        with control_socket(directory):
            assert stat.S_IMODE((directory / SOCKET_NAME).stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_what_a_dead_process_left_is_replaced(directory: Path) -> None:
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        folder = os.open(directory, os.O_PATH)
        dead.bind(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
        os.close(folder)
    with control_socket(directory) as sock, connect(directory, 5):
        sock.accept()[0].close()


def test_a_socket_that_answers_is_left_alone(directory: Path) -> None:
    with control_socket(directory):
        with pytest.raises(ControlSocketError, match="another process"), control_socket(directory):
            pass
        connect(directory, 5).close()


def test_a_file_in_its_place_is_not_removed(directory: Path) -> None:
    directory.mkdir()
    (directory / SOCKET_NAME).write_text("precious")
    with pytest.raises(ControlSocketError, match="no socket"), control_socket(directory):
        pass
    assert (directory / SOCKET_NAME).read_text() == "precious"


def test_a_directory_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ControlSocketError) as told, control_socket(tmp_path / "file" / "run"):
        pass
    assert "\n" not in str(told.value)
    assert "Not a directory" in str(told.value)


def test_leaving_does_not_remove_the_socket_of_a_successor(tmp_path: Path) -> None:
    with control_socket(tmp_path):
        (tmp_path / SOCKET_NAME).unlink()
        (tmp_path / SOCKET_NAME).write_text("somebody else's")
    assert (tmp_path / SOCKET_NAME).exists()


def test_nobody_there_is_told_apart(directory: Path) -> None:
    with pytest.raises(FileNotFoundError):
        connect(directory, 1)
