"""PgBouncer between the service and PostgreSQL, where a URL says `?pgbouncer=true`.

It is started here, from the machine's own program, before the PostgreSQL of TEST_DATABASE_URLS.
Where there is none these tests are skipped, or fail if PGBOUNCER_REQUIRED is set.
"""

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
import sqlalchemy as sa
from conftest import another_database
from databases import HOME, SERVERS, kind_of
from servers import TIMEOUT, assert_busy, free_port, leave_out, open_shop, serving, wait_for
from test_faults import assert_nothing_acknowledged_is_lost, order_traffic
from test_replica import user_options

import db
import kit

pytestmark = [pytest.mark.system, pytest.mark.needs("orders")]

POSTGRESQL = [url for url in SERVERS if kind_of(url) == "postgresql"]
SETTINGS = """
[databases]
* = {server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {pool_mode}
default_pool_size = {pool_size}
server_idle_timeout = 2
max_client_conn = 1000
"""


class PgBouncer:
    """PgBouncer on a port of its own, in front of the server of a URL."""

    def __init__(self, server: str, folder: Path, pool_mode: str, pool_size: int) -> None:
        to, self.port, self.ini = sa.make_url(server), free_port(), folder / "pgbouncer.ini"
        names = {"host": to.host, "port": to.port, "user": to.username, "password": to.password}
        said = " ".join(f"{name}={value}" for name, value in names.items() if value)
        values = {"server": said, "port": self.port, "pool_mode": pool_mode, "pool_size": pool_size}
        self.ini.write_text(SETTINGS.format(**values))
        self.start()

    def start(self) -> None:
        command, quiet = [program(), "--quiet", str(self.ini)], subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet, **user_options())
        wait_for(self.answers)

    def answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            return bool(self.ask("pgbouncer", "SHOW VERSION"))
        return False

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def url(self, server: str) -> str:
        """The URL of a database of the server, by way of PgBouncer."""
        url = sa.make_url(server).set(host="127.0.0.1", port=self.port)
        return with_sign(url.render_as_string(hide_password=False))

    def ask(self, database: str, query: str) -> list[tuple[Any, ...]]:
        where = f"host=127.0.0.1 port={self.port} user=postgres dbname={database}"
        with psycopg.connect(where, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()


def with_sign(url: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}pgbouncer=true"


def program() -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    found = shutil.which("pgbouncer", path=path)
    if not found:
        leave_out("PGBOUNCER_REQUIRED", "There is no pgbouncer")
    return found


@contextlib.contextmanager
def bouncing(
    server: str, pool_mode: str = "transaction", pool_size: int = 10
) -> Iterator[PgBouncer]:
    program()
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="cornershop_pgbouncer_"))
        stack.callback(shutil.rmtree, folder)
        if who := user_options():  # it refuses to be run by root
            os.chown(folder, who["user"], who["group"])
        pgbouncer = PgBouncer(server, folder, pool_mode, pool_size)
        stack.callback(pgbouncer.kill)
        yield pgbouncer


@pytest.fixture(params=POSTGRESQL, ids=kind_of)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pgbouncer(server: str) -> Iterator[PgBouncer]:
    with bouncing(server) as pgbouncer:
        yield pgbouncer


# Parts of the suite whose tests depend on what a connection keeps: locks, time-outs, savepoints,
# settings, prepared statements, and who is writing.
PARTS = [
    "test_items.py test_idempotency.py kit/test_misuse.py kit/test_async_routes.py",
    "test_races.py -k sold or pieces or cancelled or paid or sum or stock",
    "test_events.py test_migrations.py -k order or at_once",
    "test_faults.py -k silent or deadlock",
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.partition(".")[0])
def test_the_contract_holds_behind_it(pgbouncer: PgBouncer, server: str, part: str) -> None:
    files, _, keyword = part.partition(" -k ")
    url = sa.make_url(pgbouncer.url(server))
    url = url.set(database=f"{url.database}_{PARTS.index(part)}")
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    own.pop("TEST_SCRATCH")
    own["TEST_DATABASE_URLS"] = url.render_as_string(hide_password=False)
    paths = [str(HOME / "tests" / name) for name in files.split()]
    command = [sys.executable, "-m", "pytest", "-n0", "-q", "--rest", *paths, "-k", keyword]
    done = subprocess.run(command, cwd=HOME, env=own, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


def test_a_restart_under_traffic_loses_no_acknowledged_order(
    pgbouncer: PgBouncer, server: str, tmp_path: Path
) -> None:
    url = pgbouncer.url(another_database(server, tmp_path, "bounced"))
    with serving(url, DB_POOL_TIMEOUT=str(TIMEOUT)) as client:
        open_shop(client)
        with order_traffic(client) as answers:

            def some_more(status: int) -> Callable[[], bool]:
                many = 20 + sum(answer.status_code == status for answer in answers)
                return lambda: sum(answer.status_code == status for answer in answers) >= many

            for _ in range(2):
                wait_for(some_more(201))
                pgbouncer.kill()
                wait_for(some_more(503))
                pgbouncer.start()
            wait_for(some_more(201))
        for answer in answers:
            if answer.status_code != 201:
                assert_busy(answer)
        assert_nothing_acknowledged_is_lost(client, answers)


@pytest.mark.parametrize("pool_mode", ["transaction", "session", "none"])
def test_the_sign_goes_with_any_pool_mode_and_without_pgbouncer(
    server: str, tmp_path: Path, pool_mode: str
) -> None:
    direct = another_database(server, tmp_path, "mode")
    with contextlib.ExitStack() as stack:
        url = with_sign(direct)
        if pool_mode != "none":
            url = stack.enter_context(bouncing(server, pool_mode, 40)).url(direct)
        client = stack.enter_context(serving(url, DATABASE_READ_URL=url))
        open_shop(client)
        with order_traffic(client) as answers:
            wait_for(lambda: len(answers) >= 50)
        assert {answer.status_code for answer in answers} == {201}
        assert_nothing_acknowledged_is_lost(client, answers)
        with client.stream(
            "GET", "/notifications/events", headers={"Last-Event-ID": "0"}
        ) as events:
            assert next(events.iter_lines()) == "event: notification"


SET = """SELECT current_setting('TimeZone'), current_setting('lock_timeout'),
current_setting('statement_timeout'), current_setting('transaction_read_only')"""


def test_settings_hold_in_each_statement_and_for_nobody_else(server: str, tmp_path: Path) -> None:
    direct = another_database(server, tmp_path, "settings")
    name = str(sa.make_url(direct).database)
    with bouncing(server, pool_size=1) as pgbouncer:
        with sa.create_engine(direct, poolclass=sa.NullPool).begin() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")
        given = {"database_url": db.Settings.usual_url(pgbouncer.url(direct))}
        settings = db.settings.model_copy(update=given)
        both, reading = kit.Database(settings), kit.AsyncReading(settings)

        async def read() -> tuple[str, ...]:
            async with reading.session() as session:
                found = tuple((await (await session.connection()).exec_driver_sql(SET)).one())
            await reading.close()
            return found

        for _ in range(3):
            with both.writer.engine.connect() as connection:
                assert connection.exec_driver_sql(SET).one() == ("UTC", "10s", "10s", "off")
                with connection.begin_nested():
                    assert connection.exec_driver_sql(SET).one() == ("UTC", "10s", "10s", "off")
            with both.reader.engine.connect() as connection:
                assert connection.exec_driver_sql(SET).one() == ("UTC", "10s", "10s", "on")
            assert asyncio.run(read()) == ("UTC", "10s", "10s", "on")
            assert pgbouncer.ask(name, SET) == [("Asia/Tokyo", "0", "0", "off")]
        both.close()


def test_a_request_takes_no_more_queries_than_without_it(
    pgbouncer: PgBouncer, server: str, tmp_path: Path
) -> None:
    direct = another_database(server, tmp_path, "counted")
    name = sa.make_url(direct).database

    def counted() -> list[int]:
        """Transactions and queries so far."""
        [row] = [row for row in pgbouncer.ask("pgbouncer", "SHOW STATS_TOTALS") if row[0] == name]
        return [int(count) for count in row[1:3]]

    with serving(pgbouncer.url(direct)) as client:
        assert client.post("/items/", json={"title": "Kite", "price": 1}).status_code == 201
        prices = itertools.count(2)
        calls: dict[tuple[int, int], Callable[[], httpx2.Response]] = {
            (1, 1): lambda: client.get("/items/1"),
            (2, 2): lambda: client.get("/items/?count=true"),
            # BEGIN, SELECT ... FOR UPDATE, UPDATE, COMMIT
            (1, 4): lambda: client.patch("/items/1", json={"price": next(prices)}),
        }
        for call in calls.values():
            assert call().status_code == 200  # and connected
        for expected, call in calls.items():
            before = counted()
            assert call().status_code == 200
            assert (
                tuple(now - then for now, then in zip(counted(), before, strict=True)) == expected
            )
