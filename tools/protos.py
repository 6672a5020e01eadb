"""Writes generated/ anew from protos/: messages, services, and their types for grpc.aio.

protos.py             write generated/steelyard/v1
protos.py --check     fail, naming the files, where the committed stubs are not what protos/ gives
protos.py --baseline  make today's contract the one later changes may not break (protos/released.binpb)

Folder, proto package and Python package are one name, so the generated imports need no mending. The same inputs give
the same bytes: files are compiled in the order of their names, and nothing of the machine goes into them.
"""

import argparse
import sys
import sysconfig
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = Path("steelyard/v1")
GENERATED = ROOT / "generated"
BASELINE = PROTOS / "released.binpb"
WELL_KNOWN = Path(grpc_tools.__path__[0]) / "_proto"
SCRIPTS = Path(sysconfig.get_path("scripts"))
INCLUDES = [f"-I{folder}" for folder in (PROTOS, ROOT / "third_party", WELL_KNOWN)]

INIT = '''"""Messages and services of the contract `steelyard.v1`, generated from protos/ by `make protos`, not by hand.

Imported by `steelyard.rpc` and `steelyard.client` only; it knows no room.
"""
'''


def sources(*, services_only: bool = False) -> list[str]:
    """The proto files, by name; only those that define a service if asked."""
    pattern = "*_service.proto" if services_only else "*.proto"
    return sorted(path.relative_to(PROTOS).as_posix() for path in (PROTOS / PACKAGE).glob(pattern))


def run_protoc(*arguments: str, files: list[str]) -> None:
    """Run the compiler that grpcio-tools brings; its complaints go to standard error."""
    if protoc.main(["protoc", *INCLUDES, *arguments, *files]) != 0:
        sys.exit("protos: protoc failed")


def generate(target: Path) -> None:
    """Everything of the generated package, below an empty folder."""
    plugins = [f"--plugin=protoc-gen-{name}={SCRIPTS / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")]
    run_protoc(*plugins, f"--python_out={target}", f"--mypy_out=quiet:{target}", files=sources())
    services = [f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet,only_async:{target}"]
    run_protoc(*plugins, *services, files=sources(services_only=True))
    (target / PACKAGE / "__init__.py").write_text(INIT, encoding="utf-8")
    (target / PACKAGE / "py.typed").write_text("", encoding="utf-8")


def files_below(folder: Path) -> dict[str, bytes]:
    """Relative name and content of each generated file; what Python caches is left out."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def stale() -> list[str]:
    """The generated files that are missing, different, or not made from any proto, by name."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh, committed = files_below(Path(folder)), files_below(GENERATED)
    return sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))


def write() -> None:
    """Bring generated/ up to date: files that differ are written, files of no proto removed."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = files_below(Path(folder))
    for name in files_below(GENERATED).keys() - fresh.keys():
        (GENERATED / name).unlink()
    for name, content in fresh.items():
        path = GENERATED / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_bytes() != content:
            path.write_bytes(content)


def write_baseline() -> None:
    """The contract as one descriptor set, imports included, without comments and positions."""
    run_protoc("--include_imports", f"--descriptor_set_out={BASELINE}", files=sources())


def main() -> None:
    """Read the command line and do the one thing it asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true")
    choice.add_argument("--baseline", action="store_true")
    asked = parser.parse_args()
    if asked.baseline:
        write_baseline()
    elif not asked.check:
        write()
    elif names := stale():
        sys.exit("protos: generated/ is not what protos/ gives; run make protos:\n  " + "\n  ".join(names))


if __name__ == "__main__":
    main()
