"""A small mapping whose entries are forgotten after some seconds."""

from collections import OrderedDict
from threading import Lock
from time import monotonic
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class ExpiringMap(Generic[K, V]):
    """At most `size` entries, each for `seconds`; the oldest make room. Safe to share by threads.

    It spares the database the same question from the same process; what must take effect at
    once in this process calls `forget`.
    """

    def __init__(self, *, seconds: float, size: int) -> None:
        self.seconds = seconds
        self.size = size
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None or entry[0] < monotonic():
            return None
        return entry[1]

    def put(self, key: K, value: V, *, seconds: float | None = None) -> None:
        lifetime = self.seconds if seconds is None else seconds
        with self._lock:
            self._entries.pop(key, None)
            self._entries[key] = (monotonic() + lifetime, value)
            while len(self._entries) > self.size:
                self._entries.popitem(last=False)

    def forget(self, key: K) -> None:
        with self._lock:
            self._entries.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
