"""What is committed names no package registry and no path of the machine it was written on."""

import re

from tests.layout.tree import ROOT, read, tracked_files

# Put together from parts, since this file is committed too.
REGISTRIES = [
    "pypi" + r"\.org",
    "python" + r"hosted\.org",
    "registry" + r"\.npmjs",
    "npmjs" + r"\.org",
    "yarn" + r"pkg\.com",
]
MACHINE_PATHS = ["/work" + r"/(main|shared)\b", "/root" + r"/\.", "/opt" + "/(wheels|pypi)", "/home" + r"/\w+/"]
FORBIDDEN = re.compile("|".join(REGISTRIES + MACHINE_PATHS))
BINARY = {".png", ".binpb", ".ico", ".woff2", ".gz"}
LOCK_LINE = re.compile(r"^([a-z0-9.\-]+)==(\S+)")


def test_no_registry_and_no_path_of_this_machine_is_committed() -> None:
    found = [
        f"{path}:{number}: {line.strip()[:80]}"
        for path in tracked_files()
        if path.suffix not in BINARY
        for number, line in enumerate(read(path).splitlines(), start=1)
        if FORBIDDEN.search(line)
    ]
    assert found == []


def test_the_lock_names_no_address_and_every_package_carries_hashes() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert "@ " not in text
    blocks = re.split(r"(?m)^(?=[a-z0-9])", text)[1:]
    assert len(blocks) > 50
    unhashed = [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block]
    assert unhashed == []


def test_no_lock_file_that_records_hosts_is_committed() -> None:
    recorded = {"uv.lock", "pylock.toml", "package-lock.json", "yarn.lock", "poetry.lock"}
    assert [path for path in tracked_files() if path.name in recorded] == []
