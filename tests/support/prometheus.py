"""A real Prometheus for the tests, on files of its own."""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.debian import program
from tests.support.rabbitmq import free_ports

CONFIG = """
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: steelyard
    static_configs: [{{targets: {targets}}}]
"""
START_S = 30


class Prometheus:
    """One that runs."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, **asked: str) -> Any:
        """What its API answers."""
        query = urllib.parse.urlencode(asked)
        with urllib.request.urlopen(f"{self._url}{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def value(self, expression: str) -> float | None:
        """The first value of an expression, now; None: there is none."""
        found = self.ask("/api/v1/query", query=expression)["result"]
        return float(found[0]["value"][1]) if found else None

    def wait(self, expression: str, *, timeout_s: float = 30.0) -> float:
        """Waits until an expression has a value."""
        deadline = time.monotonic() + timeout_s
        while (value := self.value(expression)) is None:
            assert time.monotonic() < deadline, f"{expression} has no value after {timeout_s} s"
            time.sleep(0.2)
        return value


@contextmanager
def scraping(folder: Path, *, ports: Sequence[int], rules: Path) -> Iterator[Prometheus]:
    """Scrapes these ports of this machine and evaluates rules."""
    (port,) = free_ports(1)
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(rules=rules, targets=json.dumps([f"127.0.0.1:{each}" for each in ports])))
    arguments = [
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen([program("prometheus", package="prometheus"), *arguments], stderr=log, stdout=log)
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "prometheus.log").read_text()[-2_000:]
                assert time.monotonic() < deadline, "Prometheus does not get ready"
                time.sleep(0.1)
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait(20)
