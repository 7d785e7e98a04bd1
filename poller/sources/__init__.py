"""Where records come from."""

from typing import TypeAlias

from poller.sources.dynamodb import DynamoDBStream
from poller.sources.kinesis import KinesisStream
from poller.sources.sqs import SqsQueue

SourceSettings: TypeAlias = KinesisStream | DynamoDBStream | SqsQueue
