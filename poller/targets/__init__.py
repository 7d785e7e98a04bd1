"""What is invoked."""

from typing import TypeAlias

from poller.targets.aws_lambda import LambdaFunction
from poller.targets.http import HttpFunction
from poller.targets.local import LocalFunction

TargetSettings: TypeAlias = HttpFunction | LambdaFunction | LocalFunction
