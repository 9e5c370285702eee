"""Rules out, without reading a message as a person does, that it holds what is searched for.

Mail here is encrypted: outer header, armor, nothing encoded. In a message of ASCII octets without
transfer encodings, encoded words and unusual charsets, every word that a person could read stands
as it is, save for its case. So a message in which a word of each text is missing matches none of
them, and that is found out at a fiftieth of the cost. What may hold a text is read in full.

Invariant: "no" is certain. Words are split where unfolding, or the `name: value` form that fields
are compared in, could join or part octets.
"""

from __future__ import annotations

import re
from typing import Final

from chatmail.domain.wire.imap.search_content import content_keys
from chatmail.domain.wire.imap.search_keys import SearchKey, SearchText

MAX_WORDS: Final = 32
"""Each is looked for in every octet: more texts than any client sends are left to turns."""
_LONGEST_MARK: Final = 64
_ENCODED: Final = (b"=?", b"base64", b"quoted-printable")
_CHARSET: Final = b"charset"
_PLAIN_CHARSET: Final = re.compile(rb"charset\s*=\s*\"?(?:utf-8|us-ascii)[\s;\"]")


class Sieve:
    """The texts of one search."""

    def __init__(self, key: SearchKey) -> None:
        keys = list(content_keys(key))
        texts = [inner for inner in keys if isinstance(inner, SearchText)]
        self.texts = [_words(text.value) for text in texts]
        self.is_all = len(texts) == len(keys)
        """Whether a message that is ruled out needs no look at its header block either."""
        self.overlap = max(_LONGEST_MARK, *(len(word) for words in self.texts for word in words), 0)
        self.is_useful = (
            all(self.texts) and 0 < sum(len(words) for words in self.texts) <= MAX_WORDS
        )
        """Whether any message can be ruled out: a text of white space alone is in every one."""

    def start(self) -> SievePass:
        """Begin with a message."""
        return SievePass(self)


class SievePass:
    """One message on its way through."""

    __slots__ = ("_missing", "_overlap", "_tail")

    def __init__(self, sieve: Sieve) -> None:
        self._missing = [list(words) for words in sieve.texts]
        self._overlap = sieve.overlap
        self._tail = b""

    def may_hold(self, octets: bytes) -> bool:
        """Say whether the message up to here may hold a text; False at its end is certain.

        Args:  octets: the next piece of the raw message, cut anywhere.
        """
        if not octets.isascii():
            return True
        window = self._tail + octets.lower()
        if _is_encoded(window):
            return True
        for number, words in enumerate(self._missing):
            missing = [word for word in words if word not in window]
            if not missing:
                return True
            self._missing[number] = missing
        self._tail = window[-self._overlap :]
        return False


def _words(text: str) -> list[bytes]:
    """Return what has to be there, octet by octet, wherever the text is."""
    words = (word.rstrip(":") for word in text.casefold().split())
    return [word.encode("utf-8", "surrogatepass") for word in words if word]


def _is_encoded(window: bytes) -> bool:
    if any(mark in window for mark in _ENCODED):
        return True
    count = window.count(_CHARSET)
    return count > 0 and count != len(_PLAIN_CHARSET.findall(window))
