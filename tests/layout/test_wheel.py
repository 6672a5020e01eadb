"""A wheel built from this tree, installed bare: stubs, client and console script are there, the service is an extra.

Nothing is fetched: the declared dependencies of the wheel, and only those, are linked from the running environment
into an empty one, so a client that needs more than it declares does not start.
"""

import os
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.layout.tree import ROOT, SOURCE_ROOTS, tracked_files

CLIENT = """
import pathlib, pkgutil, steelyard.client, steelyard.v1
for package in (steelyard.client, steelyard.v1):
    folder = pathlib.Path(package.__path__[0])
    assert (folder / "py.typed").is_file(), folder
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        __import__(module.name)
stubs = {path.stem for path in pathlib.Path(steelyard.v1.__path__[0]).glob("*_pb2*.py")}
typed = {path.stem for path in pathlib.Path(steelyard.v1.__path__[0]).glob("*_pb2*.pyi")}
assert stubs and stubs == typed, stubs ^ typed
print(len(stubs))
"""


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd="/")


def declared_closure(requirements: list[str]) -> set[str]:
    """Names of every distribution the requirements ask for on this machine, extras of theirs included."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        found.add(name)
        inner = [Requirement(text) for text in metadata.requires(name) or []]
        extras = requirement.extras or {""}
        waiting += [
            need
            for need in inner
            if (need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras))
            and canonicalize_name(need.name) not in found
        ]
    return found


def link_distribution(name: str, *, site: Path) -> None:
    """Make every file of an installed distribution visible in another environment's site folder."""
    for file in metadata.files(name) or []:
        target = site / str(file)
        if ".." not in file.parts and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(Path(str(file.locate())).resolve())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("steelyard-*.whl")
    return built


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of executables of an environment that holds the wheel and what it declares, without extras."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (entry for entry in archive.namelist() if entry.endswith(".dist-info/METADATA"))
        headers = archive.read(name).decode().split("\n\n")[0].splitlines()
    required = [line.removeprefix("Requires-Dist: ") for line in headers if line.startswith("Requires-Dist: ")]
    for distribution in declared_closure([text for text in required if "extra ==" not in text]):
        link_distribution(distribution, site=site)
    python = folder / "bin" / "python"
    result = run(
        sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel
    )
    assert result.returncode == 0, result.stderr
    return folder / "bin"


@pytest.mark.xdist_group("wheel")
def test_the_wheel_holds_every_file_of_the_four_source_roots_at_its_place(wheel: Path) -> None:
    """Migrations, `.pyi` and `py.typed` included; nothing else but the metadata."""
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        Path(*path.parts[1:]).as_posix()
        for path in tracked_files()
        if path.parts[0] in SOURCE_ROOTS and path.parts[1] == "steelyard"
    }
    assert packed == expected
    assert any(name.startswith("steelyard/migrations/versions/") for name in packed)


@pytest.mark.xdist_group("wheel")
def test_a_bare_installation_imports_typed_stubs_and_client(bare: Path) -> None:
    result = run(bare / "python", "-c", CLIENT)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 0


@pytest.mark.xdist_group("wheel")
def test_what_a_bare_installation_declares_is_complete(bare: Path) -> None:
    result = run(sys.executable, "-m", "pip", "--python", bare / "python", "check")
    assert result.returncode == 0, result.stdout


@pytest.mark.xdist_group("wheel")
def test_the_console_script_of_a_bare_installation_names_the_extra_in_one_line(bare: Path) -> None:
    result = run(bare / "steelyard", "demo")
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "pip install 'steelyard[server,cli,embedded]'" in result.stderr


def test_the_generator_of_the_stubs_and_their_runtime_have_one_version() -> None:
    versions = {
        metadata.version(name) for name in ("grpcio", "grpcio-tools", "grpcio-status", "grpcio-health-checking")
    }
    assert len(versions) == 1
