"""Keys of signatures: records, the web, trouble with either, how long they are kept."""

from __future__ import annotations

import pytest
import trio

from chatmail.adapters.dkim import key_lookup
from chatmail.adapters.dkim.key_lookup import KeyLookup, NoKey, PublicKey, usable
from chatmail.domain.policy.encryption_gate import DkimResult
from chatmail.domain.ports.remote import DnsFault
from tests.unit.adapters.dkim.judging import (
    NAME,
    RECORD,
    Judge,
    Outside,
    by_dkimpy,
    published,
    spki,
)
from tests.unit.adapters.dkim.world import DOMAIN


@pytest.mark.parametrize(
    ("record", "result"),
    [
        pytest.param(RECORD, DkimResult.PASS, id="ours"),
        pytest.param(f"p={spki()}", DkimResult.PASS, id="key-alone"),
        pytest.param(f"v=DKIM1; k=rsa; t=y; p={spki()};", DkimResult.PASS, id="testing"),
        pytest.param(f"v=DKIM1; h=sha1:sha256; p={spki()}", DkimResult.PASS, id="hashes"),
        pytest.param(f"v=DKIM1; h=sha1; p={spki()}", DkimResult.BAD, id="sha1-alone"),
        pytest.param("v=DKIM1; p=", DkimResult.BAD, id="revoked"),
        pytest.param(f"v=DKIM2; p={spki()}", DkimResult.BAD, id="version"),
        pytest.param(f"p={spki()}; v=DKIM1", DkimResult.BAD, id="version-not-first"),
        pytest.param(f"v=DKIM1; s=tlsrpt; p={spki()}", DkimResult.BAD, id="not-for-mail"),
        pytest.param(f"v=DKIM1; p={spki()}; p={spki()}", DkimResult.BAD, id="twice"),
        pytest.param("v=DKIM1; p=AAAA", DkimResult.BAD, id="no-key"),
        pytest.param(f"v=DKIM1; k=ed25519; p={spki()}", DkimResult.BAD, id="other-kind"),
        pytest.param("hello", DkimResult.BAD, id="text"),
        pytest.param("", DkimResult.BAD, id="empty"),
    ],
)
async def test_records(record: str, result: DkimResult) -> None:
    judge = Judge(Outside({NAME: (record.encode(),)}))
    assert await judge.says(by_dkimpy()) is result


async def test_a_key_of_1024_bits_is_enough_and_a_shorter_one_is_not() -> None:
    judge = Judge(Outside({NAME: (f"p={spki(1024)}".encode(),)}))
    assert await judge.says(by_dkimpy(bits=1024)) is DkimResult.PASS
    assert usable(published(65537, 2**768 + 1)) is NoKey.ABSENT


@pytest.mark.parametrize(
    ("exponent", "bits", "is_usable"),
    [
        (65537, 8192, True),
        (3, 2048, True),
        (65537, 8193, False),
        (65537, 16384, False),
        (2**32 + 1, 2048, False),
        (2**3070 + 1, 3072, False),
    ],
)
def test_a_key_that_makes_us_work_is_none(exponent: int, bits: int, is_usable: bool) -> None:
    key = usable(published(exponent, 2 ** (bits - 1) + 1))
    assert isinstance(key, PublicKey) is is_usable


async def test_the_first_record_that_is_a_key_counts() -> None:
    judge = Judge(Outside({NAME: (b"v=spf1 -all", RECORD.encode(), b"p=")}))
    assert await judge.says(by_dkimpy()) is DkimResult.PASS


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        (DnsFault.NXDOMAIN, DkimResult.BAD),
        (DnsFault.NO_DATA, DkimResult.BAD),
        (DnsFault.SERVFAIL, DkimResult.UNAVAILABLE),
        (DnsFault.TIMEOUT, DkimResult.UNAVAILABLE),
    ],
)
async def test_trouble_with_dns_is_temporary_and_absence_is_not(
    fault: DnsFault, result: DkimResult
) -> None:
    judge = Judge(Outside({NAME: fault}))
    message = by_dkimpy()
    assert await judge.says(message) is result
    judge.outside.pages[f"https://{DOMAIN}/.well-known/_domainkey/opendkim"] = RECORD.encode()
    judge.clock.advance(61.0)
    assert await judge.says(message) is DkimResult.PASS
    judge.clock.advance(80_000.0)
    before = len(judge.outside.asked)
    assert await judge.says(message) is DkimResult.PASS
    assert len(judge.outside.asked) == before


async def test_keys_are_kept_ten_minutes_and_their_absence_one() -> None:
    judge = Judge()
    message = by_dkimpy()
    for _ in range(3):
        await judge.says(message)
    assert len(judge.outside.asked) == 1
    judge.clock.advance(601.0)
    await judge.says(message)
    assert len(judge.outside.asked) == 2
    empty = Judge(Outside())
    for seconds, lookups in ((0.0, 1), (59.0, 1), (2.0, 2)):
        empty.clock.advance(seconds)
        await empty.says(message)
        assert empty.outside.asked.count(NAME) == lookups


async def test_trouble_is_not_kept() -> None:
    judge = Judge(Outside({NAME: DnsFault.TIMEOUT}))
    assert await judge.says(by_dkimpy()) is DkimResult.UNAVAILABLE
    judge.outside.records[NAME] = (RECORD.encode(),)
    assert await judge.says(by_dkimpy()) is DkimResult.PASS


async def test_a_new_key_under_the_old_selector_is_found() -> None:
    judge = Judge(Outside({NAME: (f"p={spki(1024)}".encode(),)}))
    assert await judge.says(by_dkimpy()) is DkimResult.BAD
    judge.outside.records[NAME] = (RECORD.encode(),)
    judge.clock.advance(31.0)
    assert await judge.says(by_dkimpy()) is DkimResult.PASS


async def test_the_web_is_asked_at_the_port_where_relays_are() -> None:
    outside = Outside()
    outside.pages[f"https://{DOMAIN}:8443/.well-known/_domainkey/opendkim"] = RECORD.encode()
    judge = Judge(outside)
    judge.keys = KeyLookup(outside, outside, judge.clock, https_port=lambda: 8443)  # type: ignore[arg-type]
    assert await judge.says(by_dkimpy()) is DkimResult.PASS


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_lookup, "MAX_KEPT", 3)
    judge = Judge(Outside())
    for number in range(10):
        await judge.says(by_dkimpy().replace(b"s=opendkim", b"s=key%d" % number))
    assert len(judge.keys) == 3


async def test_ten_seconds_are_the_limit(autojump_clock: trio.testing.MockClock) -> None:
    judge = Judge(Outside(is_slow=True))
    assert await judge.says(by_dkimpy()) is DkimResult.UNAVAILABLE
    assert trio.current_time() == pytest.approx(10.0)
