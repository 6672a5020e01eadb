"""Answers that the cache tells again and again are put into the contract's words once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from google.protobuf.message import Message

from steelyard.operations.reading import Answer

KEPT_MAX = 32
"""Encoded answers of one kind."""
KEPT_BYTES_MAX = 2 << 20
"""What they may come to; a larger answer is not kept."""

T = TypeVar("T")
M = TypeVar("M", bound=Message)


class EncodedOnce(Generic[T, M]):
    """Encodes answers, down to the bytes; those of one are kept, since an answer that is told again is the same object:
    from the cache, or from a read that many have waited for.

    What is handed out are bytes in the place of their message, which `CallChain` passes on as they are. So this is for
    methods only whose answers nobody has to look at on their way, unlike those of the account rule ANSWERED.
    """

    def __init__(self, encode: Callable[[Answer[T]], M]) -> None:
        self._encode = encode
        # By identity, holding on to the answer: an id is free for others only once its object is gone.
        self._kept: OrderedDict[int, tuple[Any, bytes]] = OrderedDict()
        self._size = 0

    def __call__(self, answer: Answer[T]) -> M:
        """The message of an answer."""
        found = self._kept.get(id(answer))
        if found is not None:
            self._kept.move_to_end(id(answer))
        else:
            found = self._kept[id(answer)] = answer, self._encode(answer).SerializeToString()
            self._size += len(found[1])
            while len(self._kept) > KEPT_MAX or self._size > KEPT_BYTES_MAX:
                self._size -= len(self._kept.popitem(last=False)[1][1])
        return cast(M, found[1])
