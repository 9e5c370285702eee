"""The command line."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from chatmail.app.cli.commands import COMMANDS, GROUPS, Command
from chatmail.app.cli.parser import Invocation, ServeOptions, parse


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
    assert isinstance(options, ServeOptions)
    assert options.config == Path("a.toml")
    assert options.state_dir == Path("s")
    assert not options.demo


def test_demo_takes_a_port_base() -> None:
    options = parse(["serve", "--demo", "--port-base", "12000"])
    assert options == ServeOptions(config=None, state_dir=None, demo=True, port_base=12000)
    assert attrs.asdict(parse(["--demo"]))["port_base"] == 2000


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


@pytest.mark.parametrize(
    "line",
    [
        "settings set language fa --json --config a.toml --state-dir s",
        "--json --config a.toml --libexec s settings set language fa",
        "--json settings --config a.toml set --state-dir s language fa",
    ],
)
def test_global_flags_go_before_or_after_a_command(line: str) -> None:
    invocation = parse(line.split())
    assert isinstance(invocation, Invocation)
    assert invocation.command.name == "settings set"
    assert (invocation.config, invocation.state_dir) == (Path("a.toml"), Path("s"))
    assert invocation.is_json
    assert (invocation.options.name, invocation.options.value) == ("language", "fa")


@pytest.mark.parametrize(
    "line",
    [
        "settings",
        "settings fly",
        "settings set language",
        "settings list --fly",
        "status --demo",
        "registration jit perhaps",
        "expire --dry-run --remove",
        "reload --scope half",
    ],
)
def test_wrong_usage_is_told_in_the_form_that_was_asked_for(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for extra in ([], ["--json"]):
        with pytest.raises(SystemExit) as stopped:
            parse([*line.split(), *extra])
        assert stopped.value.code == 2
        said = capsys.readouterr()
        assert said.out == ""
        if extra:
            document = json.loads(said.err)
            assert (document["ok"], document["code"]) == (False, 2)
        else:
            assert "Error: " in said.err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_help(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse([*command.path, "--help"])
    assert stopped.value.code == 0
    assert f"usage: chatmail {command.name}" in capsys.readouterr().out
    assert command.path[0] in GROUPS or len(command.path) == 1
