"""The boot configuration: every source in, one frozen and checked `BootConfig` out.

All problems are found at once, each with its place; with one problem nothing is returned.
"""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

import attrs
import cattrs
from cattrs.errors import ClassValidationError

from chatmail.app import config_values as values
from chatmail.app.config_checks import Finding, check
from chatmail.app.config_choice import USUAL_FILES, ConfigError, chosen_file, state_override
from chatmail.app.config_keys import ALIASES, FIELDS, PATHS, SECTIONS, BootConfig
from chatmail.app.config_option import UNSET
from chatmail.app.config_sections import ABSENT_WITH_LISTEN_TABLE
from chatmail.app.config_sources import Entry, Gathered, gather, insert
from chatmail.app.config_values import quoted

# Names of values that other servers' files use.
_VALUE_ALIASES: Final = {
    "tls.mode": {"file": "files", "self_signed": "self-signed", "autocert": "acme"},
}
_LOWER_CASE: Final = frozenset({"federation.policy", "log.level", "push.mode"})


_BASIC: Final[dict[Any, Callable[[Any], Any]]] = {
    bool: values.boolean,
    int: values.integer,
    float: values.number,
    str: values.string,
}

_KEYS_IN_DAYS: Final = frozenset(
    {
        "delete_mails_after",
        "delete_large_after",
        "delete_inactive_users_after",
        "address_quarantine_days",
    }
)

_DOMAINS: Final = (
    "MAIL_DOMAIN",
    "MADDY_DOMAIN",
    "CHATMAIL__SERVER__DOMAIN",
    "CHATMAIL__SERVER__IP",
)

# A password inside a database URL.
_URL_SECRET: Final = re.compile(r"://[^/@:]*:[^/@]+@")


@attrs.frozen(kw_only=True)
class LoadedConfig:
    """A usable configuration, what to warn about, and where each given key came from.

    `origins` maps dotted names to `file` or `env`; the rest is `default`.
    """

    boot: BootConfig
    warnings: tuple[str, ...]
    origins: Mapping[str, str]


def load_config(
    file: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object] | None = None,
    *,
    now_s: float = 0.0,
) -> LoadedConfig:
    """Read, type and check the configuration.

    Args:  overrides: values of the command line by dotted name, as TOML would give them.
        now_s: unix time for the check of certificate dates; 0: dates are not checked.
    Raises:  ConfigError: with every problem, one line each (spec admin 5.3).
    """
    gathered = gather(file, environ, overrides or {})
    base = file.absolute().parent if file is not None else Path.cwd()
    return _Loading(gathered, environ, base).finish(now_s, file)


def load_chosen(
    config: Path | None, state_dir: Path | None, environ: Mapping[str, str], now_s: float
) -> LoadedConfig:
    """Load the configuration that the flags, or their absence, name.

    Args:  config, state_dir: as given on the command line.
    Raises:  ConfigError: there is none, or it has problems.
    """
    file = chosen_file(config, environ)
    if file is None and not any(environ.get(name) for name in _DOMAINS):
        raise ConfigError(
            (
                f"no configuration file ({', '.join(map(str, USUAL_FILES))}): write one with "
                '[server] domain = "…", name one with --config, or try: chatmail serve --demo',
            )
        )
    return load_config(file, environ, state_override(state_dir), now_s=now_s)


class _Loading:
    """One pass from raw entries to the frozen configuration, gathering problems."""

    def __init__(self, gathered: Gathered, environ: Mapping[str, str], base: Path) -> None:
        self.main_file = gathered.main_file
        self.tables = gathered.tables
        self.problems = list(gathered.problems)
        self.warnings: list[str] = []
        self.environ = environ
        self.base = base
        self.bad: set[str] = set()
        self.entries = self._canonical(gathered)

    def finish(self, now_s: float, file: Path | None) -> LoadedConfig:
        """Return the result or raise with all problems."""
        expanded = self._expand()
        boot = self._structure(expanded)
        for finding in check(boot, file=file, secrets=self._secrets(), now_s=now_s):
            if not self.bad.intersection(finding.keys):
                line = self._line(finding)
                (self.warnings if finding.is_warning else self.problems).append(line)
        if self.problems:
            raise ConfigError(tuple(self.problems))
        origins = {
            name: "file" if entry.origin == "file" else "env"
            for name, entry in self.entries.items()
        }
        return LoadedConfig(boot=boot, warnings=tuple(self.warnings), origins=origins)

    def _canonical(self, gathered: Gathered) -> dict[str, Entry]:
        """Resolve older names; report unknown ones."""
        entries: dict[str, Entry] = {}
        unknown: list[Entry] = []
        for entry in _with_database_url(gathered.entries.values()):
            name = ALIASES.get(entry.name, entry.name)
            if name not in FIELDS:
                unknown.append(entry)
                continue
            if name != entry.name:
                self.warnings.append(f"{entry.place}: {entry.name} is an older name of {name}")
            earlier = entries.get(name)
            if earlier is not None and _is_same_file(earlier, entry):
                self.problems.append(f"{entry.place}: {name}: is given twice ({earlier.place})")
            entries[name] = attrs.evolve(entry, name=name, raw=_in_days(entry))
        unknown += [
            table for table in gathered.tables.values() if _is_unknown_table(table.name, gathered)
        ]
        strict = entries.get("server.strict")
        is_strict = strict is None or strict.raw not in (False, "false")
        for entry in unknown:
            (self.problems if is_strict else self.warnings).append(_unknown(entry))
        return entries

    def _secrets(self) -> tuple[str, ...]:
        """Return the keys whose secrets stand literally in a file."""
        return tuple(
            name
            for name, entry in sorted(self.entries.items())
            if FIELDS[name].metadata["secret"]
            and entry.origin == "file"
            and isinstance(entry.raw, str)
            and entry.raw
            and "${" not in entry.raw
            and (name != "database.url" or _URL_SECRET.search(entry.raw))
        )

    def _expand(self) -> dict[str, Any]:
        """Insert `${…}`, the profile's defaults and what a `[listen]` table leaves out."""
        raw: dict[str, Any] = {}
        for name, entry in self.entries.items():
            try:
                value = insert(entry.raw, self.environ, self.base)
            except ValueError as error:
                self._problem(name, str(error))
                continue
            raw[name] = self._normal_text(name, value) if isinstance(value, str) else value
        if raw.get("server.defaults") == "madmail":
            for name, field in FIELDS.items():
                default = field.metadata["madmail"]
                if default is not UNSET:
                    raw.setdefault(name, default)
        if "listen" in self.tables:
            for face in ABSENT_WITH_LISTEN_TABLE:
                raw.setdefault(f"listen.{face}", [])
        return raw

    def _normal_text(self, name: str, value: str) -> str:
        """Return a text as its reader wants it: lower case, full path, current word."""
        if name in PATHS and value:
            return str(self.base / value)
        if name in _LOWER_CASE:
            value = type(value)(value.lower())
        word = _VALUE_ALIASES.get(name, {}).get(value)
        if word is None:
            return value
        place = self.entries[name].place
        self.warnings.append(f"{place}: {name}: {quoted(value)} is an older name of {word}")
        return word

    def _structure(self, raw: Mapping[str, Any]) -> BootConfig:
        """Give every value its type; keys that fail keep their default for the checks."""
        converter = _converter()
        parts: dict[str, Any] = {}
        for section, section_class in SECTIONS.items():
            start = len(section) + 1
            given = {
                name[start:]: value
                for name, value in raw.items()
                if name.partition(".")[0] == section
            }
            try:
                parts[section] = converter.structure(given, section_class)
            except ClassValidationError as error:
                for failure, note in error.group_exceptions()[0]:
                    self._problem(f"{section}.{note.name}", str(failure))
                    given.pop(note.name, None)
                parts[section] = converter.structure(given, section_class)
        return BootConfig(**parts)

    def _problem(self, name: str, message: str) -> None:
        self.bad.add(name)
        entry = self.entries.get(name)
        if entry is None:
            self.problems.append(f"{self.main_file}: {name}: {message}")
            return
        # The text as written, never what was inserted: that may be a secret.
        shown = "" if FIELDS[name].metadata["secret"] else f" {quoted(entry.raw)}:"
        self.problems.append(f"{entry.place}: {name}:{shown} {message}")

    def _line(self, finding: Finding) -> str:
        name = next((key for key in finding.keys if key in self.entries), finding.keys[0])
        place = self.entries[name].place if name in self.entries else self.main_file
        return f"{place}: {finding.keys[0]}: {finding.message}"


def _with_database_url(given: typing.Iterable[Entry]) -> list[Entry]:
    """Turn `database.driver` and `.dsn` into `database.url`, their newer form."""
    entries = {entry.name: entry for entry in given}
    driver = entries.pop("database.driver", None)
    dsn = entries.pop("database.dsn", None)
    if driver is None and dsn is None:
        return list(entries.values())
    kind = str(driver.raw).lower() if driver else "sqlite"
    target = str(dsn.raw) if dsn else ""
    is_sqlite = kind.startswith("sqlite")
    url = (f"sqlite:{target}" if target else "sqlite") if is_sqlite else target
    source = driver or dsn
    assert source is not None  # noqa: S101 - one of the two is there
    entries.setdefault("database.url", attrs.evolve(source, name="database.url", raw=url))
    return list(entries.values())


def _is_same_file(one: Entry, other: Entry) -> bool:
    files = {entry.place.rpartition(":")[0] for entry in (one, other)}
    return one.origin == other.origin == "file" and len(files) == 1


def _in_days(entry: Entry) -> Any:
    """Spell out the unit of older keys whose bare numbers are days (spec policy 4)."""
    is_days = entry.name.rpartition(".")[2] in _KEYS_IN_DAYS
    is_number = isinstance(entry.raw, int) and not isinstance(entry.raw, bool)
    if is_days and (is_number or (isinstance(entry.raw, str) and entry.raw.isdecimal())):
        return f"{entry.raw}d"
    return entry.raw


def _is_unknown_table(name: str, gathered: Gathered) -> bool:
    """Say whether a table means nothing and holds nothing that is reported by itself."""
    start = name + "."
    is_known = name in SECTIONS or any(alias.startswith(start) for alias in ALIASES)
    return not is_known and not any(entry.startswith(start) for entry in gathered.entries)


def _unknown(entry: Entry) -> str:
    names = [*FIELDS, *ALIASES] if "." in entry.name else [*SECTIONS, *FIELDS, *ALIASES]
    near = difflib.get_close_matches(entry.name, names, n=1, cutoff=0.6)
    if not near:
        tail = entry.name.rpartition(".")[2]
        near = [name for name in FIELDS if name.rpartition(".")[2] == tail][:1]
    hint = f" (did you mean {ALIASES.get(near[0], near[0])}?)" if near else ""
    return f"{entry.place}: {entry.name}: unknown key{hint}"


@lru_cache(maxsize=1)  # building it takes 30 ms
def _converter() -> cattrs.Converter:
    """Return a strict converter: no value is bent into a type it does not have."""
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    for basic, read in _BASIC.items():
        converter.register_structure_hook(basic, _as_hook(read))
    hooks: list[tuple[Any, Callable[[Any], Any]]] = [
        (values.Size, values.size),
        (values.Seconds, values.duration),
        (values.Seconds | None, lambda raw: _unless_auto(raw, values.duration)),
        (bool | None, lambda raw: _unless_auto(raw, values.boolean)),
        (values.Percent, values.percent),
        (values.Port, values.port),
        (values.Targets, values.targets),
        (Path | None, values.path),
        (values.IpAddress | None, values.ip),
        (tuple[values.IpAddress, ...], values.ips),
        (tuple[values.IpNetwork, ...], values.networks),
        (tuple[values.ListenAddress, ...], values.listen_addresses),
        (tuple[values.Seconds, ...], values.durations),
        (tuple[str, ...], values.strings),
        (tuple[int, ...], lambda raw: tuple(map(values.integer, values.items(raw)))),
    ]
    for wanted, read in hooks:
        converter.register_structure_hook_func(_is_exactly(wanted), _as_hook(read))
    converter.register_structure_hook_func(_is_choice, _choice)
    return converter


def _is_choice(wanted: Any) -> bool:
    origin: object = typing.get_origin(wanted)
    return origin is Literal


def _is_exactly(wanted: Any) -> Callable[[Any], bool]:
    return lambda candidate: bool(candidate == wanted)


def _as_hook(read: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda raw, _: read(raw)


def _unless_auto(raw: Any, read: Callable[[Any], Any]) -> Any:
    return None if isinstance(raw, str) and raw.strip().lower() == "auto" else read(raw)


def _choice(raw: Any, wanted: Any) -> str:
    choices = typing.get_args(wanted)
    if raw not in choices or not isinstance(raw, str):
        named = [choice for choice in choices if choice]
        near = difflib.get_close_matches(str(raw), named, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"is none of {', '.join(named)}{hint}")
    return str(raw)
