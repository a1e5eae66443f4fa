"""Measure the service beside what one would write otherwise, in one run: `make bench`.

Each contender is one process on one core, and wrk makes the requests from another. Rounds are
interleaved, so that what else the machine does is shared by all; the figures are medians.
"""

import contextlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import httpx2
import sqlalchemy as sa
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
OPERATIONS = {
    "get": "GET one",
    "list": "list of 20",
    "create": "create",
    "patch": "patch",
    "order": "3-line order",
}
CLIENTS = 16, 64, 256
CONTENDERS = {  # where each one is found
    "service": (ROOT, "main:app"),
    "tutorial": (HERE, "tutorial:app"),
    "ceiling": (HERE, "ceiling:app"),
    "no database": (HERE, "no_database:app"),
}
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
POSTGRESQL = "postgresql://postgres@127.0.0.1:5432/"
console = Console()


class Result(NamedTuple):
    database: str
    operation: str
    clients: int
    contender: str
    requests_per_second: float
    p99: float  # milliseconds
    failed: int  # answers that are no success, time-outs, lost connections


class Server:
    """A contender on a database of its own, with 1,000 rows."""

    def __init__(self, contender: str, url: str, workers: int = 0) -> None:
        self.contender, self.url, self.workers = contender, url, workers
        self.process: subprocess.Popen[bytes] | None = None
        self.start()
        self.starts_with = self.took, self.megabytes()
        if contender != "no database" and not workers:
            self.fill()

    def start(self) -> None:
        """Start it, and wait until it answers; `took` says how long that was, in seconds."""
        self.stop()
        folder, app = CONTENDERS[self.contender]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        arguments = ["--app-dir", str(folder), "--port", str(port), "--no-access-log"]
        pinned = on_core(0)
        if self.workers:
            arguments, pinned = [*arguments, "--workers", str(self.workers)], []
        started = time.monotonic()
        self.process = subprocess.Popen(
            [*pinned, sys.executable, "-m", "uvicorn", app, *arguments],
            env={**without_settings(), "DATABASE_URL": self.url},
            cwd=tempfile.gettempdir(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while not self.answers():
            if time.monotonic() > started + 30 or self.process.poll() is not None:
                self.stop()
                sys.exit(f"{self.contender} does not start on {self.url}")
            time.sleep(0.02)
        self.took = time.monotonic() - started

    def megabytes(self) -> float:
        """What it has in memory (its resident set), where the system says that in /proc."""
        assert self.process
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            if found := re.search(r"VmRSS:\s+(\d+) kB", status):
                return int(found[1]) / 1000
        return float("nan")

    def stop(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)  # with its workers
            self.process.wait()
            self.process = None

    def answers(self) -> bool:
        with contextlib.suppress(httpx2.HTTPError):
            return httpx2.get(f"{self.address}/items/1", timeout=2).status_code in (200, 404)
        return False

    def fill(self) -> None:
        with httpx2.Client(base_url=self.address, timeout=60) as client:

            def post(path: str, **fields: Any) -> None:
                client.post(path, json=fields).raise_for_status()

            def both(n: int) -> None:
                post("/items/", title=f"Mug {n}", price=9.99)
                plenty = 1_000_000_000
                post("/products/", name=f"Pan {n}", sku=f"PAN-{n}", price=5, stock_quantity=plenty)

            post("/users/", username="ann", email="ann@example.com", password="Password1")
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(both, range(1000)))

    def measure(self, operation: str, clients: int, seconds: int) -> tuple[float, float, int]:
        """Requests per second, their 99th percentile in milliseconds, and how many failed."""
        if not self.answers():
            self.start()
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--latency", "--timeout", "10s"]
        script = ["-s", str(HERE / "requests.lua"), self.address, "--", operation]
        done = subprocess.run(
            [*on_core(-1), *command, *script], capture_output=True, text=True, check=True
        )
        rate = re.search(r"Requests/sec: +([0-9.]+)", done.stdout)
        slowest = re.search(r" 99% +([0-9.]+)(us|ms|s|m)", done.stdout)
        if not rate or not slowest:
            sys.exit(done.stdout + done.stderr)
        failed = re.findall(r"(?:Non-2xx.*: |connect |read |write |timeout )(\d+)", done.stdout)
        unit = {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[slowest[2]]
        return float(rate[1]), float(slowest[1]) * unit, sum(map(int, failed))


def without_settings() -> dict[str, str]:
    """The environment, without what would make this service another than a plain one."""
    own = "DATABASE_", "DB_", "SECRET_KEY", "DEBUG", "CORS_", "MAX_BODY_SIZE"
    return {key: value for key, value in os.environ.items() if not key.startswith(own)}


def on_core(n: int) -> list[str]:
    """To run a command on one core, where the system has several and `taskset` is there."""
    return ["taskset", "-c", str(CORES[n])] if len(CORES) > 1 and shutil.which("taskset") else []


@contextlib.contextmanager
def databases(folder: Path) -> Iterator[dict[str, dict[str, str]]]:
    """New databases for each contender: files and, where a server can be had, on PostgreSQL."""
    names = [name for name in CONTENDERS if name != "no database"]
    urls = {"SQLite": {name: f"sqlite:///{folder}/{name}.db" for name in names}}
    server = os.environ.get("BENCH_POSTGRESQL", POSTGRESQL)
    system = sa.make_url(server).set(drivername="postgresql+psycopg", database="postgres")
    engine = sa.create_engine(system, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    own = {name: f"bench_{name}_{os.getpid()}" for name in names}
    try:
        with engine.connect() as connection:
            for database in own.values():
                connection.exec_driver_sql(f"CREATE DATABASE {database}")
    except sa.exc.OperationalError:
        console.print(f"No PostgreSQL at {server}: SQLite alone. BENCH_POSTGRESQL names another.")
        yield urls
        return
    urls["PostgreSQL"] = {name: f"{server.rstrip('/')}/{own[name]}" for name in names}
    try:
        yield urls
    finally:
        with engine.connect() as connection:
            for database in own.values():
                connection.exec_driver_sql(f"DROP DATABASE {database} WITH (FORCE)")


def measure_all(
    seconds: int, rounds: int, operations: list[str]
) -> tuple[list[Result], dict[str, Any]]:
    found, servers, more = [], list[Server](), dict[str, Any]()
    columns = "{task.description:>24}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with (
        tempfile.TemporaryDirectory() as folder,
        databases(Path(folder)) as urls,
        Progress(*(TextColumn(c) if isinstance(c, str) else c for c in columns)) as progress,
    ):
        total = sum(len(on) for on in urls.values()) * len(operations) * len(CLIENTS) * rounds
        task = progress.add_task("filling", total=total + len(CLIENTS) * rounds)
        try:
            by_database = dict[str, dict[str, Server]]()
            for database, on in urls.items():
                by_database[database] = {}
                for contender, url in on.items():
                    servers.append(Server(contender, url))
                    by_database[database][contender] = servers[-1]
            servers.append(Server("no database", ""))
            took, megabytes = by_database["SQLite"]["service"].starts_with
            more |= {"seconds_to_first_answer": took, "megabytes": megabytes}
            cells = [
                (database, operation, clients, by_database[database])
                for database in urls
                for operation in operations
                for clients in CLIENTS
            ]
            cells += [("", "get", clients, {"no database": servers[-1]}) for clients in CLIENTS]
            for _ in range(rounds):
                for database, operation, clients, contenders in cells:
                    for contender, server in contenders.items():
                        about = f"{database} {operation} {clients} clients"
                        progress.update(task, description=about)
                        result = server.measure(operation, clients, seconds)
                        found.append(Result(database, operation, clients, contender, *result))
                        progress.advance(task)
            if "PostgreSQL" in urls:
                progress.update(task, description="1 and 2 workers")
                for server in servers:
                    server.stop()
                more["workers"] = measure_workers(urls["PostgreSQL"]["service"], seconds, rounds)
        finally:
            for server in servers:
                server.stop()
    return found, more


def measure_workers(url: str, seconds: int, rounds: int) -> dict[str, dict[int, float]]:
    """Requests per second with one process and with two, which the system puts on any core."""
    rates: dict[str, dict[int, list[float]]] = {"get": {}, "create": {}}
    for workers in [1, 2] * rounds:
        server = Server("service", url, workers)
        try:
            for operation, by_workers in rates.items():
                rate = server.measure(operation, 64, seconds)[0]
                by_workers.setdefault(workers, []).append(rate)
        finally:
            server.stop()
    return {
        operation: {workers: median(found) for workers, found in by_workers.items()}
        for operation, by_workers in rates.items()
    }


def middle(results: list[Result]) -> dict[tuple[str, str, int, str], Result]:
    """Of the rounds of each cell, the medians, and all that failed."""
    cells: dict[tuple[str, str, int, str], list[Result]] = {}
    for result in results:
        cells.setdefault(result[:4], []).append(result)
    return {
        key: Result(
            *key,
            median(r.requests_per_second for r in rounds),
            median(r.p99 for r in rounds),
            sum(r.failed for r in rounds),
        )
        for key, rounds in cells.items()
    }


def tables(found: dict[tuple[str, str, int, str], Result]) -> list[Table]:
    shown = []
    for database in dict.fromkeys(key[0] for key in found if key[0]):
        title = f"{database}: requests per second, and the slowest hundredth in ms"
        table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for name in ("", "clients", "service", "p99", "tutorial", "p99"):
            table.add_column(name, justify="right" if name else "left", no_wrap=True)
        for name in ("ratio", "ceiling", "share"):
            table.add_column(name, justify="right", no_wrap=True)
        for operation in dict.fromkeys(key[1] for key in found if key[0] == database):
            for clients in CLIENTS:
                service, tutorial, ceiling = (
                    found[database, operation, clients, name]
                    for name in ("service", "tutorial", "ceiling")
                )
                table.add_row(
                    OPERATIONS[operation],
                    str(clients),
                    *told(service),
                    *told(tutorial),
                    times(service, tutorial),
                    told(ceiling)[0],
                    f"{service.requests_per_second / ceiling.requests_per_second:.0%}",
                    end_section=clients == CLIENTS[-1],
                )
        shown.append(table)
    return shown


def times(one: Result, other: Result) -> str:
    """How many times as fast; nothing where the other did not answer."""
    rate = other.requests_per_second
    return f"{one.requests_per_second / rate:.1f}" if rate else ""


def told(result: Result) -> tuple[str, str]:
    return f"{result.requests_per_second:,.0f}", f"{result.p99:,.0f}"


def draw(found: dict[tuple[str, str, int, str], Result], file: Path) -> None:
    """One chart: the service and the tutorial stack at 16 clients, and at 64."""
    keys = list(dict.fromkeys(key[:2] for key in found if key[0]))
    series = [(contender, n) for contender in ("tutorial", "service") for n in CLIENTS[:2]]
    colors = "#b8c2cc", "#8795a1", "#63b3ed", "#2b6cb0"
    top, left, thick = 70, 200, 12
    high = thick * len(series) + 14  # of an operation
    most = max([found[*key, n, c].requests_per_second for key in keys for c, n in series] or [1])
    parts = ["<text x='20' y='28' font-size='16'>Requests per second, one process</text>"]
    for row, (database, operation) in enumerate(keys):
        y = top + row * high
        label = f"{OPERATIONS[operation]}, {database}"
        parts.append(f"<text x='{left - 10}' y='{y + 28}' text-anchor='end'>{label}</text>")
        for (contender, clients), color in zip(series, colors, strict=True):
            rate = found[database, operation, clients, contender].requests_per_second
            end = left + rate / most * 800
            bar = f"x='{left}' y='{y}' width='{end - left:.1f}' height='{thick - 1}'"
            parts.append(f"<rect {bar} fill='{color}'/>")
            parts.append(f"<text x='{end + 5:.1f}' y='{y + 10}' font-size='11'>{rate:,.0f}</text>")
            y += thick
    for n, ((contender, clients), color) in enumerate(zip(series, colors, strict=True)):
        x = left + n * 170
        parts.append(f"<rect x='{x}' y='42' width='12' height='12' fill='{color}'/>")
        parts.append(f"<text x='{x + 18}' y='53'>{contender}, {clients} clients</text>")
    size = f"viewBox='0 0 1100 {top + len(keys) * high}' font-family='sans-serif' font-size='13'"
    head = f"<svg xmlns='http://www.w3.org/2000/svg' {size}>"
    background = "<rect width='100%' height='100%' fill='white'/>"
    file.write_text("\n".join([head, background, *parts, "</svg>"]) + "\n")


EVERY = ",".join(OPERATIONS)


def main(
    seconds: Annotated[int, typer.Option(help="How long each measurement takes.")] = 2,
    rounds: Annotated[int, typer.Option(help="How many there are of each.")] = 3,
    only: Annotated[str, typer.Option(help="Operations, such as get,order.")] = EVERY,
    output: Annotated[Path, typer.Option(help="Where figures and plot go.")] = Path(".bench"),
) -> None:
    """Measure the service, the usual tutorial stack and a hand-written application."""
    if not shutil.which("wrk"):
        sys.exit("The requests are made by wrk, which is missing: apt-get install wrk")
    about: dict[str, Any] = {
        "started": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "seconds": seconds,
        "rounds": rounds,
    }
    results, more = measure_all(seconds, rounds, only.split(","))
    found = middle(results)
    output.mkdir(exist_ok=True)
    figures = {"about": about, **more, "results": [result._asdict() for result in results]}
    (output / "results.json").write_text(json.dumps(figures, indent=1))
    draw(found, output / "requests.svg")
    for table in tables(found):
        console.print(table)
    for result in found.values():
        if result.failed:
            what = f"{result.database} {OPERATIONS[result.operation]}, {result.clients} clients"
            console.print(f"{result.contender}, {what}: {result.failed} requests failed")
    for clients in CLIENTS:
        rate, p99 = told(found["", "get", clients, "no database"])
        console.print(f"FastAPI without a database, {clients} clients: {rate} (p99 {p99} ms)")
    for operation, rates in more.get("workers", {}).items():
        console.print(
            f"{OPERATIONS[operation]}, 64 clients, PostgreSQL: {rates[1]:,.0f} with one"
            f" process, {rates[2]:,.0f} with two, on any cores"
        )
    console.print(
        f"Start to first answer: {more['seconds_to_first_answer']:.1f} s; in memory then:"
        f" {more['megabytes']:.0f} MB"
    )
    console.print(f"{output}/results.json has all rounds, {output}/requests.svg a plot.")


if __name__ == "__main__":
    typer.run(main)
