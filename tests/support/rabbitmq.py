"""A real RabbitMQ for the tests: a private node with its own name, ports, port mapper and folders.

As root on Debian it is installed through apt where it is missing; elsewhere it is taken from the system, or
`STEELYARD_TEST_AMQP_URL` names one. A node that runs already is never touched.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import aiormq
import pytest

from steelyard.events.topology import DEAD_LETTERS, Topology
from tests.support.debian import install

URL_VARIABLE = "STEELYARD_TEST_AMQP_URL"
INSTALLED = Path("/usr/lib/rabbitmq/lib")
START_S = 60
STOP_S = 15
CONFIG = """
listeners.tcp.1 = 127.0.0.1:{port}
log.console = false
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 512MB
"""


class BrokerMissing(Exception):
    """There is no RabbitMQ to test with; the text says what to do."""


def server_program() -> str:
    """The program that runs a node, installed first where that can be done. Raises `BrokerMissing`."""
    found = _find_program()
    if found is None:
        install("rabbitmq-server")
        found = _find_program()
    if found is None:
        raise BrokerMissing(f"no rabbitmq-server: install it (apt-get install rabbitmq-server) or set {URL_VARIABLE}")
    return found


def _find_program() -> str | None:
    # The program itself: its wrapper in /usr/sbin changes the user and the surroundings.
    installed = sorted(INSTALLED.glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    return str(installed[-1]) if installed else shutil.which("rabbitmq-server")


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Broker:
    """A broker for tests; only a private one can be stopped and started again."""

    def __init__(self, url: str, node: "PrivateNode | None" = None) -> None:
        self.url = url
        self.node = node

    async def stop(self) -> None:
        """Stops the node; what is durable stays."""
        await asyncio.to_thread(self._private().stop)

    async def start(self) -> None:
        """Starts the node again, with all that is durable."""
        await asyncio.to_thread(self._private().start)

    def _private(self) -> "PrivateNode":
        if self.node is None:
            raise BrokerMissing(f"the broker that {URL_VARIABLE} names cannot be stopped by tests")
        return self.node


class Door:
    """A port of its own through which the broker can be reached once the door is opened."""

    def __init__(self, broker: Broker) -> None:
        target = urlsplit(broker.url)
        (self._port,) = free_ports(1)
        self._behind = (target.hostname, target.port)
        self.url = broker.url.replace(f"{target.hostname}:{target.port}", f"127.0.0.1:{self._port}")
        self._ends: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Lets connections through; before and after they are refused, and those that stand are cut."""
        async with await asyncio.start_server(self._through, "127.0.0.1", self._port):
            try:
                yield
            finally:
                for end in self._ends:
                    end.transport.abort()
                self._ends.clear()

    async def _through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        try:
            inner_reader, inner_writer = await asyncio.open_connection(*self._behind)
        except OSError:
            writer.close()
            return
        self._ends.add(inner_writer)
        await asyncio.gather(_copied(reader, inner_writer), _copied(inner_reader, writer), return_exceptions=True)


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


class PrivateNode:
    """A RabbitMQ node of our own."""

    def __init__(self, folder: Path) -> None:
        self._program = server_program()
        self._folder = folder
        self._port, distribution, self._mapper = free_ports(3)
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "config").write_text(CONFIG.format(port=self._port), encoding="utf-8")
        (folder / "plugins").write_text("[].\n", encoding="utf-8")
        own = {
            "HOME": folder,
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODENAME": f"steelyard{os.getpid()}@localhost",
            "RABBITMQ_DIST_PORT": distribution,
            "RABBITMQ_MNESIA_BASE": folder / "data",
            "RABBITMQ_LOG_BASE": folder / "log",
            "RABBITMQ_PID_FILE": folder / "pid",
            "RABBITMQ_CONFIG_FILE": folder / "config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": folder / "plugins",
            "RABBITMQ_FEATURE_FLAGS_FILE": folder / "features",
            "ERL_EPMD_PORT": self._mapper,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ", "ERL_"))}
        self._environment = inherited | {name: str(value) for name, value in own.items()}
        self.url = f"amqp://guest:guest@127.0.0.1:{self._port}/"

    def start(self) -> None:
        """Starts the node and waits until it takes connections."""
        with (self._folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [self._program], env=self._environment, stdout=output, stderr=output, start_new_session=True
            )
        until = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                told = (self._folder / "output").read_text(errors="replace")[-500:]
                raise BrokerMissing(f"RabbitMQ does not start: {told}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return bool(connection.recv(1))
        except OSError:
            return False

    def stop(self) -> None:
        """Stops the node in order, or by force where it does not follow."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        # Whatever is left of it, such as the runtime behind a script that ended before it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def close(self) -> None:
        """Stops the node and its port mapper, which would outlive it."""
        self.stop()
        subprocess.run(
            ["epmd", "-port", str(self._mapper), "-kill"], env=self._environment, capture_output=True, check=False
        )


@pytest.fixture(scope="session")
def broker_node() -> Iterator[Broker]:
    """The broker of this test process."""
    given = os.environ.get(URL_VARIABLE)
    if given:
        yield Broker(given)
        return
    with tempfile.TemporaryDirectory(prefix="steelyard-rabbit-") as folder:
        node = PrivateNode(Path(folder))
        try:
            node.start()
            yield Broker(node.url, node)
        finally:
            node.close()


@pytest.fixture
async def broker(broker_node: Broker) -> Broker:
    """A broker without queues of ours."""
    await forget_queues(broker_node.url)
    return broker_node


async def forget_queues(url: str) -> None:
    """Deletes all queues and exchanges that the service declares."""
    connection = await aio_pika.connect(url)
    names = Topology().queues
    async with connection:
        channel = await connection.channel()
        for name in names:
            await channel.queue_delete(name)
        for exchange in (Topology().exchange, DEAD_LETTERS):
            with contextlib.suppress(aiormq.exceptions.ChannelNotFoundEntity):
                await channel.exchange_delete(exchange)
