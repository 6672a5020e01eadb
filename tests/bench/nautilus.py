"""The reference of B5: NautilusTrader in a virtual environment of its own, so that it never touches ours."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench.harness import BenchUnavailable, stage
from tests.bench.histories import Execution

VERSION = "1.221.0"
"""The last release with a wheel for Python 3.11."""
FOLDER = Path(".work") / "bench" / f"nautilus-{VERSION}"
PROGRAM = Path(__file__).with_name("nautilus_program.py")
INSTALL_TIMEOUT_S = 600
READY_TIMEOUT_S = 60


def python_with_nautilus() -> Path:
    """The Python of the reference's environment, made on first use. Raises `BenchUnavailable`."""
    python = FOLDER / "bin" / "python"
    installed = FOLDER / ".installed"
    if installed.exists():
        return python
    with stage(f"installing nautilus_trader {VERSION} into {FOLDER}"):
        _run([sys.executable, "-m", "venv", "--clear", str(FOLDER)])
        _run([
            str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:",
            f"nautilus_trader=={VERSION}",
        ])  # fmt: skip
    installed.touch()
    return python


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        told = (error.stderr or error.stdout or str(error)).strip().splitlines()[-1:]
        raise BenchUnavailable(f"nautilus_trader {VERSION} cannot be installed: {' '.join(told)}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchUnavailable(f"nautilus_trader {VERSION} cannot be installed: {error}") from None


class Nautilus:
    """The running reference program."""

    def __init__(self, process: subprocess.Popen[str], *, held: Decimal) -> None:
        """`held`: what it must hold after a run."""
        self._process = process
        self._held = held

    def seconds(self) -> float:
        """How long one run over all fills takes. Raises `BenchUnavailable` where it does not come to what we hold."""
        assert self._process.stdin is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        answer = self.answer()
        if Decimal(answer["quantity"]) != self._held:
            raise BenchUnavailable(f"NautilusTrader holds {answer['quantity']} after the run, not {self._held}")
        return float(answer["seconds"])

    def answer(self) -> dict[str, Any]:
        """The next thing it says. Raises `BenchUnavailable` when it died."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchUnavailable(f"the NautilusTrader program ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def nautilus(fills: Sequence[Execution]) -> Iterator[Nautilus]:
    """The reference, ready to fold these fills."""
    python = python_with_nautilus()
    with TemporaryDirectory(prefix="steelyard-bench-") as folder:
        rows = Path(folder) / "fills.json"
        rows.write_text(json.dumps([_row(fill) for fill in fills]), encoding="utf-8")
        process = subprocess.Popen(
            [str(python), str(PROGRAM), str(rows)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            reference = Nautilus(process, held=sum((fill.delta for fill in fills), Decimal(0)))
            reference.answer()
            yield reference
        finally:
            process.terminate()
            process.wait()


def _row(fill: Execution) -> list[Any]:
    nanoseconds = int(fill.executed_at.timestamp()) * 1_000_000_000
    side = "BUY" if fill.delta > 0 else "SELL"
    return [side, str(abs(fill.delta)), str(fill.price), str(fill.fee), nanoseconds, fill.fill_id]
