"""One handler that does as its event says, for the suite that all targets pass. A module of its own: it is uploaded."""

import os
import sys
import time

time.sleep(float(os.environ.get("SLOW_START", "0")))


def handler(event, context):
    match event["do"]:
        case "partial":
            return {"batchItemFailures": [{"itemIdentifier": "2"}]}
        case "fail":
            sys.stderr.write("about to fail\n")
            raise ValueError("it is broken")
        case "hang":
            time.sleep(600)
        case "crash":
            os._exit(3)
        case "garbage":
            return {1, 2}  # a set, which JSON does not know
        case "count":
            return len(event["value"])
        case "large":
            return ["x" * event["size"]]  # a list: not every double writes a bare text as JSON
        case "slow":
            time.sleep(0.05)
        case _:
            pass
    return event.get("value")
