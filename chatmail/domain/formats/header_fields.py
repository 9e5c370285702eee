"""Header fields of a raw header block, octet for octet.

Nothing here decodes or unfolds what it returns as a field: IMAP promises the original octets
(RFC 3501 §6.4.5). Field names are compared without case. Total: any octets are a header block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

# A field starts at a line start with a name and a colon and goes on while lines start with white
# space. Searching for the line end first lets the engine skip ahead instead of trying each octet.
_FIELD: Final = re.compile(rb"\n([^\s:]+)[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*")
_FOLD: Final = re.compile(rb"\r?\n(?=[ \t])")
_END: Final = b"\r\n"


@lru_cache(maxsize=64)
def _selector(names: frozenset[bytes]) -> re.Pattern[bytes]:
    wanted = b"|".join(re.escape(name) for name in sorted(names))
    return re.compile(rb"\n((?:" + wanted + rb")[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*)", re.IGNORECASE)


def select_fields(header: bytes, names: frozenset[bytes]) -> bytes:
    """Return the fields with one of these names, in their order, and an ending empty line.

    Args:  header: a header block, with or without the empty line that ends it. names: any case.
    Source:  RFC 3501 §6.4.5 HEADER.FIELDS.
    """
    if not names:
        return _END
    return _block(_selector(names).findall(b"\n" + header))


def select_other_fields(header: bytes, names: frozenset[bytes]) -> bytes:
    """Return the fields whose name is none of these, and an ending empty line.

    Source:  RFC 3501 §6.4.5 HEADER.FIELDS.NOT.
    """
    unwanted = {name.lower() for name in names}
    return _block([field for name, field in iter_fields(header) if name not in unwanted])


def iter_named(header: bytes, names: frozenset[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Do what `iter_fields` does for the fields of these names alone, at the speed of a search."""
    for field in _selector(names).findall(b"\n" + header):
        yield field[: field.index(b":")].rstrip().lower(), field


def iter_fields(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (name in lower case, the whole field without its last line feed)."""
    for match in _FIELD.finditer(b"\n" + header):
        yield match[1].lower(), match[0][1:]


def field_value(field: bytes) -> bytes:
    """Return the value of a whole field: unfolded, outer white space removed."""
    return _FOLD.sub(b"", field.partition(b":")[2]).strip()


def _block(fields: list[bytes]) -> bytes:
    if not fields:
        return _END
    # A field that ended at the very end of a block without line end keeps the block well-formed.
    return b"\n".join(fields).rstrip(b"\r\n") + _END + _END
