"""The document of settings names every one, with its default, as the code has it."""

import subprocess
import sys
from pathlib import Path

from steelyard.app.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "deploy" / "docs" / "SETTINGS.md"


def test_the_table_of_settings_is_that_of_the_code() -> None:
    command = [sys.executable, str(ROOT / "tools" / "settings_table.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    text = DOCUMENT.read_text(encoding="utf-8")
    assert all(f"`{PREFIX}{name.upper()}`" in text for name in Settings.model_fields)
