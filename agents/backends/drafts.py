"""Guesses of what a reply goes on with: replies of one agent repeat each other's phrases."""

from __future__ import annotations

from collections.abc import Sequence

_LENGTHS = (6, 4, 3, 2)  # how many tokens a guess looks back on
_NONE = -1  # before a reply's first token
_MOST = 1 << 20  # phrases remembered


class Drafts:
    """Remembers which token followed the last few, in the replies seen so far.

    A guess costs nothing when it is wrong but the time to compute it: the tokens of a reply are
    those that are sampled one after the other (prompt lookup, a kind of speculative decoding).
    """

    def __init__(self) -> None:
        self._next: dict[tuple[int, ...], int] = {}

    def guess(self, ids: Sequence[int], count: int) -> list[int]:
        """Return at most `count` tokens that may follow the reply's tokens `ids`."""
        tail = [*[_NONE] * max(_LENGTHS), *ids][-max(_LENGTHS) :]
        found: list[int] = []
        while len(found) < count:
            phrases = (tuple(tail[-length:]) for length in _LENGTHS)
            token = next((self._next[one] for one in phrases if one in self._next), None)
            if token is None:
                break
            found.append(token)
            tail = [*tail[1:], token]
        return found

    def learn(self, ids: Sequence[int]) -> None:
        """Remember a reply."""
        if len(self._next) > _MOST:
            self._next.clear()
        padded = [*[_NONE] * max(_LENGTHS), *ids]
        for end in range(max(_LENGTHS), len(padded)):
            for length in _LENGTHS:
                self._next[tuple(padded[end - length : end])] = padded[end]
