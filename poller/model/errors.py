"""Our failures, each leaf saying what the process does next. The *function's* failures are values (`outcome`).

PollerError
├── SettingsError      the operator must edit the file; exit 2
├── Transient          again after a pause; nothing is lost
│   ├── Throttled      the same, and the pause is at least `after`
│   └── IteratorExpired  at once, with a new iterator from the last position
├── Denied             this mapping reports PROBLEM and tries slowly; the others go on
│   └── NotFound       the same: the stream, queue or function is not there (yet)
├── ShardGone          the shard has left the stream: its children, if any, take over
├── Trimmed            the position is no longer in the stream: data was lost; go on at the oldest record
├── NameTaken          a younger process has this replica's name: this one stops
└── Superseded         another owner holds the shard: stop now, write nothing
"""


class PollerError(Exception):
    """Something failed that is ours to handle."""

    def __str__(self) -> str:
        return super().__str__() or (type(self).__doc__ or type(self).__name__).splitlines()[0]


class SettingsError(PollerError):
    """The configuration cannot be used as it is; the message holds one line for each mistake."""


class Transient(PollerError):
    """A call failed in a way that passes by itself."""


class Throttled(Transient):
    """The service asked for a pause."""

    def __init__(self, message: str = "", *, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after
        """Seconds the service asked us to wait, 0.0 when it did not say."""


class IteratorExpired(Transient):
    """The shard iterator is too old."""


class Denied(PollerError):
    """The call is refused until somebody changes something outside this process."""


class NotFound(Denied):
    """What the configuration names does not exist."""


class ShardGone(PollerError):
    """The shard is not in the stream any more."""


class Trimmed(PollerError):
    """The position lies before the oldest record that the stream still holds."""


class NameTaken(PollerError):
    """Another replica runs under the same name."""


class Superseded(PollerError):
    """Another owner has written this row since we read it."""


def causes(error: BaseException) -> list[BaseException]:
    """What went wrong: the error itself, or the single errors of a task group's group of groups."""
    if isinstance(error, BaseExceptionGroup):
        return [cause for each in error.exceptions for cause in causes(each)]
    return [error]


def told(error: BaseException) -> str:
    """Each cause once, on one line for people."""
    return "; ".join(dict.fromkeys(str(cause) or type(cause).__name__ for cause in causes(error)))
