"""Three Lambda handlers, as anybody would write them. They print what they were given; the demo counts the lines."""

import base64
import json
from typing import Any


def orders(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Take records of a Kinesis stream."""
    for record in event["Records"]:
        order = json.loads(base64.b64decode(record["kinesis"]["data"]))
        print(f"delivered {order['id']}")
    return {"taken": len(event["Records"]), "request": context.aws_request_id}


def table(event: dict[str, Any], context: Any) -> None:
    """Take the changes of a DynamoDB table."""
    for record in event["Records"]:
        print(f"delivered {record['dynamodb']['NewImage']['id']['S']}")


def mail(event: dict[str, Any], context: Any) -> None:
    """Take messages of an SQS queue."""
    for record in event["Records"]:
        print(f"delivered {json.loads(record['body'])['id']}")
