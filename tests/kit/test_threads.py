"""Threads: a few are at work, and others come to help those that wait."""

import asyncio
import threading
import time

import pytest

from kit.threads import Threads


def test_others_come_to_help_while_those_at_work_wait() -> None:
    threads, meeting = Threads(3, "test", few=1), threading.Barrier(3)

    async def run() -> list[int]:
        jobs = [asyncio.create_task(threads.run(lambda: meeting.wait(20))) for _ in range(3)]
        return [await job for job in jobs]

    assert sorted(asyncio.run(run())) == [0, 1, 2]  # all three have met, each in a thread


def test_there_are_never_more_than_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Threads, "WINDOW", 0.001)
    threads, names, leave = Threads(2, "test", few=1), set[str](), threading.Event()

    def job() -> None:
        names.add(threading.current_thread().name)
        leave.wait(20)

    async def run() -> None:
        jobs = [asyncio.create_task(threads.run(job)) for _ in range(5)]
        while threads.started < 2:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        assert threads.started == 2
        leave.set()
        await asyncio.gather(*jobs)

    asyncio.run(run())
    assert names == {"test 1", "test 2"}


def test_who_came_to_help_leaves_again(monkeypatch: pytest.MonkeyPatch) -> None:
    given_back = list[str]()
    threads = Threads(2, "test", lambda: given_back.append(threading.current_thread().name), few=1)
    meeting = threading.Barrier(2)

    async def run() -> None:
        jobs = [asyncio.create_task(threads.run(lambda: meeting.wait(20))) for _ in range(2)]
        await asyncio.gather(*jobs)
        until = time.monotonic() + 20
        while threads.started > 1 and time.monotonic() < until:
            await asyncio.sleep(0.001)

    asyncio.run(run())
    assert threads.started == 1
    assert "test 2" in given_back
