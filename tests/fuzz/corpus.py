"""Targets by name, and the seeds committed for them."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, cast

HERE = Path(__file__).parent
SEEDS = HERE / "seeds"
MAX_SEED_OCTETS = 16 * 1024


class Target(Protocol):
    """What a module below `targets` offers."""

    check: Callable[[bytes], None]
    VECTORS: tuple[bytes, ...]


def names() -> list[str]:
    """Return the names of all targets."""
    return sorted(path.stem for path in (HERE / "targets").glob("[a-z]*.py"))


def load(name: str) -> Target:
    """Import a target."""
    return cast(Target, importlib.import_module(f"tests.fuzz.targets.{name}"))


def seed_folder(name: str) -> Path:
    """Return where the seeds of a target are."""
    return SEEDS / name


def seeds(name: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and octets of each committed seed."""
    for path in sorted(seed_folder(name).glob("*")):
        yield path.name, path.read_bytes()


def write_vectors(name: str) -> None:
    """Write the vectors of a target as seeds, in place of those written before."""
    folder = seed_folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("vector-*"):
        old.unlink()
    for vector in load(name).VECTORS:
        (folder / f"vector-{hashlib.sha1(vector).hexdigest()[:12]}").write_bytes(vector)
