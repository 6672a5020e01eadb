"""Only app/assembly.py reads the clock; the linter says so, and these plants show that it does."""

import subprocess
import sys

import pytest

from tests.layout.tree import ROOT

PLANTS = {
    "datetime.now": "from datetime import UTC, datetime\n\nSTARTED = datetime.now(UTC)\n",
    "datetime.utcnow": "import datetime\n\nSTARTED = datetime.datetime.utcnow()\n",
    "date.today": "import datetime\n\nTODAY = datetime.date.today()\n",
    "time.time": "import time\n\nSTARTED = time.time()\n",
}
BANNED = "TID251"


def ruff_on(source: str, *, filename: str, rules: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--no-cache",
        "--select",
        rules,
        "--stdin-filename",
        filename,
        "-",
    ]
    return subprocess.run(command, cwd=ROOT, input=source, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("source", PLANTS.values(), ids=PLANTS.keys())
@pytest.mark.parametrize("room", ["accounting", "operations", "storage", "rpc", "builds", "app"])
def test_reading_the_clock_outside_assembly_is_refused(source: str, *, room: str) -> None:
    result = ruff_on(source, filename=f"server/steelyard/{room}/planted.py", rules=BANNED)
    assert result.returncode == 1, result.stdout
    assert "only app/assembly.py reads the clock" in result.stdout


def test_assembly_may_read_the_clock() -> None:
    result = ruff_on(PLANTS["datetime.now"], filename="server/steelyard/app/assembly.py", rules=BANNED)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        ("S608", "def read(name: str) -> str:\n    return f\"SELECT * FROM fills WHERE account = '{name}'\"\n"),
        ("FBT001", "def build(full: bool) -> None:\n    print(full)\n"),
        ("PLR0917", "def fold(position: int, fill: int, method: int) -> None:\n    print(position, fill, method)\n"),
        ("DTZ001", "from datetime import datetime\n\nOPENED = datetime(2025, 6, 20)\n"),
    ],
)
def test_the_house_rules_are_switched_on(rule: str, source: str) -> None:
    result = ruff_on(source, filename="server/steelyard/operations/planted.py", rules=rule)
    assert result.returncode == 1, f"{rule} found nothing: {result.stdout}{result.stderr}"
