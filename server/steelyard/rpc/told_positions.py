"""Positions in the contract's words, kept: a position that is told again as it was is not put into words again.

What a row says depends on the moment in two places only, the freshness of its mark and the minutes it has been held.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from steelyard.accounting.features import time_held_minutes
from steelyard.accounting.keys import PositionKey
from steelyard.operations.position_view import Detail, PositionView
from steelyard.rpc import encode_position
from steelyard.v1 import position_pb2

KEPT_MAX = 10_000


class ToldPositions:
    """Encodes positions; messages are kept by what they were made from, and only read after this."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[PositionKey, Detail], tuple[Any, position_pb2.Position]] = OrderedDict()

    def __call__(self, view: PositionView, *, detail: Detail) -> position_pb2.Position:
        """The message of a position: the same one for the same row at the same minute."""
        row = view.row
        minutes = time_held_minutes(opened_at=row.opened_at, closed_at=row.closed_at, now=view.now)
        made_from = (view.mark_state, view.gross_exposure, minutes)
        known = self._kept.get((row.key, detail))
        # A row by identity: it never changes, and is held on to here, so its id is nobody else's.
        if known is not None and known[0][0] is row and known[0][1] == made_from:
            self._kept.move_to_end((row.key, detail))
            return known[1]
        message = encode_position.position(view, detail=detail)
        self._kept[row.key, detail] = ((row, made_from), message)
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return message
