"""The alerts: their rules are sound, each is fired by a case, and they stand on metrics that exist."""

import re
import subprocess
from pathlib import Path

from steelyard.telemetry.metrics import METRICS, Kind
from tests.support.debian import program

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
WANTED = {
    "SteelyardBuildFailed",
    "SteelyardBuildStalled",
    "SteelyardNoWorker",
    "SteelyardStaleKey",
    "SteelyardEventLag",
    "SteelyardReconcileMismatch",
    "SteelyardErrorBudget",
    "SteelyardLoopLag",
    "SteelyardPoolWait",
    "SteelyardStalePrices",
    "SteelyardLimitBreached",
}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    tool = program("promtool", package="prometheus")
    return subprocess.run([tool, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False)


def test_the_rules_are_sound_and_every_case_fires_what_it_should() -> None:
    checked = promtool("check", "config", "prometheus.yml")
    assert checked.returncode == 0, checked.stderr
    tested = promtool("test", "rules", "alerts_test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_is_fired_by_a_case_and_quiet_on_a_healthy_service() -> None:
    alerts = set(re.findall(r"- alert: (\w+)", (FOLDER / "alerts.yml").read_text()))
    assert alerts >= WANTED
    healthy, *cases = re.split(r"\n  - name: ", (FOLDER / "alerts_test.yml").read_text())[1:]
    assert set(re.findall(r"alertname: (\w+)", healthy)) == alerts
    assert "exp_alerts" not in healthy
    fired = {re.findall(r"alertname: (\w+)", case)[-1] for case in cases if "exp_alerts" in case}
    assert fired == alerts


def test_alerts_stand_on_declared_metrics_only() -> None:
    series = {metric.name for metric in METRICS if metric.kind is not Kind.HISTOGRAM}
    for metric in METRICS:
        if metric.kind is Kind.HISTOGRAM:
            series |= {f"{metric.name}_{end}" for end in ("bucket", "count", "sum")}
    for name in ("alerts.yml", "alerts_test.yml"):
        text = re.sub(r"(?m)#.*$|^\s*(summary|action):.*$", "", (FOLDER / name).read_text())
        used = set(re.findall(r"\bsteelyard_\w+", text))
        assert used, name
        assert used <= series, used - series
