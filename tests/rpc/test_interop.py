"""Strangers can talk to the service: `buf curl` by reflection, and a Node client from the proto files.

`tools/node.sh` fetches both by npm where they are missing, or says in one line what to install.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.rpc import error_details_pb2

from steelyard.app.assembly import Service
from tests.client.desk import serving_book

ROOT = Path(__file__).resolve().parents[2]
FILL = {
    "fillId": "curl-1",
    "account": "curl",
    "instrument": "MNQ SEP25",
    "side": "SIDE_SELL",
    "quantity": "1",
    "price": "25000",
    "executedAt": "2025-06-20T14:00:00.123456Z",
}
CURL_EXIT_PER_CODE = 8
"""buf curl ends with 8 times the gRPC code."""
ALREADY_EXISTS = 6

pytestmark = pytest.mark.xdist_group("node")


@pytest.fixture(scope="session")
def node_tools() -> Path:
    """The folder of the Node tools' executables."""
    done = subprocess.run([ROOT / "tools" / "node.sh"], capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture
async def server(database_url: str) -> AsyncIterator[Service]:
    async with serving_book(database_url) as server:
        yield server


async def run(*command: str | Path) -> tuple[int, str, str]:
    """Runs a program beside the server: exit status, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=ROOT
    )
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), errors.decode()


async def curl(tools: Path, server: Service, method: str, request: dict[str, Any]) -> tuple[int, str, str]:
    return await run(
        tools / "buf", "curl", "--http2-prior-knowledge", "--protocol", "grpc",
        "-d", json.dumps(request), f"http://{server.address}/{method}",
    )  # fmt: skip


async def test_buf_curl_finds_the_services_by_reflection(node_tools: Path, server: Service) -> None:
    status, out, errors = await run(
        node_tools / "buf", "curl", "--http2-prior-knowledge", "--protocol", "grpc", "--list-services",
        f"http://{server.address}",
    )  # fmt: skip
    assert status == 0, errors
    assert {"steelyard.v1.FillService", "grpc.health.v1.Health"} <= set(out.split())


async def test_buf_curl_records_and_lists_a_fill(node_tools: Path, server: Service) -> None:
    status, out, errors = await curl(node_tools, server, "steelyard.v1.FillService/RecordFill", {"fill": FILL})
    assert status == 0, errors
    assert json.loads(out)["receipt"]["version"] == "1"
    status, out, errors = await curl(node_tools, server, "steelyard.v1.FillService/ListFills", {"account": "curl"})
    assert status == 0, errors
    (listed,) = json.loads(out)["fills"]
    assert {name: listed[name] for name in FILL} == FILL


async def test_buf_curl_shows_the_reason_of_an_error(node_tools: Path, server: Service) -> None:
    await curl(node_tools, server, "steelyard.v1.FillService/RecordFill", {"fill": FILL})
    other = {"fill": {**FILL, "price": "1"}}
    status, _, errors = await curl(node_tools, server, "steelyard.v1.FillService/RecordFill", other)
    assert status == CURL_EXIT_PER_CODE * ALREADY_EXISTS
    (detail,) = json.loads(errors)["details"]
    value = detail["value"]
    info = error_details_pb2.ErrorInfo.FromString(base64.b64decode(value + "=" * (-len(value) % 4)))
    assert (info.reason, info.domain, info.metadata["fill_id"]) == ("FILL_CONFLICT", "steelyard", "curl-1")


async def test_buf_curl_asks_for_health(node_tools: Path, server: Service) -> None:
    status, out, errors = await curl(node_tools, server, "grpc.health.v1.Health/Check", {})
    assert status == 0, errors
    assert json.loads(out) == {"status": "SERVING"}


async def test_a_node_client_records_lists_and_sees_errors(node_tools: Path, server: Service) -> None:
    script = Path(__file__).with_name("interop_client.js")
    status, out, errors = await run(
        "node", script, server.address, node_tools.parent, ROOT / "protos", ROOT / "third_party"
    )
    assert status == 0, errors
    told = json.loads(out)
    assert told["first"]["answer"]["receipt"]["version"] == "1"
    assert told["again"]["answer"]["receipt"]["replayed"] is True
    assert (told["conflict"]["code"], told["conflict"]["has_details"]) == (ALREADY_EXISTS, 1)
    (fill,) = told["listed"]["answer"]["fills"]
    assert (fill["fill_id"], fill["price"], fill["executed_at"]["nanos"]) == ("node-1", "25000.25", 123_456_000)
    assert all(told[name]["request_id"] for name in told)
