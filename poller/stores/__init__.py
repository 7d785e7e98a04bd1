"""Who remembers."""

from typing import TypeAlias

from poller.stores.memory import MemoryStore
from poller.stores.sqlite import SqliteStore

StoreSettings: TypeAlias = MemoryStore | SqliteStore
