"""A picture of each line: the runs' figures side by side, and their ratios against the target."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.bench.harness import Line, shown

SIZE_INCHES = (9.0, 3.6)
DOTS_PER_INCH = 120


def draw(lines: Iterable[Line], beside: Path) -> list[Path]:
    """Writes `<name>.<id>.png` beside the JSON file for every line; gives the paths."""
    import matplotlib as mpl

    mpl.use("Agg")
    return [_draw(line, beside.with_name(f"{beside.stem}.{line.id}.png")) for line in lines]


def _draw(line: Line, path: Path) -> Path:
    import matplotlib.pyplot as plt

    figure, (figures, ratios) = plt.subplots(1, 2, figsize=SIZE_INCHES, layout="constrained")
    places = range(1, len(line.runs) + 1)
    figures.bar([place - 0.2 for place in places], [run.product for run in line.runs], width=0.4, label=line.work)
    figures.bar([place + 0.2 for place in places], [run.reference for run in line.runs], width=0.4, label=line.against)
    figures.set(xlabel="run", ylabel=line.unit)
    figures.legend(fontsize=6)
    ratios.plot(places, [run.ratio for run in line.runs], "o", label="runs")
    ratios.axhline(line.ratio, linewidth=1, label=f"median {shown(line.ratio)}")
    bound = line.target.ratio_bound
    if bound is not None:
        ratios.axhline(bound, linewidth=1, linestyle="--", color="black", label=f"target {line.target.text}")
    ratios.set(xlabel="run", ylabel="product / reference", ylim=(0, None))
    ratios.legend(fontsize=6)
    outcome = "holds" if line.holds else "does not hold"
    figure.suptitle(f"{line.id}: target {line.target.text} {outcome}", fontsize=9)
    figure.savefig(path, dpi=DOTS_PER_INCH)
    plt.close(figure)
    return path
