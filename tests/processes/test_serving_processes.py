"""`steelyard serve --processes N`: one port, several processes, none of which is missed for long or left behind."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from steelyard.client import Mark, Steelyard
from tests.app.processes import SERVING, Serving, is_gone, run, serving, until
from tests.client.desk import make_fill
from tests.processes.cluster import connections, logged, servers, spread_clients


async def never() -> AsyncIterator[Mark]:
    await asyncio.Event().wait()
    yield Mark(instrument="MNQ SEP25")


async def test_each_process_answers_on_the_one_port_and_a_call_cut_off_makes_the_status_tell(
    tmp_path: Path, database_url: str
) -> None:
    variables = {"STEELYARD_DATABASE_URL": database_url, "STEELYARD_DRAIN_GRACE_S": "0.5"}
    with serving(tmp_path, "--processes", "2", **variables) as service:
        found = servers(service)
        assert len(found) == 2
        assert "  processes: 2" in service.banner
        async with spread_clients(service, 4) as clients:
            assert [len(ports) >= 2 for ports in connections(service).values()] == [True, True]
            for number, client in enumerate(clients):
                await client.record_fill(make_fill(number))
            endless = asyncio.create_task(clients[0].report_marks(never()))
            await asyncio.sleep(0.5)
            assert await asyncio.to_thread(service.end) == 1
            endless.cancel()
            await asyncio.gather(endless, return_exceptions=True)
        assert is_gone({str(pid): process for pid, process in found.items()})
        # One of the two had to cut, and the owner tells of all.
        drained = [line["is_complete"] for line in logged(service.log) if line["event"] == "drained"]
        assert sorted(drained) == [False, False, True]


@pytest.mark.faults
async def test_a_process_that_dies_is_replaced_and_none_outlives_the_owner(two: Serving) -> None:
    async with spread_clients(two, 2) as clients:
        before = servers(two)
        (killed, *_) = before
        before[killed].kill()
        # The connection to the dead one is made anew, to the one that lives.
        for number, client in enumerate(clients):
            await client.record_fill(make_fill(number))
        events = {"server_died", "server_restarted"}
        until(lambda: events <= {line["event"] for line in logged(two.log)}, what="another process to serve")
    assert len(set(servers(two)) - {killed}) == 2
    assert two.health() == SERVING
    await none_outlives(two)


async def none_outlives(service: Serving) -> None:
    found = {str(pid): process for pid, process in servers(service).items()}
    # One hangs, so it cannot see that its owner has gone until it is let go on.
    hanging = next(iter(found.values()))
    hanging.send_signal(signal.SIGSTOP)
    service.process.kill()
    others = {pid: process for pid, process in found.items() if process.pid != hanging.pid}
    until(lambda: is_gone(others), what="the servers to end")
    hanging.send_signal(signal.SIGCONT)
    until(lambda: is_gone(found), what="the hanging server to end")


def test_a_port_in_use_is_one_clear_line_also_where_it_could_be_shared(tmp_path: Path, database_url: str) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = run("serve", "--port", port, "--processes", "2", STEELYARD_DATABASE_URL=database_url)
    assert result.returncode == 1
    assert f"steelyard: cannot listen on 127.0.0.1:{port}: is it in use?" in result.stderr.splitlines()


@pytest.mark.long
@pytest.mark.faults
async def test_tokens_of_the_embedded_database_outlive_a_restart(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    with serving(tmp_path, "--data", data, "--no-worker", "--processes", "2") as service:
        port = service.address.rsplit(":", 1)[1]
        async with Steelyard.connect(service.address) as client:
            await client.batch_record_fills([make_fill(number) for number in range(4)])
            listed = client.list_fills("desk", page_size=2)
            first = [await anext(listed), await anext(listed)]
            assert await asyncio.to_thread(service.end) == 0
            with serving(tmp_path, "--data", data, "--no-worker", "--port", port):
                rest = [fill async for fill in listed]
    assert len({fill.fill_id for fill in [*first, *rest]}) == 4
