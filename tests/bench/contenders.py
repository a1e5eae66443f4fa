"""What `make bench` measures: how each contender is started, filled and asked."""

import contextlib
import os
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
from typing import Any, NamedTuple

import httpx2
import sqlalchemy as sa

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
OWN = Path(sys.executable)
PEERS_OWN = ROOT / ".bench" / "venv" / "bin" / "python"  # which `make bench` installs
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
POSTGRESQL = "postgresql://postgres@127.0.0.1:5432/"


class Contender(NamedTuple):
    title: str
    app: str
    folder: Path = HERE
    python: Path = PEERS_OWN
    threads: int = 0  # of gunicorn; with none it is uvicorn that serves

    def command(self, port: int, workers: int) -> list[str]:
        python = [str(self.python), "-m"]
        if self.threads:
            served = ["gunicorn", self.app, "--chdir", str(self.folder), "--no-control-socket"]
            threads = ["--worker-class", "gthread", "--threads", str(self.threads)]
            return [*python, *served, *threads, "--bind", f"127.0.0.1:{port}"]
        served = ["uvicorn", self.app, "--app-dir", str(self.folder), "--no-access-log"]
        several = ["--workers", str(workers)] if workers else []
        return [*python, *served, *several, "--port", str(port)]


CONTENDERS = {
    "service": Contender("service", "main:app", ROOT, OWN),
    "tutorial": Contender("tutorial", "tutorial:app"),
    "flask": Contender("Flask", "flask_peer:app", threads=4),
    "ninja": Contender("Django Ninja", "ninja_peer:app", threads=4),
    "litestar": Contender("Litestar", "litestar_peer:app"),
    "ceiling": Contender("ceiling", "ceiling:app", python=OWN),
    "no_database": Contender("no database", "no_database:app", python=OWN),
}


class DoesNotStartError(Exception):
    """With a sentence that says who, where and why."""


class Server:
    """A contender on a database of its own, with 1,000 rows once it is filled."""

    def __init__(self, contender: str, database: str, url: str, workers: int = 0) -> None:
        self.contender, self.url, self.workers = CONTENDERS[contender], url, workers
        self.where = f"{self.contender.title} on {database}" if database else self.contender.title
        self.process: subprocess.Popen[bytes] | None = None
        self.took = 0.0

    def start(self) -> None:
        """Start it, and wait until it answers; `took` says how long that was, in seconds."""
        self.stop()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        pinned = [] if self.workers else on_core(0)
        started = time.monotonic()
        with tempfile.TemporaryFile() as errors:
            try:
                self.process = subprocess.Popen(
                    [*pinned, *self.contender.command(port, self.workers)],
                    env={**without_settings(), "DATABASE_URL": self.url},
                    cwd=tempfile.gettempdir(),
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    start_new_session=True,
                )
            except OSError as error:
                raise DoesNotStartError(f"{self.where} does not start: {error}") from error
            while not self.answers():
                if time.monotonic() > started + 30 or self.process.poll() is not None:
                    self.stop()
                    errors.seek(0)
                    said = why(errors.read().decode(errors="replace"))
                    raise DoesNotStartError(f"{self.where} does not start: {said}")
                time.sleep(0.02)
        self.took = time.monotonic() - started

    def cpu_seconds(self) -> float:
        """What it and its workers have had of the processor, where the system says that."""
        assert self.process
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state = path.read_text().rpartition(")")[2].split()  # from its third field on
                ticks += sum(map(int, state[11:13])) if int(state[2]) == self.process.pid else 0
        return ticks / os.sysconf("SC_CLK_TCK")

    def come_to_rest(self) -> None:
        """Wait for the end of what it was asked for and did not answer in time, which is on core 0.

        For at most 30 seconds.
        """
        until, used = time.monotonic() + 30, self.cpu_seconds()
        while time.monotonic() < until:
            time.sleep(0.3)
            before, used = used, self.cpu_seconds()
            if used - before < 0.05:
                return

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
            with contextlib.suppress(ProcessLookupError):
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

            try:
                post("/users/", username="ann", email="ann@example.com", password="Password1")
                with ThreadPoolExecutor(8) as pool:
                    list(pool.map(both, range(1000)))
            except httpx2.HTTPError as error:
                raise DoesNotStartError(f"{self.where} cannot be filled: {error}") from error

    def measure(self, operation: str, clients: int, seconds: int) -> tuple[float, float, int]:
        """Good answers per second, the 99th percentile in milliseconds, and how many failed.

        One that stands still gives 0 of them, and is started again before it is asked again.
        """
        if not self.answers():
            self.start()
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--latency", "--timeout", "10s"]
        script = ["-s", str(HERE / "requests.lua"), self.address, "--", operation]
        said = subprocess.run(
            [*on_core(-1), *command, *script], capture_output=True, text=True, check=False
        ).stdout
        self.come_to_rest()
        answered = re.search(r"(\d+) requests in", said)
        rate = re.search(r"Requests/sec: +([0-9.]+)", said)
        slowest = re.search(r" 99% +([0-9.]+)(us|ms|s|m)", said)
        refused = sum(map(int, re.findall(r"Non-2xx.*: (\d+)", said)))
        lost = sum(map(int, re.findall(r"(?:connect |read |write |timeout )(\d+)", said)))
        if not (answered and rate and slowest and int(answered[1])):
            return 0.0, 0.0, lost
        good = float(rate[1]) * (1 - refused / int(answered[1]))
        unit = {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[slowest[2]]
        return good, float(slowest[1]) * unit, refused + lost


def why(errors: str) -> str:
    """The last line that names an exception; where there is none, the last line."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)]
    return (named or lines or ["no answer within 30 seconds"])[-1]


def without_settings() -> dict[str, str]:
    """The environment, without what would make this service another than a plain one."""
    own = "DATABASE_", "DB_", "SECRET_KEY", "DEBUG", "CORS_", "MAX_BODY_SIZE"
    return {key: value for key, value in os.environ.items() if not key.startswith(own)}


def on_core(n: int) -> list[str]:
    """To run a command on one core, where the system has several and `taskset` is there."""
    return ["taskset", "-c", str(CORES[n])] if len(CORES) > 1 and shutil.which("taskset") else []


@contextlib.contextmanager
def databases(folder: Path, contenders: list[str]) -> Iterator[dict[str, dict[str, str]]]:
    """New databases for each contender: files and, where a server can be had, on PostgreSQL."""
    names = [name for name in contenders if name != "no_database"]
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
        print(f"No PostgreSQL at {server}: SQLite alone. BENCH_POSTGRESQL names another.")
        yield urls
        return
    urls["PostgreSQL"] = {name: f"{server.rstrip('/')}/{own[name]}" for name in names}
    try:
        yield urls
    finally:
        with engine.connect() as connection:
            for database in own.values():
                connection.exec_driver_sql(f"DROP DATABASE {database} WITH (FORCE)")
