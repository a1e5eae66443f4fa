"""Threads that do one job after the other, first come first served."""

import asyncio
import contextlib
import functools
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Job(NamedTuple):
    """Something to do for somebody who waits for what comes of it."""

    work: Callable[..., Any]
    future: asyncio.Future[Any]
    alone: bool  # whether it may take long, so that nobody's commit should wait for it

    def do(self, *arguments: Any) -> Callable[[], None]:
        """Do it, and return how to tell what came of it."""
        try:
            return functools.partial(self.future.set_result, self.work(*arguments))
        except StopIteration as error:  # which no future can have
            return functools.partial(self.future.set_exception, RuntimeError(repr(error)))
        except BaseException as error:
            return functools.partial(self.future.set_exception, error)

    def tell(self, what: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.future.get_loop().call_soon_threadsafe(self.settle, what)

    def settle(self, what: Callable[[], None]) -> None:
        if not self.future.done():
            what()


class Threads:
    """So many threads, which are started when they are needed.

    concurrent.futures.ThreadPoolExecutor does the same with a lock, a condition and two futures
    for each job, which take a tenth of the time of a request for one row.

    Only a `few` work as long as that keeps the processor busy: Python runs one at a time, and more
    would only take turns. More come to help while jobs wait and all there are wait for a server.
    """

    PATIENCE = 1  # seconds without a job, until a thread gives back what it keeps
    WINDOW = 0.01  # seconds, after which it is looked whether one more is needed
    BUSY = 0.9  # of that time

    def __init__(
        self, most: int, name: str, give_back: Callable[[], Any] = bool, *, few: int | None = None
    ) -> None:
        self.most, self.few, self.name, self.give_back = most, few or most, name, give_back
        self.jobs = queue.SimpleQueue[Job]()
        self.started, self.done, self.is_watched = 0, 0, False

    async def run(self, work: Callable[..., Any], *, alone: bool = False) -> Any:
        """What comes of the work; it is done to its end also when its caller is cancelled."""
        loop = asyncio.get_running_loop()
        if self.started < self.few:
            self.start(self.work)
        future = loop.create_future()
        self.jobs.put(Job(work, future, alone))
        if self.few < self.most and not self.is_watched:
            self.watch(loop)
        try:
            return await future
        finally:
            self.done += 1

    def start(self, work: Callable[..., None], *arguments: Any) -> None:
        name = f"{self.name} {self.started + 1}"
        threading.Thread(target=work, args=arguments, name=name, daemon=True).start()
        self.started += 1

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_watched = True
        loop.call_later(
            self.WINDOW, self.look, loop, self.done, time.monotonic(), time.process_time()
        )

    def look(self, loop: asyncio.AbstractEventLoop, done: int, begun: float, worked: float) -> None:
        """Let one more come to help if jobs wait, and nothing got done or there was time left."""
        self.is_watched = False
        if self.jobs.empty() or self.started >= self.most:
            return
        busy = (time.process_time() - worked) / (time.monotonic() - begun)
        if self.done == done or busy < self.BUSY:
            self.start(self.help, loop)
        self.watch(loop)

    def work(self) -> None:
        while True:
            try:
                job = self.jobs.get(timeout=self.PATIENCE)
            except queue.Empty:
                self.give_back()
                job = self.jobs.get()
            job.tell(job.do())
            del job

    def help(self, loop: asyncio.AbstractEventLoop) -> None:
        """Work for a while: who is needed then comes again."""
        until = time.monotonic() + self.PATIENCE
        with contextlib.suppress(queue.Empty):
            while time.monotonic() < until:
                job = self.jobs.get_nowait()
                job.tell(job.do())
                del job
        self.give_back()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self.leave)

    def leave(self) -> None:
        self.started -= 1
