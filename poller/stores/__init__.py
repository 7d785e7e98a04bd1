"""Who remembers."""

from typing import TypeAlias

from poller.stores.dynamodb import DynamoStore
from poller.stores.memory import MemoryStore
from poller.stores.postgres import PostgresStore
from poller.stores.sqlite import SqliteStore

StoreSettings: TypeAlias = MemoryStore | SqliteStore | DynamoStore | PostgresStore
