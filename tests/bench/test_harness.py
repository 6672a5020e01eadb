"""The arithmetic of benchmarks: medians of ratios, bounds, what is written. No time is measured here."""

import json
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from tests.bench.__main__ import BENCHES, main
from tests.bench.harness import Line, Run, Target, Terms, rounded, table, write_json
from tests.bench.histories import Market, flat_now_and_then, never_flat
from tests.bench.plots import draw

TWICE = Target("≤ 2 ×", ratio_max=2)


def line(*runs: tuple[float, float], target: Target = TWICE, scale: float = 1.0) -> Line:
    return Line("B0", "work", "reference", "s", target, [Run(*run) for run in runs], scale)


def test_the_ratio_is_the_median_of_the_runs_ratios_not_the_ratio_of_medians() -> None:
    # The third run was slow on both sides: its ratio counts, its seconds do not.
    three = line((3, 2), (4, 1), (100, 50))
    assert [three.ratio, *three.spread] == [2, 1.5, 4]
    assert [three.product, three.reference] == [4, 2]


@pytest.mark.parametrize(
    "target, ratio, product, holds",
    [
        (Target("", ratio_max=2), 2.0, 1, True),
        (Target("", ratio_max=2), 2.01, 1, False),
        (Target("", ratio_min=1.7), 1.7, 1, True),
        (Target("", ratio_min=1.7), 1.69, 1, False),
        (Target("", product_min=400_000), 0.1, 400_000, True),
        (Target("", product_min=400_000), 9.0, 399_999, False),
        (Target("", ratio_max=2, product_min=5), 3, 6, False),
    ],
)
def test_a_target_holds_when_every_bound_of_it_is_kept(
    target: Target, ratio: float, product: float, holds: bool
) -> None:
    assert target.holds(ratio=ratio, product=product) is holds


def test_a_line_is_judged_by_its_medians() -> None:
    assert line((1, 1), (2, 1), (9, 1)).holds
    assert not line((1, 1), (3, 1), (9, 1)).holds


def test_a_target_that_ends_where_the_machine_does_is_held_there_and_the_table_says_so() -> None:
    full = replace(line((5, 1)), is_at_the_limit=True, note="processors 99 % busy")
    assert full.holds
    assert table([full]).endswith("yes (processors 99 % busy)")


def test_the_json_names_what_was_asked_for_and_what_came_out(tmp_path: Path) -> None:
    path = tmp_path / "made" / "out.json"
    write_json([line((3, 2), scale=0.1)], path)
    (written,) = json.loads(path.read_text(encoding="utf-8"))
    assert {"id", "work", "product", "reference", "unit", "ratio", "target", "holds"} <= written.keys()
    assert (written["ratio"], written["spread"], written["holds"], written["scale"]) == (1.5, [1.5, 1.5], True, 0.1)


def test_the_table_says_when_a_target_is_missed() -> None:
    good, bad = table([line((1, 1)), line((5, 1))]).splitlines()[2:]
    assert good.endswith("yes")
    assert bad.endswith("NO")


def test_every_line_gets_a_picture_beside_the_json(tmp_path: Path) -> None:
    (picture,) = draw([line((1, 2), (2, 1))], tmp_path / "out.json")
    assert picture == tmp_path / "out.B0.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("figure, short", [(0, 0), (123456, 123500), (0.0012345678, 0.001235), (2, 2)])
def test_figures_have_four_significant_digits(figure: float, short: float) -> None:
    assert rounded(figure) == pytest.approx(short)


def test_a_scale_makes_sizes_smaller_but_not_less_than_is_needed() -> None:
    assert Terms(scale=0.1).sized(1_000) == 100
    assert Terms(scale=0.001).sized(1_000, at_least=50) == 50


def test_a_benchmark_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "B5,B99"])
    assert f"B99 is none of {', '.join(BENCHES)}" in capsys.readouterr().err


def test_a_seed_makes_the_same_history_again() -> None:
    assert list(flat_now_and_then(500, Market(seed=1))) == list(flat_now_and_then(500, Market(seed=1)))
    assert list(flat_now_and_then(500, Market(seed=1))) != list(flat_now_and_then(500, Market(seed=2)))


def test_histories_go_flat_now_and_then_or_never_and_times_only_go_on() -> None:
    for history, is_ever_flat in ((flat_now_and_then, True), (never_flat, False)):
        held, flats = Decimal(0), 0
        fills = list(history(5_000, Market(seed=3)))
        for fill in fills:
            held += fill.delta
            flats += not held
            assert fill.price > 0
        assert bool(flats) is is_ever_flat
        assert all(earlier.executed_at < later.executed_at for earlier, later in pairwise(fills))
