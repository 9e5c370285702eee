"""JSON-RPC messages."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.wire.jsonrpc import (
    MAX_BATCH,
    Call,
    ErrorCode,
    Fault,
    RpcError,
    answer,
    encode,
    parse,
    refusal,
)

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


def only(octets: bytes) -> Call | Fault:
    request = parse(octets)
    assert not request.is_batch
    (part,) = request.parts
    return part


def test_a_call_has_its_parameters_by_name() -> None:
    call = only(b'{"jsonrpc":"2.0","id":"x","method":"a.b","params":{"n":1}}')
    assert call == Call(method="a.b", params={"n": 1}, id="x")


def test_without_an_id_nobody_waits_for_an_answer() -> None:
    call = only(b'{"jsonrpc":"2.0","method":"a"}')
    assert isinstance(call, Call)
    assert call.is_notification
    with_null = only(b'{"jsonrpc":"2.0","method":"a","id":null}')
    assert isinstance(with_null, Call)
    assert not with_null.is_notification


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (b"", ErrorCode.PARSE),
        (b"{", ErrorCode.PARSE),
        (b"\xff", ErrorCode.PARSE),
        (b"NaN", ErrorCode.PARSE),
        (b"[" * 100_000, ErrorCode.PARSE),
        (b'{"a":' * 100_000, ErrorCode.PARSE),
        (b"9" * 60_000, ErrorCode.PARSE),
        (b"1", ErrorCode.INVALID_REQUEST),
        (b"[]", ErrorCode.INVALID_REQUEST),
        (b"{}", ErrorCode.INVALID_REQUEST),
        (b'{"jsonrpc":"1.0","id":1,"method":"a"}', ErrorCode.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', ErrorCode.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":true,"method":"a"}', ErrorCode.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":{},"method":"a"}', ErrorCode.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1e999,"method":"a"}', ErrorCode.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":"%b"}' % (b"a" * 65), ErrorCode.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":[1]}', ErrorCode.INVALID_PARAMS),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":null}', ErrorCode.INVALID_PARAMS),
        (b"[" + b",".join([PING] * (MAX_BATCH + 1)) + b"]", ErrorCode.INVALID_REQUEST),
    ],
)
def test_what_is_no_request_is_a_fault(octets: bytes, code: ErrorCode) -> None:
    fault = only(octets)
    assert isinstance(fault, Fault)
    assert fault.error.code is code


def test_a_batch_keeps_order_and_answers_its_faults() -> None:
    request = parse(b"[" + PING + b",1]")
    assert request.is_batch
    assert isinstance(request.parts[0], Call)
    assert isinstance(request.parts[1], Fault)
    assert len(parse(b"[" + b",".join([PING] * MAX_BATCH) + b"]").parts) == MAX_BATCH


def test_an_answer_is_one_line() -> None:
    octets = encode([answer(1, {"text": "a\nb ü"})], is_batch=False)
    assert octets.count(b"\n") == 1
    assert json.loads(octets) == {"jsonrpc": "2.0", "id": 1, "result": {"text": "a\nb ü"}}
    assert json.loads(encode([answer(1, 2)], is_batch=True)) == [
        {"jsonrpc": "2.0", "id": 1, "result": 2}
    ]
    assert encode([], is_batch=True) == b""


def test_a_refusal_names_reason_and_field() -> None:
    error = RpcError(ErrorCode.INVALID_PARAMS, "is bad", field="n", reasons=["is bad", "is worse"])
    assert refusal("x", error)["error"] == {
        "code": -32602,
        "message": "is bad",
        "data": {"reason": "invalid_params", "field": "n", "reasons": ["is bad", "is worse"]},
    }


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["jsonrpc", "id", "method", "params"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.binary(max_size=60) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_any_octets_are_calls_or_faults(octets: bytes) -> None:
    for part in parse(octets).parts:
        shown = refusal(part.id, part.error) if isinstance(part, Fault) else answer(part.id, 1)
        assert encode([shown], is_batch=False).endswith(b"\n")
