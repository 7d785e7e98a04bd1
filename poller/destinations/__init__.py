"""Where the account of given-up records goes."""

from typing import TypeAlias

from poller.destinations.s3 import S3Destination
from poller.destinations.sns import SnsDestination
from poller.destinations.sqs import SqsDestination

DestinationSettings: TypeAlias = SqsDestination | SnsDestination | S3Destination
