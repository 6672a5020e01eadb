"""Parsing in a process of its own: same parts, same refusals, and a child that outlives nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest

from steelyard.accounting.errors import InvalidField, InvariantBroken
from steelyard.app.samples import bad_day, generate_day
from steelyard.imports.parsing import ParsedPart, ParseRequest, parse
from steelyard.imports.process import PIPE_BYTES, SMALL_BYTES, FileParser
from tests.imports.children import is_alive, parsers_of, wait_until_gone

ROWS = 60_000


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file far beyond what a thread or a pipe takes."""
    path = tmp_path_factory.mktemp("imports") / "large.csv"
    path.write_text("".join(generate_day(1, fills=ROWS)) + "cut,off\n")
    assert path.stat().st_size > SMALL_BYTES + 3 * PIPE_BYTES
    return path


def parts_of(path: Path, request: ParseRequest | None = None) -> AsyncGenerator[ParsedPart, None]:
    return FileParser().parse_in_process(path, request or ParseRequest())


def children() -> list[int]:
    return parsers_of(os.getpid())


async def test_parts_of_a_large_file_are_those_of_parse(large_file: Path) -> None:
    with large_file.open("rb") as stream:
        expected = list(parse(stream, ParseRequest()))
    assert [part async for part in parts_of(large_file)] == expected
    assert expected[-1].results[0].raw == "cut,off"
    assert children() == []


async def test_small_file_needs_no_process(tmp_path: Path) -> None:
    path = tmp_path / "small.csv"
    path.write_text("".join(bad_day(3)))
    async with aclosing(parts_of(path)) as parts:
        part = await anext(parts)
        assert children() == []
    with path.open("rb") as stream:
        assert [part] == list(parse(stream, ParseRequest()))


@pytest.mark.parametrize(
    "asked, field",
    [
        (ParseRequest(format="GENERIC_CSV"), "header"),
        (ParseRequest(time_zone="Nowhere"), "time_zone"),
        (ParseRequest(max_rows=30_000), "file"),
        (ParseRequest(max_bytes=1_000_000), "file"),
    ],
)
async def test_refusal_comes_back_as_the_same_error(large_file: Path, asked: ParseRequest, field: str) -> None:
    with large_file.open("rb") as stream, pytest.raises(InvalidField) as here:
        list(parse(stream, asked))
    with pytest.raises(InvalidField) as there:
        _ = [part async for part in parts_of(large_file, asked)]
    assert (there.value.field, there.value.why) == (here.value.field, here.value.why)
    assert there.value.field == field


async def test_reader_that_leaves_early_takes_the_child_with_it(large_file: Path) -> None:
    async with aclosing(parts_of(large_file)) as parts:
        await anext(parts)
        [child] = children()
    assert not is_alive(child)


async def test_cancelled_reader_takes_the_child_with_it(large_file: Path) -> None:
    begun = asyncio.Event()

    async def read_slowly() -> None:
        async with aclosing(parts_of(large_file)) as parts:
            async for _ in parts:
                begun.set()
                await asyncio.sleep(600)

    task = asyncio.create_task(read_slowly())
    await begun.wait()
    [child] = children()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_alive(child)


async def test_child_waits_for_a_slow_reader(large_file: Path) -> None:
    async with aclosing(parts_of(large_file)) as parts:
        first = await anext(parts)
        [child] = children()
        await asyncio.sleep(1.5)
        # The rest would be done by now; what the pipe does not take is not parsed.
        assert is_alive(child)
        assert first.row_count + sum([part.row_count async for part in parts]) == ROWS + 1


async def test_child_that_dies_is_an_error_not_the_end_of_the_file(large_file: Path) -> None:
    async with aclosing(parts_of(large_file)) as parts:
        await anext(parts)
        [child] = children()
        os.kill(child, signal.SIGKILL)
        with pytest.raises(InvariantBroken, match="ended with status -9"):
            _ = [part async for part in parts]


def test_child_ends_when_its_owner_is_killed(large_file: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[2])])}
    owner = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("owner_program.py")), str(large_file)],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert owner.stdout is not None
    child = int(owner.stdout.readline())
    owner.kill()
    owner.communicate()
    wait_until_gone(child, timeout_s=10)
