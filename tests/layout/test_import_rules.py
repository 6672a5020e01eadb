"""Each import contract is proven by a violation planted into a copy of the tree: the linter must name it."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.layout.tree import ROOT, SOURCE_ROOTS, tracked_files

# The copy's own source roots come first and the installed tree is taken out, so only the copy is read.
LINT = """
import sys
from importlinter.cli import lint_imports_command
real, copy, roots = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
real_roots = {real, *(f"{real}/{root}" for root in roots)}
sys.path[:] = [copy, *(f"{copy}/{root}" for root in roots), *(p for p in sys.path if p not in real_roots)]
lint_imports_command(["--no-logo", "--no-cache", *sys.argv[4:]], prog_name="lint-imports")
"""

PLANTS = {
    "rooms": [
        ("server/steelyard/accounting/planted.py", "import steelyard.operations"),
        ("server/steelyard/operations/planted.py", "import steelyard.storage"),
        ("server/steelyard/storage/planted.py", "import steelyard.app"),
        ("server/steelyard/storage/planted.py", "import steelyard.builds"),
        ("server/steelyard/imports/planted.py", "import steelyard.rpc"),
        ("server/steelyard/embedded/planted.py", "def probe() -> None:\n    import steelyard.storage"),
        ("server/steelyard/helpers/__init__.py", '"""A room nobody has placed."""'),
    ],
    "pure-accounting": [
        ("server/steelyard/accounting/planted.py", "import asyncio"),
        ("server/steelyard/accounting/planted.py", "import time"),
        ("server/steelyard/accounting/planted.py", "from pathlib import Path"),
        ("server/steelyard/accounting/planted.py", "import sortedcontainers"),
    ],
    "operations-see-ports": [
        ("server/steelyard/operations/planted.py", "import asyncpg"),
        ("server/steelyard/operations/planted.py", "import socket"),
    ],
    "telemetry-closed": [
        ("server/steelyard/operations/planted.py", "import steelyard.telemetry"),
        ("server/steelyard/accounting/planted.py", "import steelyard.telemetry"),
    ],
    "contract-readers": [("server/steelyard/storage/planted.py", "import steelyard.v1")],
    "client-knows-the-contract": [("clients/steelyard/client/planted.py", "import steelyard.accounting")],
    "cli-knows-the-client": [("clients/steelyard/cli/planted.py", "import steelyard.v1")],
    "client-readers": [("server/steelyard/rpc/planted.py", "import steelyard.client")],
    "cli-readers": [("server/steelyard/rpc/planted.py", "import steelyard.cli")],
    "telemetry-stands-alone": [("server/steelyard/telemetry/planted.py", "import steelyard.storage")],
    "sql": [("server/steelyard/rpc/planted.py", "import sqlalchemy")],
    "task-engine": [("server/steelyard/storage/planted.py", "import procrastinate")],
    "wire": [("server/steelyard/storage/planted.py", "import grpc")],
    "redis": [("server/steelyard/storage/planted.py", "import redis")],
    "http": [("server/steelyard/storage/planted.py", "import aiohttp")],
    "broker": [("server/steelyard/rpc/planted.py", "import aio_pika")],
    "terminal": [("server/steelyard/builds/planted.py", "import rich")],
}
CASES = [(contract, path, source) for contract, plants in PLANTS.items() for path, source in plants]


def contracts() -> dict[str, str]:
    """The name of each contract by its id, as pyproject.toml declares them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {entry["id"]: entry["name"] for entry in settings["tool"]["importlinter"]["contracts"]}


def lint(copy: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LINT, str(ROOT), str(copy), ",".join(SOURCE_ROOTS), *options]
    return subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of every source root and of the linter's rules."""
    folder = tmp_path_factory.mktemp("tree")
    for path in tracked_files():
        if path.suffix == ".py" and path.parts[0] in (*SOURCE_ROOTS, "tools"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, folder / path)
    shutil.copyfile(ROOT / "pyproject.toml", folder / "pyproject.toml")
    return folder


@pytest.fixture
def plant(copy: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The copy with one violation in it."""
    path, source = request.param
    target = copy / path
    existed = target.parent.exists()
    target.parent.mkdir(exist_ok=True)
    target.write_text(f'"""Planted."""\n\n{source}\n', encoding="utf-8")
    yield copy
    target.unlink() if existed else shutil.rmtree(target.parent)


def test_every_contract_has_a_planted_violation() -> None:
    assert PLANTS.keys() == contracts().keys()


@pytest.mark.xdist_group("import-rules")
def test_the_tree_as_it_is_keeps_every_contract(copy: Path) -> None:
    result = lint(copy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"Contracts: {len(contracts())} kept, 0 broken." in result.stdout


@pytest.mark.xdist_group("import-rules")
@pytest.mark.parametrize(
    ("contract", "plant"),
    [
        pytest.param(contract, (path, source), id=f"{contract}: {path}: {source.split()[-1]}")
        for contract, path, source in CASES
    ],
    indirect=["plant"],
)
def test_a_planted_violation_breaks_its_contract_by_name(contract: str, *, plant: Path) -> None:
    result = lint(plant, "--contract", contract)
    assert result.returncode == 1, result.stdout + result.stderr
    assert re.search(rf"{re.escape(contracts()[contract])} BROKEN", re.sub(r"\s+", " ", result.stdout)), result.stdout
