"""Figures of consecutive slices of time joined to those of the whole, exactly as one pass over all trips gives them.

Problem: windows over a million trips sort them all, on disk, in one statement as long as the store allows any to be.
Choice: a range is cut by closing time into slices of some thousand trips, measured one after the other in the same
snapshot. Sums, extremes and counts add up. A run of wins may go on over a cut, so each slice also tells how many wins
it begins and ends with; and the deepest fall may begin before a cut and end behind it, so each slice tells how high and
how low its own running sum went.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from steelyard.accounting.trading_calendar import Interval
from steelyard.accounting.units import ZERO, exactly

TRIPS_PER_SLICE = 10_000
"""What one statement sorts, about: it stays in memory."""
LONGER_BY_GROUPS = 10
"""Slices are so many times as long where each may hold every one of many groups, which have to be joined."""
SLICES_MAX = 400

Figures = Mapping[str, Any]
"""A row of figures, by name of column."""

_KINDS = ("wins", "losses")
_TRIPS = ("all", "long", "short")
_ADDED = (
    *(f"{kind}_{name}" for kind in _TRIPS for name in ("total", "winning", "losing", "gross", "fees", "funding")),
    *("all_held", "won_held", "lost_held", "won", "lost"),
)
_ALL = tuple(f"{kind}_fees_complete" for kind in _TRIPS)
_LEAST = ("all_shortest", "won_shortest", "lost_shortest", "largest_loss")
_MOST = ("all_longest", "won_longest", "lost_longest", "largest_win")


def slices_of(interval: Interval, *, trips: int, have_many_groups: bool = False) -> Sequence[Interval]:
    """A half-open interval in which this many trips closed, cut into equal stretches of time."""
    each = TRIPS_PER_SLICE * (LONGER_BY_GROUPS if have_many_groups else 1)
    count = max(1, min(SLICES_MAX, -(-trips // each)))
    begin, end = interval
    cuts: list[datetime] = [begin + (end - begin) * number / count for number in range(count)]
    return list(zip(cuts, [*cuts[1:], end], strict=True))


@exactly
def joined(earlier: Figures, later: Figures) -> Figures:
    """The figures of two consecutive slices together."""
    found: dict[str, Any] = {**later}
    for names, of_both in ((_ADDED, _sum), (_LEAST, min), (_MOST, max)):
        for name in names:
            found[name] = _of_both(earlier[name], later[name], join=of_both)
    for name in _ALL:
        found[name] = earlier[name] and later[name]
    for kind in _KINDS:
        _join_runs(found, kind, earlier=earlier, later=later)
    end = earlier["won"] + earlier["lost"]
    over_the_cut = max(earlier["highest"], ZERO) - end - later["lowest"]
    found["drawdown"] = max(earlier["drawdown"], later["drawdown"], over_the_cut)
    found["highest"] = max(earlier["highest"], end + later["highest"])
    found["lowest"] = min(earlier["lowest"], end + later["lowest"])
    return found


def _join_runs(found: dict[str, Any], kind: str, *, earlier: Figures, later: Figures) -> None:
    leading, trailing, longest = f"leading_{kind}", f"trailing_{kind}", f"longest_{kind}"
    over_the_cut = earlier[trailing] + later[leading]
    found[longest] = max(earlier[longest], later[longest], over_the_cut)
    found[leading] = over_the_cut if earlier[leading] == earlier["all_total"] else earlier[leading]
    found[trailing] = over_the_cut if later[trailing] == later["all_total"] else later[trailing]


def _sum(first: Any, second: Any) -> Any:
    return first + second


def _of_both(first: Any, second: Any, *, join: Callable[[Any, Any], Any]) -> Any:
    """Of the one that there is, where the other has none."""
    if first is None or second is None:
        return second if first is None else first
    return join(first, second)
