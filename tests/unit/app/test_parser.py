"""The command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatmail.app.cli.parser import parse


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--config", "a.toml", "--state-dir", "s"],
        ["run", "--config", "a.toml", "--state-dir", "s"],
        ["--config", "a.toml", "--state-dir", "s"],
        ["--config", "a.toml", "serve", "--state-dir", "s"],
    ],
)
def test_serve_run_and_bare_are_one_command(arguments: list[str]) -> None:
    options = parse(arguments)
    assert options.config == Path("a.toml")
    assert options.state_dir == Path("s")
    assert not options.demo


def test_demo_takes_a_port_base() -> None:
    options = parse(["serve", "--demo", "--port-base", "12000"])
    assert options.demo
    assert options.port_base == 12000
    assert parse(["--demo"]).port_base == 2000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--port-base", "3000"], "--demo"),
        (["serve", "--demo", "--config", "x"], "either"),
        (["serve", "--demo", "--port-base", "80"], "1024"),
        (["fly"], "fly"),
        (["serve", "--dem"], "--dem"),
    ],
)
def test_usage_errors_exit_with_two_and_name_the_culprit(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_version_and_help_exit_with_zero(capsys: pytest.CaptureFixture[str]) -> None:
    for argument, said in (("--version", "chatmail 0."), ("--help", "serve --demo")):
        with pytest.raises(SystemExit) as stopped:
            parse([argument])
        assert stopped.value.code == 0
        assert said in capsys.readouterr().out
