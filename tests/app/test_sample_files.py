"""`steelyard sample`: a file of each format, which an import of that format takes whole."""

from __future__ import annotations

import io

import pytest
from typer.testing import CliRunner

from steelyard.app.cli import commands
from steelyard.app.sample_files import SAMPLES
from steelyard.imports.parsing import FORMATS, ParseRequest, parse


def test_there_is_a_sample_of_every_format() -> None:
    assert {name.upper() for name in SAMPLES} == set(FORMATS)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_printed_and_can_be_imported_whole(name: str) -> None:
    done = CliRunner().invoke(commands, ["sample", name, "--fills", "120", "--seed", "3"])
    assert done.exit_code == 0, done.output
    parts = list(parse(io.BytesIO(done.stdout.encode()), ParseRequest(name.upper(), default_account="desk")))
    assert sum(part.row_count for part in parts) == 120
    assert [result for part in parts for result in part.results] == []
    again = CliRunner().invoke(commands, ["sample", name, "--fills", "120", "--seed", "3"])
    assert again.stdout == done.stdout


def test_another_format_is_refused_with_the_known_ones() -> None:
    done = CliRunner().invoke(commands, ["sample", "excel"])
    assert done.exit_code == 2
    assert "binance" in done.output
