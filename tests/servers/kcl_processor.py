"""A record processor of the Kinesis Client Library that writes what it got to a file: `python kcl_processor.py FILE`.

It speaks the MultiLang protocol on standard input and output, one JSON message a line, and checkpoints after each call.
One runs for each shard. A line of FILE is a record: shard, sequence number, text. Before a text that says "unfinished"
it checkpoints and does nothing any more, as one that crashes there.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any


def main(file: Path) -> None:
    shard, crashed = "", False
    for line in sys.stdin:
        message = json.loads(line)
        match message["action"]:
            case "initialize":
                shard = message["shardId"]
            case "processRecords" if not crashed:
                crashed = process(shard, message["records"], file)
            case "shardEnded" | "shutdownRequested" if not crashed:
                checkpoint()
        say({"action": "status", "responseFor": message["action"]})


def process(shard: str, records: list[dict[str, Any]], file: Path) -> bool:
    """Write the records down and checkpoint. Answers whether it crashed."""
    last: dict[str, Any] = {}
    with file.open("a") as out:
        for record in records:
            text = base64.b64decode(record["data"]).decode()
            if text.startswith("unfinished"):
                if last:
                    checkpoint(last["sequenceNumber"], last["subSequenceNumber"])
                return True
            out.write(json.dumps([shard, record["sequenceNumber"], text]) + "\n")
            last = record
    checkpoint()
    return False


def checkpoint(sequence: str | None = None, sub: int | None = None) -> None:
    """Everything up to here is done; without a place: everything handed to this processor so far."""
    say({"action": "checkpoint", "sequenceNumber": sequence, "subSequenceNumber": sub})
    answer = json.loads(sys.stdin.readline())
    if answer.get("error"):
        raise SystemExit(f"the checkpoint was refused: {answer['error']}")


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
