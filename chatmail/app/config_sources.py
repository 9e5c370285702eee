"""Where configuration values come from: the file, its drop-ins, the environment, the caller.

Each value keeps the place it was given at, so that every problem can name it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from chatmail.app.config_lines import KeyPath, key_lines, line_of
from chatmail.app.config_values import Text

ENVIRONMENT: Final = {
    "CHATMAIL_STATE_DIR": "server.state_dir",
    "CHATMAIL_ADMIN_PATH": "admin.path",
    "CHATMAIL_ADMIN_CORS_ORIGINS": "admin.cors_origins",
    "CHATMAIL_SMTP_ADDR": "listen.smtp",
    "CHATMAIL_IMAP_ADDR": "listen.imap",
    "CHATMAIL_HTTP_ADDR": "listen.http",
}
WITHOUT_FILE: Final = {
    "MAIL_DOMAIN": "server.domain",
    "MADDY_DOMAIN": "server.domain",
    "MADDY_HOSTNAME": "server.hostname",
}
MAX_INSERTED_OCTETS: Final = 64 * 1024

_GENERIC: Final = re.compile(r"CHATMAIL__([A-Z0-9]+)__([A-Z0-9_]+)\Z")
_INSERT: Final = re.compile(r"\$\{(ENV|FILE):([^}]+)\}")


@attrs.frozen(kw_only=True)
class Entry:
    """One value as given. `place` is `file:line` or the variable; `origin` file, env or call."""

    name: str
    raw: Any
    place: str
    origin: str


@attrs.define
class Gathered:
    """Everything given, by dotted name; later sources replace earlier ones."""

    entries: dict[str, Entry] = attrs.field(factory=dict)
    tables: dict[str, Entry] = attrs.field(factory=dict)
    problems: list[str] = attrs.field(factory=list)
    main_file: str = "configuration"


def gather(
    file: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> Gathered:
    """Read all sources, weakest first: file, drop-ins in name order, environment, overrides.

    A file that cannot be read or is no TOML is a problem, not an exception.
    """
    gathered = Gathered()
    if file is not None:
        gathered.main_file = file.name
        drop_ins = sorted(file.with_suffix(".d").glob("*.toml"))
        for each in (file, *drop_ins):
            _read(each, gathered)
    for entry in _from_environment(environ, has_file=file is not None):
        gathered.entries[entry.name] = entry
    for name, raw in overrides.items():
        gathered.entries[name] = Entry(name=name, raw=raw, place="command line", origin="call")
    return gathered


def insert(raw: Any, environ: Mapping[str, str], base: Path) -> Any:
    """Replace `${ENV:NAME}` and `${FILE:/path}` inside texts, also those in lists.

    Raises:  ValueError: the variable is not set, the file cannot be read.
    """
    if isinstance(raw, list):
        return [insert(item, environ, base) for item in raw]
    if not isinstance(raw, str) or "${" not in raw:
        return raw
    return Text(_INSERT.sub(lambda match: _inserted(match[1], match[2], environ, base), raw))


def _inserted(kind: str, name: str, environ: Mapping[str, str], base: Path) -> str:
    if kind == "ENV":
        if name not in environ:
            raise ValueError(f"the environment has no variable {name}")
        return environ[name]
    path = base / name
    try:
        with path.open("rb") as file:
            content = file.read(MAX_INSERTED_OCTETS + 1)
        if len(content) > MAX_INSERTED_OCTETS:
            raise ValueError(f"the file {path} is too long for a value")
        return content.decode("utf-8").rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"the file {path} is not UTF-8 text") from None


def _read(file: Path, gathered: Gathered) -> None:
    try:
        text = file.read_bytes().decode("utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        gathered.problems.append(f"{file.name}: cannot be read: {error.strerror}")
        return
    except UnicodeDecodeError:
        gathered.problems.append(f"{file.name}: is not UTF-8 text")
        return
    except tomllib.TOMLDecodeError as error:
        gathered.problems.append(_syntax_problem(file.name, str(error)))
        return
    lines = key_lines(text)
    for path, raw in _leaves(document, ()):
        number = line_of(lines, path)
        place = file.name if number is None else f"{file.name}:{number}"
        name = ".".join(path)
        kind = gathered.tables if isinstance(raw, dict) else gathered.entries
        kind[name] = Entry(name=name, raw=raw, place=place, origin="file")


def _leaves(table: Mapping[str, Any], path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Yield each table itself (as a dict), then what it holds."""
    for name, value in table.items():
        yield (*path, name), value
        if isinstance(value, dict):
            yield from _leaves(value, (*path, name))


def _syntax_problem(file_name: str, message: str) -> str:
    match = re.search(r"\s*\(at line (\d+), column (\d+)\)", message)
    if match is None:
        return f"{file_name}: {message}"
    return f"{file_name}:{match[1]}: {message.replace(match[0], '')} (column {match[2]})"


def _from_environment(environ: Mapping[str, str], *, has_file: bool) -> Iterator[Entry]:
    if not has_file:
        for variable, name in WITHOUT_FILE.items():
            if environ.get(variable):
                yield _variable(variable, name, environ)
    for variable, name in ENVIRONMENT.items():
        if variable in environ:
            yield _variable(variable, name, environ)
    for variable in sorted(environ):
        match = _GENERIC.match(variable)
        if match:
            yield _variable(variable, f"{match[1]}.{match[2]}".lower(), environ)


def _variable(variable: str, name: str, environ: Mapping[str, str]) -> Entry:
    return Entry(
        name=name,
        raw=Text(environ[variable]),
        place=f"environment {variable}",
        origin="env",
    )
