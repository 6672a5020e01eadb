"""An independent second opinion on every number: a from-scratch replay with exact fractions.

It owns the replay that other tests compare the product with. It may import the standard library only and
nothing of the product; it is written from the domain law alone, simple rather than fast.

    from tests.oracle import OracleFill, OracleInstrument, replay
    positions = replay(fills, instruments={"BTCUSDT": OracleInstrument(name="BTCUSDT")})

Readings: where the law is silent or can be read twice, this is what the oracle does.

Numbers
 1. The average has the sign of cost / (quantity * m): that is |cost| / (|q| * m), positive for shorts too,
    wherever prices are positive. Only a price rule ANY (or a dust holding whose rounding rest outweighs it)
    can make it zero or negative.
 2. Inverse: every value q*m/price is rounded to 40 places where it arises: once for a whole part (a fill, or
    the closing or opening part of a flip, each for itself), once for what a reduction relieves
    (closed*m/average, with the average of 18 places), once for a part of a lot, once for a mark.
 3. Inverse cash flow is counted in coin as +delta*m/price, so that gross + unrealized = cash flow - q*m/mark.
    An adjustment adds -(change of cost) to linear and +(change of cost) to inverse cash flow.
 4. Money is kept unrounded; `wire` rounds to 18 places.

Fees
 5. A fee without a currency, or in the settle currency, is valued as it is. A zero fee is always valued.
 6. An unvalued fee counts as nothing in fees and nets, stands in `unvalued_fees` under its currency, and makes
    `fees_complete` false for good (also when a rebate cancels the sum), on the position and on each trip
    that holds a share of it.
 7. The closing part of a flip takes round18(fee * closed / quantity), the opening part the rest. Valued first,
    split second.
 8. On a leg the excess keeps its own pro-rata fee: it counts in the position's fees and net, but belongs to
    no trip and is no reducing part.
 9. `realized_pnl` = gross of the method - fees of reducing parts; the fees are the same for all methods.
10. Lots: the entry fee of a piece is round18(remaining fee * taken / remaining quantity), the rest stays with
    the lot. The exit fee is dealt to the pairs in closing order by round18(fee left * piece / quantity left),
    the last pair takes the rest. The values of inverse pairs likewise: the last takes the rest of the part.

Order and survival
11. Entries of all kinds share one order: (executed_at, source_sequence, bytes of their own id). The kind has no
    rank; a caller who wants a report before the fills of its instant gives it a smaller sequence.
12. The highest revision of a fill stands (None = busted). An amended fill keeps its source sequence and account;
    its amendment may move it to another key.
13. Content is compared by value (1.0 equals 1.00). An equal repeat of any revision can only lower the source
    sequence; conflicting content changes nothing, the first arrival stands. Rate and sequence are not content.
    A repeated adjustment or funding id changes nothing.
14. `as_of` and `known_at` include their own instant. An entry without `recorded_at` was always known. `as_of`
    filters the content that stands, so an amended time decides.
15. A key whose entries are all gone is answered with quantity 0, no averages, no times, no trips.

Legs
16. `unmatched_quantity` is unsigned. What exceeds the open quantity on a leg is added to it and moves neither
    quantity nor cost nor cash flow; later entries, adjustments included, never lower it. So the signed sum of
    fills = quantity - unmatched (LONG) or quantity + unmatched (SHORT).
17. A fill that closes a leg and has an excess is `closed`, not `reversed`. A wholly unmatched fill is in no trip;
    it counts in the position's fill count.

Adjustments
18. What is not given stays as the AVERAGE method has it: a quantity alone keeps its average, an average alone
    keeps the quantity. Then every method holds one lot: cost = quantity*m*average (rounding rests go into cash
    flow). A given average on a flat position changes nothing. A non-zero quantity from flat without an
    average is a ValueError, as is a quantity against its leg.
19. The new lot has the adjustment's id and time, and inherits the open entry fees of the lots it replaces; none
    when the position was flat or the sign changed. Entry fees of a trip that an adjustment closes stay in
    the trip's fees and in no pair.
20. In the trip, growth counts as entered at the adjustment's new average; shrinking (also to zero, also the old
    side of a sign change) as exited at the average held before. So entered - exited = open always. A change
    of average alone touches neither. It is no fill: no relation, no fill count. Any adjustment that meets
    or opens a trip flags it, even one that changes nothing.
21. A trip opened by an adjustment has the adjustment's id as first id.

Trips and positions
22. Average entry and exit come from the summed values of the parts (harmonic for inverse). Average exit and
    points are None while open. points_per_contract = direction * (unrounded exit - unrounded entry);
    points_weighted = points_per_contract * exited quantity.
23. A flipping fill counts in both trips' fill counts. max_quantity is the largest |quantity| of the trip.
24. Funding goes to the trip open at its place in the fold, else to the last one before it; funding before any
    trip stands on the position alone. It is in the settle currency; positive is received.
25. opened_at and closed_at of a position are those of its last trip; opened_at stays when it closes.

Portfolio and features
26. "Realized" of a position in a portfolio is `realized_pnl` of the chosen method. Total = unrealized + realized.
    short_exposure is unsigned. Exposure of an instrument or book is its gross exposure (legs, books and
    accounts are not netted); its quantity is the signed sum.
27. Only open positions can miss a price or have a stale one.
28. unrealized_pnl_pct is None when flat. A position that was never opened has no minutes held.

Performance
29. An adjustment can complete a trip; it counts. Results are ordered by (closed_at, opened_at, first id).
30. Win, loss, streaks, drawdown and all averages go by net. A scratch ends both streaks. The cumulative curve
    starts at zero, which is its first peak. Profit factor, expectancy and averages have 18 places and are
    None without a sample; a loss average is negative.
31. SESSION: the close time itself belongs to the next day; Saturday and Sunday move to Monday after the step.
    Weeks begin on the Monday of the trading day. Wall-clock time decides, also in a repeated hour.
32. The net of a day's fills (loss limit) = gross realized by them - their whole valued fees, without funding.
"""

from .entries import (
    OracleAdjustment,
    OracleEntry,
    OracleFill,
    OracleFunding,
    OracleInstrument,
    OracleKey,
    OracleRevision,
)
from .exact import half_even, microseconds, number, wire
from .outcome import (
    LOT_METHODS,
    METHODS,
    OracleFigures,
    OracleFillEffect,
    OracleLot,
    OraclePair,
    OraclePosition,
    OracleTrip,
)
from .replay import fold_key, replay

__all__ = [
    "LOT_METHODS",
    "METHODS",
    "OracleAdjustment",
    "OracleEntry",
    "OracleFigures",
    "OracleFill",
    "OracleFillEffect",
    "OracleFunding",
    "OracleInstrument",
    "OracleKey",
    "OracleLot",
    "OraclePair",
    "OraclePosition",
    "OracleRevision",
    "OracleTrip",
    "fold_key",
    "half_even",
    "microseconds",
    "number",
    "replay",
    "wire",
]
