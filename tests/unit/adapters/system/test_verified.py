from __future__ import annotations

import os
from pathlib import Path

import pytest

from chatmail.adapters.system import verified
from chatmail.adapters.system.passwords import REMEMBER_S, CachingHasher
from chatmail.adapters.system.threads import ThreadPool
from chatmail.adapters.system.verified import (
    KeptVerifications,
    remove_stale,
    shared_memory_path,
)
from chatmail.domain.model.account import AccountId
from tests.unit.fakes.system import FakeClock, FakeEntropy

ALICE, BOB, CAROL = AccountId(1), AccountId(2), AccountId(3)
NOW_S = 1_700_000_000.0
KEY = bytes(range(32))
STORED = "argon2:x"


def kept(path: Path, now_s: float = NOW_S, key: bytes = KEY) -> KeptVerifications:
    return KeptVerifications(path, key, now_s, REMEMBER_S)


def hasher(path: Path, clock: FakeClock, key: bytes = KEY, at_most: int = 100) -> CachingHasher:
    pool = ThreadPool("hash", 1, 100)
    kept_here = KeptVerifications(path, key, clock.now_s(), REMEMBER_S)
    return CachingHasher(pool, clock, FakeEntropy(), at_most, kept_here)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept"


def test_what_was_verified_before_a_kill_is_known_after_the_restart(path: Path) -> None:
    clock = FakeClock()
    first = hasher(path, clock)
    first.remember(ALICE, STORED, b"secret")
    second = hasher(path, clock, key=bytes(32))  # nothing was closed
    assert second.is_verified(ALICE, STORED, b"secret")
    assert not second.is_verified(ALICE, STORED, b"wrong")
    assert not second.is_verified(ALICE, STORED + "changed", b"secret")
    assert not second.is_verified(BOB, STORED, b"secret")


def test_what_was_forgotten_stays_forgotten(path: Path) -> None:
    clock = FakeClock()
    first = hasher(path, clock)
    first.remember(ALICE, STORED, b"secret")
    first.remember(BOB, STORED, b"secret")
    first.forget(ALICE)
    second = hasher(path, clock)
    assert not second.is_verified(ALICE, STORED, b"secret")
    assert second.is_verified(BOB, STORED, b"secret")


def test_the_days_go_on_counting_over_a_restart_and_use_renews_them(path: Path) -> None:
    clock = FakeClock()
    hasher(path, clock).remember(ALICE, STORED, b"secret")
    clock.advance(REMEMBER_S - 10)
    second = hasher(path, clock)
    assert len(second) == 1
    clock.advance(20)
    assert not second.is_verified(ALICE, STORED, b"secret")
    second.remember(BOB, STORED, b"secret")
    clock.advance(REMEMBER_S - 10)
    assert second.is_verified(BOB, STORED, b"secret")
    clock.advance(REMEMBER_S - 10)
    assert hasher(path, clock).is_verified(BOB, STORED, b"secret")


def test_a_clock_set_back_makes_nothing_valid_for_longer(path: Path) -> None:
    kept(path).note(ALICE, bytes(32), NOW_S + REMEMBER_S)
    assert kept(path, NOW_S - 1).found == {}
    assert set(kept(path, NOW_S).found) == {ALICE}


def test_nobody_else_may_have_written_or_read_the_file(path: Path) -> None:
    kept(path).note(ALICE, bytes(32), NOW_S + 60)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    assert kept(path, key=bytes(32)).key == bytes(32)
    path.chmod(0o600)
    other = path.with_name("link")
    other.symlink_to(path)
    assert kept(other).found == {}


@pytest.mark.parametrize("octets", [b"", b"CMver", b"x" * 500, bytes(41)])
def test_any_doubt_means_to_start_with_nothing(path: Path, octets: bytes) -> None:
    path.write_bytes(octets)
    path.chmod(0o600)
    fresh = kept(path)
    assert fresh.found == {}
    assert fresh.key == KEY
    fresh.note(ALICE, bytes(32), NOW_S + 60)
    assert set(kept(path, key=bytes(32)).found) == {ALICE}


def test_a_torn_last_record_is_left_out(path: Path) -> None:
    one = kept(path)
    one.note(ALICE, bytes(32), NOW_S + 60)
    one.note(BOB, bytes(32), NOW_S + 60)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    assert set(kept(path).found) == {ALICE}


def test_the_file_is_written_anew_before_it_grows_without_bound(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verified, "_MAX_RECORDS", 10)
    clock = FakeClock()
    busy = hasher(path, clock, at_most=2)
    for _ in range(40):
        for account in (ALICE, BOB, CAROL):
            busy.remember(account, STORED, b"secret")
    assert path.stat().st_size < 1000
    assert set(kept(path, clock.now_s()).found) <= {ALICE, BOB, CAROL}
    assert {BOB, CAROL} <= set(kept(path, clock.now_s()).found)
    assert [entry.name for entry in path.parent.iterdir()] == ["kept"]


def test_without_room_nothing_is_kept_and_nothing_breaks(tmp_path: Path) -> None:
    clock = FakeClock()
    nowhere = hasher(tmp_path / "missing" / "kept", clock)
    nowhere.remember(ALICE, STORED, b"secret")
    assert nowhere.is_verified(ALICE, STORED, b"secret")


def test_no_file_before_there_is_something_to_keep(path: Path) -> None:
    kept(path)
    assert not path.exists()


def test_only_memory_will_do(tmp_path: Path) -> None:
    assert shared_memory_path(tmp_path, tmp_path) is None
    one = shared_memory_path(tmp_path / "one")
    assert one is None or one != shared_memory_path(tmp_path / "two")


def test_files_of_relays_that_are_gone_are_removed(tmp_path: Path) -> None:
    old, new = (tmp_path / f"chatmail-{os.geteuid()}-{name}" for name in ("old", "new"))
    foreign = tmp_path / "chatmail-x"
    for file in (old, new, foreign):
        file.write_bytes(b"")
        os.utime(file, (NOW_S - 100, NOW_S - 100))
    os.utime(new, (NOW_S, NOW_S))
    remove_stale(tmp_path, NOW_S, 50)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([new.name, foreign.name])
