"""Answers that the cache tells again and again are put into the contract's words once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from steelyard.operations.reading import Answer

KEPT_MAX = 32
"""Encoded answers of one kind."""

T = TypeVar("T")
M = TypeVar("M")


class EncodedOnce(Generic[T, M]):
    """Encodes answers; the message of one is kept, since an answer that is told again is the same object: from the
    cache, or from a read that many have waited for.

    Messages are only read after this: whoever is handed one must not change it.
    """

    def __init__(self, encode: Callable[[Answer[T]], M]) -> None:
        self._encode = encode
        # By identity, holding on to the answer: an id is free for others only once its object is gone.
        self._kept: OrderedDict[int, tuple[Any, M]] = OrderedDict()

    def __call__(self, answer: Answer[T]) -> M:
        """The message of an answer."""
        found = self._kept.get(id(answer))
        if found is not None:
            self._kept.move_to_end(id(answer))
            return found[1]
        message = self._encode(answer)
        self._kept[id(answer)] = (answer, message)
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return message
