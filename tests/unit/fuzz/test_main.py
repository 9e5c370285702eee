"""The command line of the fuzzer, as far as it needs none."""

from __future__ import annotations

import sys

import pytest

from tests.fuzz import corpus
from tests.fuzz.__main__ import _dictionary, main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["fuzz", *arguments])
    return main()


def test_without_a_target_the_targets_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch) == 0
    assert capsys.readouterr().out.split() == corpus.names()


def test_an_unknown_target_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "nonsense")
    assert stop.value.code == 2


def test_without_atheris_nothing_runs_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run(monkeypatch, "all") == 0
    assert "atheris is not installed" in capsys.readouterr().out


@pytest.mark.parametrize("name", corpus.names())
def test_words_are_written_as_the_fuzzer_reads_them(name: str) -> None:
    lines = _dictionary(name).splitlines()
    words = [bytes.fromhex(line[1:-1].replace("\\x", "")) for line in lines]
    assert words == list(getattr(corpus.load(name), "WORDS", ()))
    assert all(words)
