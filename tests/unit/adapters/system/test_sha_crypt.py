from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatmail.adapters.system.sha_crypt import verify

HELLO = b"Hello world!"
LONG = b"a very much longer text to encrypt.  This one even stretches over morethan one line."
PHRASE = b"we have a short salt string but not a short password"

# Made with crypt(3) of glibc 2.36.
VECTORS = [
    ("$5$anotherlongsalts$xDOFsdwNAstVE3491M3cBSSbHS4ksOOPoR7XlHBf4G1", LONG),
    ("$5$s$u9jS/E6rlpZoj8KCMVhpLKJh2MrO5hc9UBdfKCcvVU7", b""),
    ("$5$short$k38kpRP0CfxHLIcmymaSTFLK.iFfF4tKryDuEGKp6SC", PHRASE),
    ("$5$rounds=1400$saltstring$h4iTCpUzEqDV1ECW75bvjviV/joBJv1LUOv.0YtxIH/", HELLO),
    (
        "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJues"
        "I68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        HELLO,
    ),
    (
        "$6$s$.ZBEl9liET9mKM6jGxl//vp8wOnIJwfkp.7sG2Ahu2q68bf4LasDRE6k5T5NPzLq"
        "BFx3oUbMl6xWpBsFfgm6..",
        b"",
    ),
    (
        "$6$rounds=1000$anotherlongsalts$2.z83bOBW4tGuBC2Sh7B2f3femMeAVTDx2KhW"
        ".P0w.TMKIKDNfailMWqBuR/clOFlvilyZngN/BTgM.olRPpE0",
        LONG,
    ),
    (
        "$6$rounds=1400$short$6BQGAjRNENRhi5dyFmCZVY3.EOdIlyiYXV/xGwknHuddr2np"
        "jVylKiiUX3.9hktANmqQ7mB5UV79urHhRXxpt0",
        PHRASE,
    ),
]


@pytest.mark.parametrize(("stored", "password"), VECTORS)
def test_vectors_verify_and_others_do_not(stored: str, password: bytes) -> None:
    assert verify(stored, password)
    assert not verify(stored, password + b"x")
    assert not verify(stored[:-1] + ("1" if stored[-1] != "1" else "2"), password)


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "$5$",
        "$5$salt",
        "$5$salt$",
        "$7$salt$abc",
        "$5$saltsaltsaltsaltsalt$abc",
        "$6$rounds=x$salt$abc",
        "$6$rounds=999999999$salt$abc",
        "$6$rounds=99999999999999$salt$abc",
        "$6$salt$ab:c",
        "$6$salt$abc\n",
    ],
)
def test_malformed_and_absurd_forms_never_match(stored: str) -> None:
    assert not verify(stored, b"password")


@settings(max_examples=10)
@given(st.binary(max_size=80), st.text(max_size=12))
def test_any_password_and_salt_have_an_answer(password: bytes, salt: str) -> None:
    assert not verify(f"$5$rounds=1000${salt}$abc", password)
