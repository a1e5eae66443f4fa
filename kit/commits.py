"""SQLite's one writer: those who wait together commit together."""

import functools
import time
from collections.abc import Callable
from typing import Any, cast

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from kit.driver_errors import explain
from kit.problems import BusyError
from kit.threads import Job, Threads

SILENT = "The database did not answer in time. Please try again."


class CommonCommits(Threads):
    """The thread of SQLite's one writer.

    A commit waits until the disk has it, which takes longer than most of what is written. So
    each has a savepoint in a transaction of all, and is told what came of it after the commit.
    """

    LONGEST = 0.02  # seconds for which others may join, while the first one waits

    def __init__(self, engine: Engine) -> None:
        super().__init__(1, "writer")
        self.engine = engine

    def work(self) -> None:
        next_job: Job | None = None
        while True:
            next_job = self.work_together(next_job or self.jobs.get())

    def work_together(self, job: Job) -> Job | None:
        """Do the job and those that wait; return one that was taken and not done."""
        together, outcomes, next_job = [job], list[Callable[[], None]](), None
        try:
            with self.engine.begin() as connection:
                until = time.monotonic() + self.LONGEST
                while True:
                    outcomes.append(together[-1].do(connection))
                    # SQLite undoes all of a transaction when a statement in it is interrupted,
                    # or the disk is full: see "ROLLBACK" in its documentation.
                    if not cast(Any, connection.connection.dbapi_connection).in_transaction:
                        raise BusyError(SILENT)
                    if time.monotonic() > until or self.jobs.empty():
                        break
                    next_job = self.jobs.get()
                    if next_job.alone:
                        break
                    together.append(next_job)
                    next_job = None
        except Exception as error:
            told = explain(error) if isinstance(error, SQLAlchemyError) else None
            if told:
                told.__cause__ = error
            failure = told or error
            outcomes = [functools.partial(job.future.set_exception, failure) for job in together]
        for job, outcome in zip(together, outcomes, strict=True):
            job.tell(outcome)
        return next_job
