"""A record processor of the Kinesis Client Library that writes what it got to a file: `python kcl_processor.py FILE`.

It speaks the MultiLang protocol on standard input and output, one JSON message a line, and checkpoints after each call.
One runs for each shard. A line of FILE is a record: shard, sequence number, text.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any


def main(file: Path) -> None:
    shard = ""
    for line in sys.stdin:
        message = json.loads(line)
        match message["action"]:
            case "initialize":
                shard = message["shardId"]
            case "processRecords":
                with file.open("a") as out:
                    for record in message["records"]:
                        text = base64.b64decode(record["data"]).decode()
                        out.write(json.dumps([shard, record["sequenceNumber"], text]) + "\n")
                checkpoint()
            case "shardEnded" | "shutdownRequested":
                checkpoint()
        say({"action": "status", "responseFor": message["action"]})


def checkpoint() -> None:
    """Everything handed to this shard's processor so far is done."""
    say({"action": "checkpoint", "sequenceNumber": None, "subSequenceNumber": None})
    answer = json.loads(sys.stdin.readline())
    if answer.get("error"):
        raise SystemExit(f"the checkpoint was refused: {answer['error']}")


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
