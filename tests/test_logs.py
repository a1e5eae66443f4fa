"""What the service logs of itself: for each request a line, without what people have sent."""

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa
from conftest import another_database, needing
from databases import HOME, end_all_others
from servers import Json, Process, running

LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (?P<level>[A-Z]+) +\[(?P<id>\S+)\] "
    r"(?P<message>.*)"
)


def lines_of(process: Process, id: str, last: str = r"\d ms") -> list[str]:
    """What is logged of one request, as soon as there is its last line."""
    for _ in range(200):
        lines = [line for line in process.logged().splitlines() if id in line]
        if lines and re.search(last, lines[-1]):
            return lines
        time.sleep(0.05)
    raise AssertionError(process.logged())


def texts(process: Process, id: str) -> list[str]:
    found = map(LINE.fullmatch, lines_of(process, id))
    return [match["message"] for match in found if match and match["id"] == id]


def of_json(process: Process, id: str) -> list[Json]:
    return [json.loads(line) for line in lines_of(process, id)]


@pytest.fixture
def jsonl(own_database: str) -> Iterator[Process]:
    with running(own_database, LOG_FORMAT="json", DATABASE_ECHO="pool") as process:
        yield process


def test_a_request_has_the_id_that_it_was_sent_with(client: httpx2.Client) -> None:
    for id in ("abc-1", "Root=1-67891233-abcdef012345678912345678", "a" * 128):
        response = client.get("/items/", headers={"X-Request-ID": id})
        assert response.headers.get_list("X-Request-ID") == [id]


@pytest.mark.parametrize("id", ["", "a b", "a" * 129, "a\u00e4", "a,b", '"', "ann@example.com"])
def test_an_id_that_is_not_fit_to_be_logged_is_replaced(client: httpx2.Client, id: str) -> None:
    response = client.get("/items/", headers={b"X-Request-ID": id.encode()})
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["X-Request-ID"])


def test_errors_have_a_request_id_as_well(client: httpx2.Client) -> None:
    responses = client.get("/items/1"), client.get("/nowhere"), client.post("/items/", json={})
    ids = {response.headers["X-Request-ID"] for response in responses}
    assert [response.status_code for response in responses] == [404, 404, 422]
    assert len(ids) == 3


def test_a_line_has_the_id_the_route_the_status_and_the_duration(closed_server: Process) -> None:
    closed_server.client.get("/items/17", headers={"X-Request-ID": "seventeen"})
    line = texts(closed_server, "seventeen")[-1]
    assert re.fullmatch(r"GET /items/17 \(/items/\{item_id\}\) 404 \d+\.\d ms", line)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/users/by-email/ann@example.com", "/users/by-email/{email} 401"),
        needing("products", "/products/by-slug/ann", "/products/by-slug/{slug} 404"),
        ("/users/page?page=ann%40example.com", "/users/page 401"),
        ("/api/v1/users/page?search=ann", "/users/page 401"),
        ("/ann/ann@example.com", "/ann/... 404"),
        ("/admin/login?next=ann", "/admin/login 200"),
        ("/a%0Ab", "/a%0Ab 404"),
    ],
)
def test_a_line_has_nothing_of_what_may_be_a_name_or_an_address(
    closed_server: Process, path: str, told: str
) -> None:
    id = f"private{abs(hash(path))}"
    closed_server.client.get(path, headers={"X-Request-ID": id})
    assert f"GET {told} " in texts(closed_server, id)[-1]


def test_the_sql_of_a_request_has_its_id(closed_server: Process) -> None:
    closed_server.client.get("/items/", headers={"X-Request-ID": "sql"})
    assert any(text.startswith("SELECT item.id") for text in texts(closed_server, "sql"))


@pytest.mark.system
def test_json_lines_have_fields_for_all_that_a_line_says(jsonl: Process) -> None:
    jsonl.client.get("/items/7", headers={"X-Request-ID": "one"})
    line = of_json(jsonl, "one")[-1]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line.pop("message").startswith("GET /items/7 (/items/{item_id}) 404 ")
    assert line.pop("duration_ms") > 0
    assert line == {
        "level": "INFO",
        "request_id": "one",
        "logger": "uvicorn.access",
        "method": "GET",
        "http_version": "1.1",
        "route": "/items/{item_id}",
        "path": "/items/7",
        "status": 404,
        "client": "127.0.0.1",
    }


@pytest.mark.system
def test_every_new_connection_is_a_line_and_with_echo_pool_every_check_out(jsonl: Process) -> None:
    jsonl.client.get("/items/", headers={"X-Request-ID": "one"})
    messages = [line["message"] for line in of_json(jsonl, "one")]
    assert sum(m.startswith("New connection to ") for m in messages) == 1
    assert sum("checked out from pool" in m for m in messages) == 1


@pytest.mark.system
def test_a_connection_that_is_given_up_is_a_line(server_url: str, tmp_path: Path) -> None:
    url = another_database(server_url, tmp_path, "ended")
    with running(url) as process:
        assert process.client.get("/items/").status_code == 200
        with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
            end_all_others(connection)
        for _ in range(100):  # until it is the turn of the thread that has it
            assert process.client.get("/items/").status_code == 200
            if " is given up: " in process.logged():
                break
        logged = process.logged()
    assert re.search(r"WARNING \[\S+\] Connection to \w+, for reading, is given up: ", logged)


@pytest.mark.system
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("server", [[str(HOME / "main.py")], ["-m", "uvicorn", "main:app"]])
def test_every_line_is_json_whoever_serves(
    own_database: str, server: list[str], workers: str
) -> None:
    command = [sys.executable, *server, "--workers", workers]
    with running(own_database, *command, LOG_FORMAT="json", PYTHONPATH=str(HOME)) as process:
        process.client.get("/items/", headers={"X-Request-ID": "one"})
        assert of_json(process, "one")[-1]["status"] == 200
        lines = process.logged().splitlines()
    assert all(json.loads(line) for line in lines if line.startswith("{"))
    # uvicorn alone begins before it has imported the app.
    first = [line for line in lines if not line.startswith("{")]
    assert server[0] == "-m" or not first
    assert all(line.startswith("INFO: ") for line in first)


@pytest.mark.system
@pytest.mark.parametrize(
    ("options", "level"),
    [(["--no-access-log"], "info"), (["--log-level=warning"], "info"), ([], "warning")],
)
def test_uvicorn_leaves_out_the_lines_of_requests_when_told_to(
    own_database: str, options: list[str], level: str
) -> None:
    command = [sys.executable, "-m", "uvicorn", "main:app", *options]
    with running(own_database, *command, PYTHONPATH=str(HOME), LOG_LEVEL=level) as process:
        for _ in range(3):  # so that the first is told by now
            process.client.get("/items/")
        assert "/items/" not in process.logged()


@pytest.mark.system
def test_a_fault_is_one_line_of_json_with_its_traceback(own_database: str) -> None:
    program = (
        "import main\n"
        "@main.app.get('/fault', dependencies=[main.Public])\n"
        "async def fault() -> None: raise RuntimeError('a fault\\nof ours')\n"
        "main.cli.run(main.sys.argv[1:])"
    )
    command = [sys.executable, "-c", program]
    with running(own_database, *command, LOG_FORMAT="json", PYTHONPATH=str(HOME)) as process:
        assert process.client.get("/fault", headers={"X-Request-ID": "f"}).status_code == 500
        told, fault = map(json.loads, lines_of(process, '"f"', "Traceback"))
    assert told["status"] == 500
    assert (fault["level"], fault["request_id"]) == ("ERROR", "f")
    assert "RuntimeError: a fault\nof ours" in fault["exc_info"]
