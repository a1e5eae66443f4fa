"""Measure the service beside what one would write otherwise, in one run: `make bench`.

Each contender is one process on one core, and wrk makes the requests from another. Rounds are
interleaved, so that what else the machine does is shared by all; the figures are medians. One
that does not start is left out, and the run goes on without it.
"""

import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from contenders import CONTENDERS, DoesNotStartError, Server, databases
from results import CLIENTS, OPERATIONS, Found, Result, charts, first, middle, rate, slowest, tables
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(width=None if sys.stdout.isatty() else 100)


class Run:
    """The servers of one run, what they were measured at, and what went wrong."""

    def __init__(self, seconds: int, rounds: int, operations: list[str]) -> None:
        self.seconds, self.rounds, self.operations = seconds, rounds, operations
        self.servers: dict[str, dict[str, Server]] = {}  # by database and contender
        self.results: list[Result] = []
        self.notes: list[str] = []
        self.more: dict[str, Any] = {}

    def prepare(self, urls: dict[str, dict[str, str]]) -> None:
        """Start all and fill their databases; of the service, note how it starts on a new one."""
        for database, on in urls.items():
            self.servers[database] = {}
            for contender, url in on.items():
                server = Server(contender, database, url)
                self.servers[database][contender] = server
                try:
                    server.start()
                    if (database, contender) == ("SQLite", "service"):
                        self.more["seconds_to_first_answer"] = server.took
                        self.more["megabytes"] = server.megabytes()
                    if database:
                        server.fill()
                except DoesNotStartError as error:
                    self.leave_out(database, contender, error)

    def leave_out(self, database: str, contender: str, error: DoesNotStartError) -> None:
        self.servers[database].pop(contender).stop()
        self.notes.append(str(error))

    def measure(self, progress: Progress) -> None:
        cells = [
            (database, operation, clients)
            for database in self.servers
            for operation in (self.operations if database else ["get"])
            for clients in CLIENTS
        ]
        task = progress.add_task("", total=len(cells) * self.rounds)
        for cell in cells * self.rounds:
            database, operation, clients = cell
            for contender, server in list(self.servers[database].items()):
                progress.update(task, description=" ".join(map(str, (*cell, contender))))
                try:
                    measured = server.measure(operation, clients, self.seconds)
                    self.results.append(Result(*cell, contender, *measured))
                except DoesNotStartError as error:
                    self.leave_out(database, contender, error)
            progress.advance(task)

    def measure_workers(self, url: str) -> None:
        """The service with one process and with two, which the system puts on any core."""
        rates: dict[str, dict[int, list[float]]] = {"get": {}, "create": {}}
        for workers in [1, 2] * self.rounds:
            server = Server("service", "PostgreSQL", url, workers)
            try:
                server.start()
                for operation, by_workers in rates.items():
                    found = server.measure(operation, 64, self.seconds)[0]
                    by_workers.setdefault(workers, []).append(found)
            finally:
                server.stop()
        self.more["workers"] = {
            operation: {workers: median(found) for workers, found in by_workers.items()}
            for operation, by_workers in rates.items()
        }

    def stop(self) -> None:
        for on in self.servers.values():
            for server in on.values():
                server.stop()


def measure_all(run: Run, contenders: list[str]) -> None:
    columns = "{task.description:>32}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    alone = {"": {"no_database": ""}} if "no_database" in contenders else {}
    with (
        tempfile.TemporaryDirectory() as folder,
        databases(Path(folder), contenders) as urls,
        Progress(*(TextColumn(c) if isinstance(c, str) else c for c in columns)) as progress,
    ):
        try:
            run.prepare(urls | alone)
            run.measure(progress)
            run.stop()
            if "service" in run.servers.get("PostgreSQL", {}):
                run.measure_workers(urls["PostgreSQL"]["service"])
        except DoesNotStartError as error:
            run.notes.append(str(error))
        except KeyboardInterrupt:
            run.notes.append("Interrupted: these are the results until then.")
        finally:
            run.stop()


def tell(found: Found, run: Run) -> None:
    for shown in tables(found):
        console.print(shown)
    console.print(
        "lead: times as many as the best of the others answers; still: no answer at all;"
        " a failed answer does not count"
    )
    firsts = [first(results) for (database, *_), results in found.items() if database]
    for name, contender in CONTENDERS.items():
        if name in firsts:
            console.print(f"{contender.title} is first in {firsts.count(name)} of {len(firsts)}")
    for cell, results in found.items():
        for name, result in results.items():
            if result.failed:
                where = f"{cell[0]} {OPERATIONS[cell[1]]}, {cell[2]} clients"
                console.print(f"{CONTENDERS[name].title}, {where}: {result.failed} requests failed")
            if name == "no_database":
                about = f"{rate(result)} (p99 {slowest(result)} ms)"
                console.print(f"FastAPI without a database, {cell[2]} clients: {about}")
    for operation, rates in run.more.get("workers", {}).items():
        console.print(
            f"{OPERATIONS[operation]}, 64 clients, PostgreSQL: {rates[1]:,.0f} with one"
            f" process, {rates[2]:,.0f} with two, on any cores"
        )
    if "megabytes" in run.more:
        took, megabytes = run.more["seconds_to_first_answer"], run.more["megabytes"]
        console.print(f"Start to first answer: {took:.1f} s; in memory then: {megabytes:.0f} MB")
    for note in run.notes:
        console.print(f"[bold]{note}", highlight=False)


def chosen(names: str, known: Iterable[str]) -> list[str]:
    """The names in a text with commas, in the order of all."""
    asked = {name.strip() for name in names.split(",")}
    if unknown := asked - set(known):
        raise typer.BadParameter(f"{', '.join(unknown)}: there are {', '.join(known)}")
    return [name for name in known if name in asked]


def main(
    seconds: Annotated[int, typer.Option(help="How long each measurement takes.")] = 2,
    rounds: Annotated[int, typer.Option(help="How many there are of each.")] = 3,
    only: Annotated[str, typer.Option(help="Operations, such as get,order.")] = ",".join(
        OPERATIONS
    ),
    contenders: Annotated[str, typer.Option(help="Who is measured.")] = ",".join(CONTENDERS),
    output: Annotated[Path, typer.Option(help="Where figures and charts go.")] = Path(".bench"),
) -> None:
    """Measure the service beside Python's other frameworks and a hand-written application."""
    if not shutil.which("wrk"):
        sys.exit("The requests are made by wrk, which is missing: apt-get install wrk")
    about: dict[str, Any] = {
        "started": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "seconds": seconds,
        "rounds": rounds,
    }
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leaves no server and no database
    run = Run(seconds, rounds, chosen(only, OPERATIONS))
    measure_all(run, chosen(contenders, CONTENDERS))
    output.mkdir(exist_ok=True)
    results = [result._asdict() for result in run.results]
    figures = {"about": about, **run.more, "notes": run.notes, "results": results}
    (output / "results.json").write_text(json.dumps(figures, indent=1))
    found = middle(run.results)
    for name, chart in charts(found).items():
        (output / f"bench-{name}.svg").write_text(chart)
    tell(found, run)
    console.print(f"{output}/results.json has all rounds; the charts are beside it.")


if __name__ == "__main__":
    typer.run(main)
