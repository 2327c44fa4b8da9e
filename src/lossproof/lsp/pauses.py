"""Work after a pause: one job at a time, in a thread of its own, and only the newest counts."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

# Deeply nested code is read by recursion.
STACK = 64 << 20


class Pauses:
    """``begin`` collects what is to be done, and gives the job; the job is told how to find out that it is too late."""

    def __init__(self, begin: Callable[[], Callable[[Callable[[], bool]], Callable[[], None]]]) -> None:
        self._begin = begin
        previous = threading.stack_size(STACK)
        self._thread = ThreadPoolExecutor(1, "lossproof-check")
        self._thread.submit(int).result()  # the thread is made with this stack
        threading.stack_size(previous)
        self._timer: asyncio.TimerHandle | None = None
        self._wanted = 0
        self._done = 0
        self._running = False
        self._closed = False
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def request(self, seconds: float) -> None:
        """Begin after so many seconds in which nothing else was requested."""
        self._wanted += 1
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._start)

    def watch(self) -> Callable[[], bool]:
        """Whether something else has been requested since."""
        number = self._wanted
        return lambda: self._wanted != number

    async def settled(self, seconds: float) -> bool:
        """Wait until all that was requested is done, for so many seconds at most. What is due later begins now."""
        if self._timer is not None:
            self._timer.cancel()
            self._start()
        if self._done == self._wanted:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._wanted, future))
        try:
            await asyncio.wait_for(future, seconds)
        except (asyncio.TimeoutError, TimeoutError):
            return False
        return self._done == self._wanted

    async def run(self, work: Callable[[], Any]) -> Any:
        """Something else for the same thread: what it works on is not made for two."""
        return await asyncio.wrap_future(self._thread.submit(work))

    def later(self, work: Callable[[], None]) -> None:
        """Something that nobody waits for."""
        if not self._closed:
            self._thread.submit(work)

    @property
    def closed(self) -> bool:
        return self._closed

    async def finish(self, seconds: float) -> None:
        """Begin nothing more, and let what is under way come to its end."""
        self._closed = True
        self._wanted += 1  # what runs now is too late
        if self._timer is not None:
            self._timer.cancel()
        with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
            await asyncio.wait_for(self.run(int), seconds)
        self.close()

    def close(self) -> None:
        self._closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        self._timer = None
        if self._running or self._closed:
            return  # it begins when the other one ends
        self._running = True
        number = self._wanted
        try:
            job = self._begin()
        except BaseException:
            self._running = False
            raise
        loop = asyncio.get_running_loop()
        future = self._thread.submit(job, lambda: self._wanted != number)
        future.add_done_callback(lambda done: loop.call_soon_threadsafe(self._ended, number, done))

    def _ended(self, number: int, future: Future[Callable[[], None]]) -> None:
        self._running = False
        if self._closed:
            return
        self._done = number
        try:
            future.result()()
        finally:
            if self._wanted != number and self._timer is None:
                self._start()
            still: list[tuple[int, asyncio.Future[None]]] = []
            for wanted, waiting in self._waiting:
                if wanted > self._done:
                    still.append((wanted, waiting))
                elif not waiting.done():
                    waiting.set_result(None)
            self._waiting = still
