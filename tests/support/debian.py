"""Programs of the system that tests need: looked for, and installed where that can be done."""

import os
import shutil
import subprocess

INSTALL_S = 300


class ProgramMissing(Exception):
    """A program is not there and cannot be installed; the text says what to do."""


def program(name: str, *, package: str) -> str:
    """The path of a program, installed first as root on Debian. Raises `ProgramMissing`."""
    found = shutil.which(name)
    if found is None:
        install(package)
        found = shutil.which(name)
    if found is None:
        raise ProgramMissing(f"no {name}: install it (apt-get install {package})")
    return found


def install(package: str) -> None:
    """Installs a package through apt where we are root and there is one; else does nothing."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update", "-q"], [*command, package]):
        subprocess.run(step, env=environment, capture_output=True, timeout=INSTALL_S, check=False)
