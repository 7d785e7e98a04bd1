"""One handler that does as its event says, for the suite that all targets pass. A module of its own: it is uploaded."""

import os
import sys
import time

time.sleep(float(os.environ.get("SLOW_START", "0")))


def handler(event, context):
    return {
        "echo": lambda: event.get("value"),
        "partial": lambda: {"batchItemFailures": [{"itemIdentifier": "2"}]},
        "fail": fail,
        "hang": lambda: time.sleep(600),
        "crash": lambda: os._exit(3),
        "garbage": lambda: {1, 2},  # a set, which JSON does not know
        "count": lambda: len(event["value"]),
        "large": lambda: ["x" * event["size"]],  # a list: not every double writes a bare text as JSON
        "slow": lambda: time.sleep(0.05) or event.get("value"),
    }[event["do"]]()


def fail():
    sys.stderr.write("about to fail\n")
    raise ValueError("it is broken")
