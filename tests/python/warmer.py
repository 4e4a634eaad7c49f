"""A rule in Python: doubles each value, and raises an alert while it is above a limit then.

componentize-py makes a component of it, which imports WASI because Python's runtime does; the host runs it where the rule's file
says `wasi = true`. What it tries in `configure` shows that there is nothing behind that: no files, no environment and no network.
"""

import json
import os
import socket
import time

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import processor
from wit_world.imports import telemetry

LIMIT = None
HOT = set()


class Lifecycle(exports.Lifecycle):
    def describe(self) -> str:
        return json.dumps(
            {
                "name": "warmer",
                "version": "1.0.0",
                "summary": "Doubles values in Python",
                "default-topics": ["dev/#"],
                "scope": "none",
                "config-schema": {
                    "type": "object",
                    "properties": {"limit": {"type": "number"}},
                    "required": ["limit"],
                    "additionalProperties": False,
                },
            }
        )

    def configure(self, config: str) -> None:
        global LIMIT
        LIMIT = json.loads(config)["limit"]
        if LIMIT < 0:
            raise Err(f"limit is {LIMIT}; it must be 0 or more")
        if os.environ:
            raise Err(f"there is an environment: {list(os.environ)}")
        try:
            raise Err(f"there are files: {os.listdir('/')}")
        except OSError:
            pass
        try:
            with socket.socket() as way_out:
                way_out.bind(("127.0.0.1", 0))
            raise Err("there is a network")
        except OSError:
            pass
        if time.time() < 1_700_000_000:
            raise Err("the clock does not go")


class Processor(exports.Processor):
    def process(self, now_us: int, batch: telemetry.Points) -> processor.Outcome:
        alerts = telemetry.Alerts([], [], [], [], [], [], [], b"", [""])
        values = [value * 2 for value in batch.value]
        for series, at, value in zip(batch.series, batch.time_us, values):
            hot = value > LIMIT
            if hot == (series in HOT):
                continue
            HOT.symmetric_difference_update([series])
            alerts.series.append(series)
            alerts.time_us.append(at)
            alerts.transition.append(telemetry.Transition.RAISED if hot else telemetry.Transition.CLEARED)
            alerts.severity.append(telemetry.Severity.WARNING)
            alerts.value.append(value)
            alerts.key.append(0)
            alerts.message_bytes += f"{value} says Python".encode()
            alerts.message_ends.append(len(alerts.message_bytes))
        rejects = telemetry.Rejects([], [], [])
        return processor.Outcome(processor.Passage_Values(values), alerts, rejects, [], [], None)
