"""The Autocrypt Setup Message: a secret key, encrypted with a setup code, sent to oneself.

Off by default; clients of today transfer keys in other ways.
"""

from __future__ import annotations

from typing import Final

from chatmail.domain.formats.armor import ArmorReader
from chatmail.domain.formats.content_type import ContentType
from chatmail.domain.formats.mime import Part, is_boundary, split_multipart
from chatmail.domain.formats.openpgp import PacketWalker
from chatmail.domain.formats.pgp_mime import BlankText
from chatmail.domain.formats.rfc5322 import HeaderBlock
from chatmail.domain.formats.transfer_encoding import decode

MAX_TEXT_OCTETS: Final = 4 * 1024
_ARMOR_HEADERS: Final = frozenset((b"Passphrase-Format", b"Passphrase-Begin"))


def is_autocrypt_setup(block: HeaderBlock, content_type: ContentType, body: bytes) -> bool:
    """Say whether a message has exactly this form: a text, then armor that holds `SKESK SEIPD`.

    Args:  body: the whole body.
    Source:  Autocrypt Level 1, Autocrypt Setup Message; spec policy 1.8.
    """
    boundary = content_type.get(b"boundary")
    if content_type.media_type != b"multipart/mixed" or boundary is None:
        return False
    if block.values(b"autocrypt-setup-message") != [b"v1"] or not is_boundary(boundary):
        return False
    multipart = split_multipart(body, boundary)
    if multipart is None or len(multipart.parts) != 2:
        return False
    if not BlankText().is_preamble(multipart.preamble):
        return False
    if not BlankText().is_epilogue(multipart.epilogue):
        return False
    text, payload = multipart.parts
    return _is_text(text) and _is_payload(payload)


def _is_text(part: Part) -> bool:
    header = part.header
    is_text = header.content_type.media_type == b"text/plain" and header.finding.strict is None
    return is_text and len(part.content) <= MAX_TEXT_OCTETS


def _is_payload(part: Part) -> bool:
    header = part.header
    if header.content_type.media_type != b"application/autocrypt-setup" or header.finding.strict:
        return False
    armored = decode(part.content, header.encoding)
    if armored is None:
        return False
    armor = ArmorReader(strict_headers=_ARMOR_HEADERS, inbound_headers=_ARMOR_HEADERS)
    packets = PacketWalker()
    packets.feed(armor.feed(armored))
    packets.feed(armor.finish())
    if armor.finding.strict or packets.finish():
        return False
    return packets.is_one_passphrase and not packets.is_transparent()
