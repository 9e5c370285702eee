"""Structured log records: one event with a few fields each, redacted before anything is written.

No level and no setting prints an address, a client's IP, a secret or content; `redaction` holds
the rule. A record that cannot be written is lost; logging never fails.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO, TypeAlias

import attrs

from chatmail.adapters.system.redaction import Plain, Pseudonyms, Redactor
from chatmail.domain.ports.system import Clock, Entropy

ROTATE_BYTES: Final = 16 * 1024 * 1024
KEPT_FILES: Final = 5
DEBUG_S: Final = 86400.0
"""So long `debug` lasts: what was turned on to find a fault is forgotten otherwise (policy 6)."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")


class Level(enum.IntEnum):
    """How much a record matters."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


Sink: TypeAlias = Callable[[str], None]
"""Takes one line with its line end. May lose it, must not raise."""


class StreamSink:
    """Writes to a text stream, by default whatever stderr is at that moment."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def __call__(self, line: str) -> None:
        """Write one line."""
        stream = self._stream or sys.stderr
        # A closed or broken stderr must not take a mail server down.
        with contextlib.suppress(OSError, ValueError):
            stream.write(line)
            stream.flush()


class FileSink:
    """Appends to a file of mode 0600; turns it over when it has grown, keeps five old ones."""

    def __init__(self, path: Path, rotate_bytes: int = ROTATE_BYTES) -> None:
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._file: TextIO | None = None
        self._size = 0

    def __call__(self, line: str) -> None:
        """Append one line."""
        with contextlib.suppress(OSError):
            if self._file is not None and self._size + len(line) > self._rotate_bytes:
                self._rotate()
            if self._file is None:
                self._open()
            if self._file is not None:
                self._file.write(line)
                self._file.flush()
                self._size += len(line)

    def reopen(self) -> None:
        """Let go of the file: the next line goes to whatever has its name then (SIGUSR2)."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _open(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._file = os.fdopen(descriptor, "a", encoding="utf-8")
        self._size = os.fstat(descriptor).st_size

    def _rotate(self) -> None:
        self.reopen()
        for number in range(KEPT_FILES - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            if older.exists():
                older.replace(self._path.with_name(f"{self._path.name}.{number + 1}"))
        self._path.replace(self._path.with_name(f"{self._path.name}.1"))


class Manner:
    """How a log and all that were bound from it write."""

    __slots__ = ("debug_ends_s", "is_silent", "level", "redactor")

    def __init__(self, level: Level, redactor: Redactor, debug_ends_s: float) -> None:
        self.is_silent = False
        self.level = level
        self.redactor = redactor
        self.debug_ends_s = debug_ends_s

    def end_debug(self) -> None:
        """Write from now on what `info` writes."""
        self.level = Level.INFO
        self.redactor = attrs.evolve(self.redactor, shows_networks=False)


class Log:
    """The log of the running server. Without sinks it writes nothing at all."""

    def __init__(
        self,
        clock: Clock,
        manner: Manner,
        sinks: tuple[Sink, ...] = (),
        *,
        is_json: bool = False,
        bound: Mapping[str, object] | None = None,
    ) -> None:
        self._clock = clock
        self._sinks = sinks
        self._is_json = is_json
        self._bound = dict(bound or {})
        self._manner = manner

    @property
    def is_debugging(self) -> bool:
        """Whether more is written than an operator needs every day."""
        self._look_at_the_clock()
        return self._manner.level is Level.DEBUG

    def debug(self, event: str, **fields: object) -> None:
        """For somebody who looks for a fault."""
        self._record(Level.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """For the normal course of things."""
        self._record(Level.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """For what the operator should look at."""
        self._record(Level.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """For what failed."""
        self._record(Level.ERROR, event, fields)

    def bind(self, **fields: object) -> Log:
        """Return a log that adds these fields to each record (`sid=` of a session)."""
        return Log(
            self._clock,
            self._manner,
            self._sinks,
            is_json=self._is_json,
            bound={**self._bound, **fields},
        )

    def silence(self, is_silent: bool) -> None:
        """Write nothing at all, or go on; holds for every log bound from this one (policy 6)."""
        self._manner.is_silent = is_silent

    def reopen(self) -> None:
        """Let every file sink go of its file."""
        for sink in self._sinks:
            if isinstance(sink, FileSink):
                sink.reopen()

    def _record(self, level: Level, event: str, fields: Mapping[str, object]) -> None:
        manner = self._manner
        if level < manner.level or not self._sinks or manner.is_silent:
            return
        if self._look_at_the_clock() and level is Level.DEBUG:
            return
        record: dict[str, Plain] = {
            "ts": _timestamp(self._clock.now_s()),
            "level": level.name.lower(),
            "event": event if _NAME.match(event) else "unnamed",
        }
        for name, value in {**self._bound, **fields}.items():
            record.setdefault(name if _NAME.match(name) else "field", manner.redactor.plain(value))
        line = _as_json(record) if self._is_json else _as_text(record)
        for sink in self._sinks:
            sink(line)

    def _look_at_the_clock(self) -> bool:
        """End `debug` when its day is over, and say so; True: that was now."""
        manner = self._manner
        if manner.level is not Level.DEBUG or self._clock.monotonic_s() < manner.debug_ends_s:
            return False
        manner.end_debug()
        self.info("debug_ended")
        return True


def open_log(
    clock: Clock,
    entropy: Entropy,
    targets: tuple[str, ...],
    *,
    level: str = "info",
    format_name: str = "text",
    addresses: str = "hash",
    ip: str = "none",
) -> Log:
    """Build the log the operator asked for (keys `log.*`, spec admin 5.2, 7.5).

    Args:  targets: `off`, `stderr`, `journal`, `syslog` or file paths; `off` wins over all.
        The journal and syslog read what a service writes to stderr.
    """
    threshold = Level[level.upper()]
    redactor = Redactor(
        pseudonyms=Pseudonyms(clock, entropy),
        names_addresses=addresses == "hash",
        shows_networks=ip == "truncate" and threshold is Level.DEBUG,
    )
    sinks = () if "off" in targets else tuple(_sinks(targets))
    manner = Manner(threshold, redactor, clock.monotonic_s() + DEBUG_S)
    return Log(clock, manner, sinks, is_json=format_name == "json")


def _sinks(targets: tuple[str, ...]) -> list[Sink]:
    streams = {"stderr", "journal", "syslog"}
    sinks: list[Sink] = [FileSink(Path(target)) for target in targets if target not in streams]
    return [StreamSink(), *sinks] if streams.intersection(targets) else sinks


def _timestamp(now_s: float) -> str:
    moment = datetime.fromtimestamp(now_s, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _as_json(record: Mapping[str, Plain]) -> str:
    return json.dumps(record, ensure_ascii=True, separators=(",", ":")) + "\n"


def _as_text(record: Mapping[str, Plain]) -> str:
    head = f"{record['ts']} {str(record['level']).upper():7} {record['event']}"
    fields = [
        f"{name}={_text_value(value)}"
        for name, value in record.items()
        if name not in ("ts", "level", "event")
    ]
    return " ".join([head, *fields]) + "\n"


def _text_value(value: Plain) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "true" if value else "false"
        case list():
            return ",".join(map(_text_value, value)) or "-"
        case str() if not value or " " in value or '"' in value:
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)
