"""Signatures of DKIM: any header block is read without an exception, and as dkimpy reads it."""

from __future__ import annotations

from dkim.util import InvalidTagValueList, parse_tag_value

from chatmail.adapters.dkim.verifier import Covered
from chatmail.domain.formats.dkim_header import signed_names
from chatmail.domain.formats.dkim_tags import (
    MAX_SIGNATURES,
    candidates,
    digests_for,
    parse_key_record,
    parse_tags,
)
from chatmail.domain.formats.rfc5322 import parse_header

WORDS = (
    *(b"DKIM-Signature:", b"\r\n", b"\r\n\t", b" v=1;", b" a=rsa-sha256;", b" d=peer.example;"),
    *(
        b" s=sel;",
        b" h=from:to;",
        b" b=QUJD;",
        b" c=relaxed/relaxed;",
        b" l=1;",
        b" x=1;",
        b" t=1;",
    ),
    *(b" i=@peer.example;", b" bh=", b"=" * 2, b"From: a@peer.example\r\n", b"p=", b"k=ed25519;"),
)
NOW_S = 1_760_000_000.0


def check(data: bytes) -> None:
    """Nothing raises; what counts as a signature has all it needs; tag lists have one reading."""
    header = data + b"\r\n\r\n"
    block = parse_header(header)
    digests_for(header)
    signed_names(block)
    found = candidates(block, "peer.example", NOW_S)
    assert len(found) <= MAX_SIGNATURES
    covered = Covered(block)
    for signature in found:
        if signature is not None:
            assert b"l" not in signature.tags
            assert b"from" in signature.names
            assert signature.key_name.isascii()
            assert len(covered.digest(signature)) == len(signature.body_hash)
    parse_key_record(data)
    _check_tags(data)


def _check_tags(data: bytes) -> None:
    ours = parse_tags(data)
    try:
        theirs = parse_tag_value(data)
    except InvalidTagValueList:
        assert not ours
        return
    # Theirs takes more: other white space, and any word after the first letter of a name.
    assert ours is None or ours == theirs or b"\x0b" in data or b"\x0c" in data


VECTORS = (
    b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=peer.example;\r\n\ts=sel; t=1;"
    b" h=from:to;\r\n\tbh=aGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGg=;\r\n\tb=QUJD\r\n"
    b"From: a@peer.example\r\nTo: b@relay.test",
    b"DKIM-Signature: v=1; a=ed25519-sha256; d=peer.example; s=sel; h=from:from; x=1; i=@x;"
    b" bh=aGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGg=; b=QUJD\r\nFrom: a@peer.example",
    b"v=DKIM1; k=rsa; p=QUJD; t=y:s; s=email:*; h=sha1:sha256",
    b"p=",
    b"a=1; b = 2 ;\r\n\tc=3;",
    b"a=1;a=1",
)
