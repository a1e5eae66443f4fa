"""SQLite's writers that wait together commit together: `commits.CommonCommits`."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import db
import kit
from kit import commits, engines

Work = Callable[[sa.Connection], Any]


class Writer:
    """A writer on a database of its own, whose commits are counted."""

    def __init__(self, folder: Path) -> None:
        url = f"sqlite+pysqlite:///{folder}/c.db"
        self.engine = engines.new_engine(db.settings, url, writes=True)
        self.commits, self.answered_by_then = 0, list[int]()
        with self.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        sa.event.listen(self.engine, "commit", self.on_commit)
        self.threads = commits.CommonCommits(self.engine)
        self.answers = list[asyncio.Task[Any]]()

    def on_commit(self, _: sa.Connection) -> None:
        self.commits += 1
        self.answered_by_then.append(sum(answer.done() for answer in self.answers))

    def together(self, *works: Work, alone: tuple[int, ...] = ()) -> list[Any]:
        """What comes of these, which are all there before the first one is at its end."""
        all_there = threading.Event()

        def first(connection: sa.Connection) -> Any:
            all_there.wait(10)
            return works[0](connection)

        async def run() -> list[Any]:
            for n, work in enumerate([first, *works[1:]]):
                answer = self.threads.run(work, alone=n in alone)
                self.answers.append(asyncio.create_task(answer))
            await asyncio.sleep(0.05)
            all_there.set()
            return await asyncio.gather(*self.answers, return_exceptions=True)

        self.answers.clear()
        return asyncio.run(run())

    def stored(self) -> list[int]:
        with self.engine.connect() as connection:
            return list(connection.execute(sa.text("SELECT id FROM t ORDER BY id")).scalars())


def insert(id: int) -> Work:
    def work(connection: sa.Connection) -> int:
        with connection.begin_nested():
            connection.exec_driver_sql(f"INSERT INTO t VALUES ({id})")
        return id

    return work


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writer]:
    monkeypatch.setattr(commits.CommonCommits, "LONGEST", 5)
    writer = Writer(tmp_path)
    yield writer
    writer.engine.dispose()


def test_those_who_wait_together_commit_once_and_are_told_after_it(writer: Writer) -> None:
    assert writer.together(*map(insert, range(6))) == list(range(6))
    assert (writer.stored(), writer.commits) == (list(range(6)), 1)
    assert writer.answered_by_then == [0]


def test_one_that_fails_takes_nothing_from_the_others(writer: Writer) -> None:
    first, again, last = writer.together(insert(1), insert(1), insert(2))
    assert (first, last) == (1, 2)
    assert isinstance(again, sa.exc.IntegrityError)
    assert (writer.stored(), writer.commits) == ([1, 2], 1)


def test_when_the_transaction_is_lost_all_are_told_to_try_again(writer: Writer) -> None:
    def lose(connection: sa.Connection) -> None:
        connection.exec_driver_sql("ROLLBACK")

    told = writer.together(insert(1), insert(2), lose, insert(3))
    assert [type(answer) for answer in told[:3]] == [kit.BusyError] * 3
    assert (told[3], writer.stored()) == (3, [3])


def test_nobody_waits_for_the_end_of_what_may_take_long(writer: Writer) -> None:
    assert writer.together(insert(1), insert(2), insert(3), insert(4), alone=(2,)) == [1, 2, 3, 4]
    assert writer.commits == 2
    assert writer.answered_by_then[0] == 0


def test_no_more_join_after_a_while(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits.CommonCommits, "LONGEST", 0)
    assert writer.together(insert(1), insert(2), insert(3)) == [1, 2, 3]
    assert writer.commits == 3


def test_a_commit_that_fails_is_told_to_all_with_its_cause(writer: Writer) -> None:
    def fail(_: sa.Connection) -> None:
        raise sa.exc.OperationalError("COMMIT", {}, OSError("disk I/O error"))

    sa.event.listen(writer.engine, "commit", fail)
    told = writer.together(insert(1), insert(2))
    sa.event.remove(writer.engine, "commit", fail)
    assert [type(answer) for answer in told] == [kit.BusyError] * 2
    assert "disk I/O error" in str(told[0].__cause__)
    assert writer.together(insert(3)) == [3]
    assert writer.stored() == [3]


def test_a_thread_that_cannot_be_started_is_tried_again(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        [told] = writer.together(insert(1))
    assert isinstance(told, RuntimeError)
    assert writer.together(insert(2)) == [2]


def test_an_answer_that_no_future_can_have_is_a_fault(writer: Writer) -> None:
    def stop(_: sa.Connection) -> Any:
        return next(iter([]))

    [told] = writer.together(stop)
    assert isinstance(told, RuntimeError)


def test_who_connects_first_waits_for_another_process_that_is_writing(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "new.db", isolation_level=None) as other:
        other.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        other.execute("BEGIN IMMEDIATE")  # in the journal mode of every new database
        url = f"sqlite+pysqlite:///{tmp_path}/new.db"
        engine = engines.new_engine(db.settings, url, writes=True)
        with ThreadPoolExecutor(1) as thread:
            connecting = thread.submit(engine.connect)
            time.sleep(0.1)
            other.execute("COMMIT")
            with connecting.result() as connection:
                mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
    assert mode == "wal"
    engine.dispose()
    other.close()
