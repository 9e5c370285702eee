"""What stored settings change: from texts by key to values in the configuration file's terms.

Precedence is one step: what is stored replaces what the file gave. A stored text that means
nothing is told and ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import attrs

from chatmail.domain.model.settings import SettingValue
from chatmail.domain.policy.settings_table import BY_KEY, SETTING_FACES, Kind
from chatmail.domain.policy.settings_values import read_stored

DEFAULT_RETENTION_S: Final = 30 * 86400


@attrs.frozen
class BadSetting:
    """A stored text that is not followed, and why."""

    key: str
    problem: str


@attrs.frozen(kw_only=True)
class Overrides:
    """What stored settings say, in the configuration file's terms.

    `ports`, `local_only` and `closed` are about faces of `[listen]`.
    """

    values: Mapping[str, SettingValue]
    ports: Mapping[str, int]
    local_only: frozenset[str]
    closed: frozenset[str]
    log_disabled: bool
    bad: tuple[BadSetting, ...]


def overrides(stored: Mapping[str, str], configured: Callable[[str], SettingValue]) -> Overrides:
    """Turn stored texts into what they change. A bad one is told and changes nothing.

    Args:  configured: the value that file, environment and defaults give a configuration key.
    """
    bad: list[BadSetting] = []
    found = dict(_readable(stored, bad))
    values: dict[str, SettingValue] = {}
    for key, value in found.items():
        rule = BY_KEY[key]
        if rule.config_key and rule.kind is not Kind.PORT:
            values[rule.config_key] = value
    _settle_sizes(values, found, configured)
    _settle_retention(values, found, configured)
    if "__PUSH_ENABLED__" in found and "__PUSH_MODE__" not in found:
        values["push.mode"] = "on" if found["__PUSH_ENABLED__"] else "off"
    ports = {face: found.get(f"__{name.upper()}_PORT__") for name, face in SETTING_FACES.items()}
    return Overrides(
        values=values,
        ports={face: port for face, port in ports.items() if isinstance(port, int)},
        local_only=frozenset(
            face
            for name, face in SETTING_FACES.items()
            if found.get(f"__{name.upper()}_LOCAL_ONLY__")
        ),
        closed=frozenset(
            face for face in ("http", "https") if found.get(f"__{face.upper()}_ENABLED__") is False
        ),
        log_disabled=bool(found.get("__LOG_DISABLED__")),
        bad=tuple(bad),
    )


def _readable(
    stored: Mapping[str, str], bad: list[BadSetting]
) -> Iterator[tuple[str, SettingValue]]:
    for key, text in stored.items():
        rule = BY_KEY.get(key)
        if rule is None:
            continue
        try:
            value = read_stored(rule, text)
        except ValueError as problem:
            bad.append(BadSetting(key, str(problem)))
            if rule.kind is Kind.BOOLEAN:
                yield key, False  # spec admin 1.6: unknown text in the database reads as false
        else:
            if value is not None:
                yield key, value


def _settle_sizes(
    values: dict[str, SettingValue],
    found: Mapping[str, SettingValue],
    configured: Callable[[str], SettingValue],
) -> None:
    """Spec admin 3: of the two size limits the smaller one holds; an unset one is the file's."""
    key = "limits.max_message_size"
    if key in values:
        both = ("__APPENDLIMIT__", "__MAX_MESSAGE_SIZE__")
        values[key] = min(_as_int(found.get(one, configured(key))) for one in both)


def _settle_retention(
    values: dict[str, SettingValue],
    found: Mapping[str, SettingValue],
    configured: Callable[[str], SettingValue],
) -> None:
    """Spec admin 3: a switch and a duration stand for the one key of the file."""
    switch, given = "__MESSAGE_RETENTION_ENABLED__", "__MESSAGE_RETENTION__"
    if switch not in found and given not in found:
        return
    kept_s = configured("retention.messages")
    is_on = found.get(switch, bool(kept_s))
    values["retention.messages"] = float(
        _as_float(found.get(given, kept_s or DEFAULT_RETENTION_S)) if is_on else 0
    )


def _as_int(value: SettingValue) -> int:
    return value if isinstance(value, int) else 0


def _as_float(value: SettingValue) -> float:
    return value if isinstance(value, int | float) else 0.0


def unknown_keys(stored: Iterable[str]) -> tuple[str, ...]:
    """Return the stored keys that this program does not know; they are kept untouched."""
    return tuple(sorted(key for key in stored if key not in BY_KEY))
