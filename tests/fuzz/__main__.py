"""Run fuzz targets: `python -m tests.fuzz TARGET… [--seconds N]`, `all` for every target.

Each target runs in a process of its own, because the loop of libFuzzer never returns. What it
learns stays below `.cache/fuzz`, and so does an input that fails.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz import corpus

CACHE = Path(".cache/fuzz")
MAX_INPUT_OCTETS = 4096
INPUT_TIMEOUT_S = 20
MEMORY_MB = 1024
_LOOP = "--loop"  # how a run of one target is told so

_STATUS = re.compile(
    r"^#(\d+)\s+(INITED|DONE|NEW|REDUCE|pulse)\s.*?cov: (\d+) ft: (\d+)", re.MULTILINE
)


def main() -> int:
    """Run what the command line says; 1: a target failed."""
    if sys.argv[1:2] == [_LOOP]:
        return _loop(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="none: list them")
    parser.add_argument("--seconds", type=int, default=3600, help="how long each one runs")
    parser.add_argument("--runs", type=int, default=-1, help="how many inputs each one tries")
    parser.add_argument("--steady", action="store_true", help="the same inputs at every run")
    parser.add_argument("--jobs", type=int, default=1, help="how many targets run at a time")
    parser.add_argument("--write-seeds", action="store_true", help="write the vectors as seeds")
    options = parser.parse_args()
    known = corpus.names()
    targets = known if options.targets == ["all"] else options.targets
    unknown = [name for name in targets if name not in known]
    if unknown:
        parser.error(f"no such target: {unknown[0]}")
    if options.write_seeds:
        for name in targets or known:
            corpus.write_vectors(name)
        return 0
    if not targets:
        print("\n".join(known))
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed here (extra `fuzz`): nothing was run")
        return 0
    return _run_all(targets, options)


# --- one target ----------------------------------------------------------------------------------


def _loop(name: str, fuzzer_options: list[str]) -> int:
    import atheris

    with atheris.instrument_imports(include=["chatmail"], enable_loader_override=False):
        target = corpus.load(name)
    atheris.Setup([sys.argv[0], *fuzzer_options], target.check)
    atheris.Fuzz()
    return 0


class _Run:
    """One target in its process."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.name = name
        self.folder = CACHE / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self._scratch = tempfile.TemporaryDirectory()
        self._log_path = Path(self._scratch.name) / "log"
        grown = Path(self._scratch.name) if options.steady else self.folder
        (grown / "corpus").mkdir(exist_ok=True)
        words = Path(self._scratch.name) / "words"
        words.write_text(_dictionary(name))
        arguments = [
            *(sys.executable, "-m", "tests.fuzz", _LOOP, name),
            f"-max_total_time={options.seconds}",
            f"-runs={options.runs}",
            f"-max_len={MAX_INPUT_OCTETS}",
            f"-timeout={INPUT_TIMEOUT_S}",
            f"-rss_limit_mb={MEMORY_MB}",
            f"-dict={words}",
            f"-artifact_prefix={self.folder}/",
            "-print_final_stats=1",
            *(["-seed=1"] if options.steady else []),
            str(grown / "corpus"),
            str(corpus.seed_folder(name)),
        ]
        self._began = time.monotonic()
        with self._log_path.open("wb") as log:
            # Hash seeds would make the same seed take other ways through sets.
            env = {**os.environ, "PYTHONHASHSEED": "0"} if options.steady else dict(os.environ)
            self._process = subprocess.Popen(arguments, stdout=log, stderr=log, env=env)

    def is_done(self) -> bool:
        """Say whether the process has ended."""
        return self._process.poll() is not None

    def report(self) -> bool:
        """Print how it went; return whether no input failed."""
        log = self._log_path.read_text("utf-8", "replace")
        self._scratch.cleanup()
        seen = _STATUS.findall(log)
        took = time.monotonic() - self._began
        first = next((cov for _, kind, cov, _ in seen if kind == "INITED"), "?")
        runs, _, last, features = seen[-1] if seen else ("0", "", "?", "?")
        is_good = self._process.returncode == 0
        print(
            f"{self.name:18} {'ok' if is_good else 'FAILED':6} {runs:>9} inputs in {took:5.0f} s"
            f"  branches {first} -> {last}, features {features}",
            flush=True,
        )
        if not is_good:
            print(log[-6000:], flush=True)
            print(f"failing inputs are below {self.folder}/", flush=True)
        return is_good


def _dictionary(name: str) -> str:
    """Return the words of a target in libFuzzer's form."""
    words: tuple[bytes, ...] = _words_of(name)
    return "".join(f'"{"".join(map(_escaped, word))}"\n' for word in words)


def _escaped(octet: int) -> str:
    return f"\\x{octet:02x}"


def _words_of(name: str) -> tuple[bytes, ...]:
    return getattr(corpus.load(name), "WORDS", ())


def _run_all(names: list[str], options: argparse.Namespace) -> int:
    waiting, running, failed = list(names), [], 0
    while waiting or running:
        while waiting and len(running) < options.jobs:
            running.append(_Run(waiting.pop(0), options))
        time.sleep(0.05)
        for run in [run for run in running if run.is_done()]:
            running.remove(run)
            failed += not run.report()
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
