"""Make is the only door: it explains itself, passes failures on, and CI goes through it."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.layout.tree import ROOT, read

DOORS = {"demo", "test", "bench", "faults", "protos", "fmt", "lint", "serve", "work", "migrate", "ci", "help", "setup"}
LOCKED = re.compile(r"(?m)^([a-z0-9.\-]+)==")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_make_alone_prints_every_door() -> None:
    result = make()
    assert result.returncode == 0
    shown = set(re.findall(r"(?m)^  make (\w+) ", result.stdout))
    assert shown >= DOORS
    targets = set(re.findall(r"(?m)^([a-z]+):", read(Path("Makefile"))))
    assert shown == targets


def test_a_failing_command_fails_its_target() -> None:
    result = make("test", "TESTS=tests/layout/no_such_file.py", "JOBS=0")
    assert result.returncode != 0


def test_ci_runs_make_ci_which_measures_exactly_make_test() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "exec make ci" in read(Path(".ci/run"))
    steps = make("--dry-run", "ci").stdout
    for part in ("ruff check", "mypy", "lint-imports", "buf.sh lint", "buf.sh breaking", "buf.sh format"):
        assert part in steps
    assert re.search(r"COVERAGE_PROCESS_START=\S+ .*make.* test", steps)
    assert re.search(r"coverage_floor\.py \S+ 90", steps)
    for room in ("accounting", "operations", "builds"):
        assert f"server/steelyard/{room}=95" in steps


def test_the_lock_holds_every_declared_dependency() -> None:
    project = tomllib.loads(read(Path("pyproject.toml")))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {canonicalize_name(Requirement(text).name) for group in groups for text in group} - {"steelyard"}
    assert declared <= set(LOCKED.findall(read(Path("requirements.lock"))))


@pytest.mark.parametrize(
    "name",
    [
        "grpcio", "grpcio-tools", "grpcio-health-checking", "protobuf", "sqlalchemy", "asyncpg", "redis",
        "opentelemetry-sdk", "pytest", "pytest-asyncio",
    ],
)  # fmt: skip
def test_the_agreed_dependencies_are_declared(name: str) -> None:
    project = tomllib.loads(read(Path("pyproject.toml")))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    assert name in {Requirement(text).name for group in groups for text in group}
