"""Content-Type values, by a grammar that leaves nothing to interpretation.

What other parsers read in two ways (comments, RFC 2231 pieces, repeated parameters) is no value
here, so that no two readers of a message can see two boundaries.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

_TOKEN: Final = rb"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]++"
_MEDIA_TYPE: Final = re.compile(rb"%b/%b" % (_TOKEN, _TOKEN))
_PARAMETER: Final = re.compile(
    rb'[ \t]*+;[ \t]*+(%b)=(?:(%b)|"((?:[\t !#-\[\]-~]|\\[\t -~])*+)")' % (_TOKEN, _TOKEN)
)
_END: Final = re.compile(rb"[ \t]*+;?+[ \t]*+\Z")
_QUOTED_PAIR: Final = re.compile(rb"\\(.)")


@attrs.frozen
class ContentType:
    """A media type (`type/subtype`, lower case) and its parameters (names in lower case)."""

    media_type: bytes
    parameters: tuple[tuple[bytes, bytes], ...] = ()

    def get(self, name: bytes) -> bytes | None:
        """Return the value of a parameter, unquoted."""
        for key, value in self.parameters:
            if key == name:
                return value
        return None


TEXT_PLAIN: Final = ContentType(b"text/plain")
"""What a missing Content-Type means (RFC 2045 §5.2)."""


def parse_content_type(value: bytes) -> ContentType | None:
    """Parse an unfolded Content-Type value.

    Returns:  None if it breaks H-05: a comment, an RFC 2231 form (`name*=`), a parameter that
        occurs twice, an open quoted string, or anything else outside the grammar.
    Source:  RFC 2045 §5.1; spec policy 1.3.
    """
    found = _MEDIA_TYPE.match(value)
    if found is None:
        return None
    parameters: list[tuple[bytes, bytes]] = []
    names: set[bytes] = set()
    position = found.end()
    while (parameter := _PARAMETER.match(value, position)) is not None:
        raw_name, token, quoted = parameter.groups()
        name = raw_name.lower()
        if b"*" in name or name in names:
            return None
        names.add(name)
        parameters.append((name, token if token is not None else _unquote(quoted)))
        position = parameter.end()
    if _END.match(value, position) is None:
        return None
    return ContentType(found[0].lower(), tuple(parameters))


def _unquote(quoted: bytes) -> bytes:
    return _QUOTED_PAIR.sub(rb"\1", quoted) if b"\\" in quoted else quoted
