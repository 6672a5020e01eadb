"""`steelyard doctor`: looks at everything the service stands on, and says what to do about what is wrong.

It changes nothing and starts nothing, so it can be run beside a service that runs. Each check is a small function that
gives findings; one that goes wrong itself is a finding, too.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from steelyard.app.settings import Settings, SettingsWrong
from steelyard.app.telemetry_side import secrets_of
from steelyard.operations.ports import Clock
from steelyard.telemetry.redaction import Redaction

CHECK_MAX_S = 15.0
"""How long one check may take."""


class Verdict(StrEnum):
    """How bad it is."""

    OK = "OK"
    WARN = "WARN"
    """It works, and should be looked at."""
    FAIL = "FAIL"
    """The service would not run, or not hold what it promises."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look came to."""

    check: str
    verdict: Verdict
    told: str
    what_to_do: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at."""

    settings: Settings
    clock: Clock


Check = Callable[[Patient], Awaitable[Sequence[Finding]]]


def fine(check: str, told: str) -> Finding:
    """Nothing is wrong."""
    return Finding(check, Verdict.OK, told)


def warning(check: str, told: str, *, what_to_do: str) -> Finding:
    """It works, and should be looked at."""
    return Finding(check, Verdict.WARN, told, what_to_do)


def failure(check: str, told: str, *, what_to_do: str) -> Finding:
    """It does not work."""
    return Finding(check, Verdict.FAIL, told, what_to_do)


async def examine(patient: Patient, checks: Sequence[Check]) -> Sequence[Finding]:
    """What all checks find, in their order; secrets of the settings are hidden wherever they turn up."""
    hide = Redaction(secrets_of(patient.settings)).text
    found = await asyncio.gather(*(_checked(check, patient) for check in checks))
    return [
        Finding(each.check, each.verdict, hide(each.told), hide(each.what_to_do)) for group in found for each in group
    ]


async def _checked(check: Check, patient: Patient) -> Sequence[Finding]:
    name = check.__name__
    try:
        async with asyncio.timeout(CHECK_MAX_S):
            return await check(patient)
    except TimeoutError:
        return [failure(name, f"no answer within {CHECK_MAX_S:.0f} s", what_to_do="see whether it hangs")]
    except Exception as error:  # noqa: BLE001 - what a check did not foresee is a finding, too
        return [failure(name, f"could not be looked at: {type(error).__name__}", what_to_do="report this as a bug")]


async def doctor(
    read: Callable[[], Settings], *, checks: Sequence[Check], clock: Clock, as_json: bool, say: Callable[[str], None]
) -> bool:
    """Says what it finds; False when something fails."""
    # Else libraries that nobody listens to write of the same trouble to standard error.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        settings = read()
    except SettingsWrong as error:
        found: Sequence[Finding] = [
            failure("configuration", str(error), what_to_do="correct these STEELYARD_* variables")
        ]
    else:
        found = await examine(Patient(settings, clock), checks)
    if as_json:
        say(json.dumps({"worst": worst(found), "findings": [asdict(each) for each in found]}, indent=2))
    else:
        for line in lines(found, has_colour=sys.stdout.isatty()):
            say(line)
    return worst(found) is not Verdict.FAIL


def worst(found: Sequence[Finding]) -> Verdict:
    """The gravest verdict."""
    order = list(Verdict)
    return max((each.verdict for each in found), key=order.index, default=Verdict.OK)


def lines(found: Sequence[Finding], *, has_colour: bool) -> Sequence[str]:
    """One line for each finding, what to do at its end."""
    width = max((len(each.check) for each in found), default=0)
    colours = {Verdict.OK: "\x1b[32m", Verdict.WARN: "\x1b[33m", Verdict.FAIL: "\x1b[31m"} if has_colour else {}

    def line(each: Finding) -> str:
        verdict = f"{each.verdict:<4}"
        if each.verdict in colours:
            verdict = f"{colours[each.verdict]}{verdict}\x1b[0m"
        advice = f" -> {each.what_to_do}" if each.what_to_do else ""
        return " ".join(f"{verdict} {each.check:<{width}}  {each.told}{advice}".splitlines())

    return [line(each) for each in found]


def plain(error: BaseException) -> str:
    """What an error of a driver says, on one line."""
    said: Any = str(error).strip() or type(error).__name__
    return str(said).splitlines()[0]
