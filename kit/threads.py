"""Threads that do one job after the other, first come first served."""

import asyncio
import contextlib
import functools
import queue
import threading
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
    """

    def __init__(self, most: int, name: str) -> None:
        self.most, self.name, self.started = most, name, 0
        self.jobs = queue.SimpleQueue[Job]()

    async def run(self, work: Callable[..., Any], *, alone: bool = False) -> Any:
        """What comes of the work; it is done to its end also when its caller is cancelled."""
        if self.started < self.most:
            name = f"{self.name} {self.started + 1}"
            threading.Thread(target=self.work, name=name, daemon=True).start()
            self.started += 1
        future = asyncio.get_running_loop().create_future()
        self.jobs.put(Job(work, future, alone))
        return await future

    def work(self) -> None:
        while True:
            job = self.jobs.get()
            job.tell(job.do())
            del job
