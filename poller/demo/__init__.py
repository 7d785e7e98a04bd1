"""`poller demo`: a local server, traffic of all three sources, the real daemon, and a live table. No AWS account."""

from poller.demo.show import show

__all__ = ["show"]
