"""Items made in a thread before they are asked for."""
from __future__ import annotations

import atexit
import threading
import weakref
from queue import SimpleQueue
from typing import Any, Callable, Generic, TypeVar, Union

T = TypeVar("T")


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


class Ahead(Generic[T]):
    """Calls make() in a thread of its own, until `depth` items wait. What it raises comes out of get() at its place, and ends it.
    interrupt(1) is to make a call that waits return, interrupt(0) to allow waiting again."""

    def __init__(self, make: Callable[[], T], depth: int, interrupt: Callable[[int], object]) -> None:
        self._make, self._interrupt = make, interrupt
        self._items: SimpleQueue[Union[T, _Failure]] = SimpleQueue()
        self._room = threading.Semaphore(depth)
        self._stop = False
        self.given = 0
        self._thread = threading.Thread(target=self._run, name="dpipe-ahead", daemon=True)
        _running.add(self)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._room.acquire()
            if self._stop:
                return
            try:
                item: Union[T, _Failure] = self._make()
            except BaseException as e:
                item = _Failure(e)
            self._items.put(item)
            if isinstance(item, _Failure):
                return

    def get(self) -> T:
        """The next item; waits for it."""
        item = self._items.get()
        if isinstance(item, _Failure):
            self._items.put(item)  # again and again
            raise item.error
        self._room.release()
        self.given += 1
        return item

    def stop(self) -> None:
        """End the thread; what was made and not asked for is dropped."""
        self._stop = True
        self._room.release()
        self._interrupt(1)
        self._thread.join()
        self._interrupt(0)
        _running.discard(self)


# A thread that is still in a framework's C++ when the interpreter ends takes the process down with it.
_running: "weakref.WeakSet[Ahead[Any]]" = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    for a in list(_running):
        a.stop()
