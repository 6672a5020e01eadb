"""`steelyard demo`: the whole way of a trading day, on a private database that is gone afterwards.

A throwaway PostgreSQL, the real server on a free port, a real worker process and the real client: all that is shown
went through gRPC.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from steelyard.app.assembly import Service, system_clock
from steelyard.app.demo_answers import Answers, FileImported, ask, document
from steelyard.app.demo_tables import show
from steelyard.app.samples import generate_day
from steelyard.app.settings import Settings
from steelyard.app.store import EmbeddedStore
from steelyard.app.worker_process import WorkerProcess
from steelyard.client import Build, BuildState, Mark, Steelyard
from steelyard.telemetry.logs import json_log

SEED = 20_250_620
FILLS = 20_000
ACCOUNTS = 3
STILL_OPEN = 4
MARK_SOURCE = "demo"
BAR_WIDTH = 16


class Demo:
    """One run of the demo; what it tells while it works goes to `aside`, its results to `out`."""

    def __init__(self, settings: Settings, *, out: Console, aside: Console) -> None:
        self._settings = settings
        self._out = out
        self._aside = aside

    async def run_day(self) -> bool:
        """An invented day of executions as tables; False when its build failed."""
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="steelyard-demo-") as folder:
            path = Path(folder) / "executions.csv"
            await asyncio.to_thread(_write_day, path)
            self._aside.print(f"a day of {FILLS:,} executions of {ACCOUNTS} accounts, seed {SEED}")
            async with self._service() as steelyard:
                imported = await self._import(steelyard, [path])
                answers = await ask(steelyard)
                await _mark(steelyard, answers)
                answers = Answers(
                    [position async for position in steelyard.list_positions(page_size=1_000)],
                    answers.round_trips,
                    answers.days,
                )
                exposure = await steelyard.get_exposure()
        show(self._out, answers, exposure=exposure, mark_source="the day's last execution prices")
        self._out.print(_summary(imported), soft_wrap=True)
        self._aside.print(f"done in {time.monotonic() - begun:.1f} s, all of it stopped and removed")
        return _are_built(imported)

    async def run_files(self, files: Sequence[Path], *, as_json: bool) -> bool:
        """Files, imported in the order given, as one JSON document or as tables; False when a build failed.

        Raises `OSError` for a file that cannot be read, before anything is started.
        """
        for path in files:
            await asyncio.to_thread(_check_readable, path)
        async with self._service() as steelyard:
            imported = await self._import(steelyard, files)
            answers = await ask(steelyard)
            exposure = await steelyard.get_exposure()
        if as_json:
            self._out.file.write(json.dumps(document(imported, answers), indent=2, ensure_ascii=False) + "\n")
        else:
            show(self._out, answers, exposure=exposure, mark_source="nothing: no prices were reported")
            self._out.print(_summary(imported), soft_wrap=True)
        return _are_built(imported)

    @asynccontextmanager
    async def _service(self) -> AsyncIterator[Steelyard]:
        """A service of its own, with all it stands on; ended in order."""
        log = json_log(level=self._settings.log_level)
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(EmbeddedStore.open(None, log=log))
            variables = {"STEELYARD_LOG_LEVEL": self._settings.log_level}
            worker = await stack.enter_async_context(WorkerProcess.open(url=store.url, log=log, variables=variables))
            await stack.enter_async_context(_beside(worker.keep_running()))
            service = Service(self._settings, url=store.url, log=log)
            await service.start()
            stack.push_async_callback(service.stop)
            self._aside.print(f"serving on {service.address}, PostgreSQL and worker are private to this run")
            yield await stack.enter_async_context(Steelyard.connect(service.address))

    async def _import(self, steelyard: Steelyard, files: Sequence[Path]) -> list[FileImported]:
        """Imports files one after the other, each with its build watched to the end."""
        imported: list[FileImported] = []
        columns = (TextColumn("{task.description}"), BarColumn(BAR_WIDTH), TaskProgressColumn())
        with Progress(*columns, TextColumn("{task.fields[told]}"), console=self._aside) as progress:
            for path in files:
                sending = progress.add_task(f"import {path.name}", total=None, told="")

                def sent(done: int, total: int | None, *, sending: Any = sending) -> None:
                    progress.update(sending, completed=done, total=total)

                outcome = await steelyard.import_trades(path, progress=sent)
                made = outcome.trade_import
                told = f"{made.recorded:,} new, {made.repeated:,} repeated, {made.rejected:,} rejected"
                progress.update(sending, told=told)
                state: BuildState | None = None
                if made.build_id:
                    state = await _watch(steelyard, made.build_id, progress=progress)
                imported.append(FileImported(path.name, outcome, state))
        return imported


async def _watch(steelyard: Steelyard, build_id: str, *, progress: Progress) -> BuildState:
    """Watches a build to its end."""
    bar = progress.add_task("build", total=100, told="")
    build: Build | None = None
    async for build in steelyard.watch_build(build_id):
        done = build.progress
        told = f"{build.state.lower()}: {done.fills_done:,} of {done.fills_total:,} fills"
        progress.update(bar, completed=done.percent, told=told)
    assert build is not None, "a watched build tells at least its end"
    return build.state


async def _mark(steelyard: Steelyard, answers: Answers) -> None:
    """Reports the price of each open position's last execution as the current one: a stand-in for a price feed."""
    marks: dict[str, Mark] = {}
    for position in answers.positions:
        if position.quantity and position.instrument not in marks:
            fills = steelyard.list_fills(position.account, instrument=position.instrument, page_size=1)
            last = await anext(fills)
            marks[position.instrument] = Mark(position.instrument, last.price, system_clock(), MARK_SOURCE)
    await steelyard.report_marks(marks.values())


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _check_readable(path: Path) -> None:
    with path.open("rb"):
        pass


def _write_day(path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.writelines(generate_day(SEED, fills=FILLS, accounts=ACCOUNTS, leave_open=STILL_OPEN))


def _are_built(imported: Sequence[FileImported]) -> bool:
    return all(one.build_state in (None, BuildState.SUCCEEDED) for one in imported)


def _summary(imported: Sequence[FileImported]) -> str:
    lines = []
    for one in imported:
        made = one.outcome.trade_import
        counts = f"{made.rows:,} rows: {made.recorded:,} recorded, {made.repeated:,} repeated"
        lines.append(f"{one.name}: {counts}, {made.conflicting:,} conflicting, {made.rejected:,} rejected")
        lines.extend(f"  line {row.row_number}: {row.category.lower()}: {row.reason}" for row in one.outcome.rows[:20])
    return "\n".join(lines)
