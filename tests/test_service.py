"""The root, health, the documentation, and what holds before a route is found."""

import httpx2
import pytest
import sqlalchemy as sa
from conftest import ORIGIN, Make

import db


def test_the_root_says_what_this_is(client: httpx2.Client) -> None:
    root = {"message": "Cornershop API", "docs": "/docs", "version": "1.0.0"}
    assert client.get("/").json() == root
    assert client.get("/api/v1/").json() == root


@pytest.mark.every_database
def test_health_counts_the_connections(client: httpx2.Client) -> None:
    size = db.writer.capacity + db.reader.capacity
    numbers = {"pool_size": size, "connections_in_use": 0, "connections_available": size}
    assert client.get("/health").json() == {"status": "healthy", "database": numbers}
    with db.reader.engine.connect():
        numbers |= {"connections_in_use": 1, "connections_available": size - 1}
        assert client.get("/health").json()["database"] == numbers


@pytest.mark.every_database
def test_database_health_says_the_revision(client: httpx2.Client) -> None:
    body = client.get("/health/db").json()
    assert list(body) == [
        "status",
        "pool_size",
        "checked_in",
        "checked_out",
        "overflow",
        "total_connections",
        "revision",
    ]
    assert (body["status"], body["revision"]) == ("healthy", db.newest_revision())
    assert body["total_connections"] == body["checked_in"] + body["checked_out"]


@pytest.mark.every_database
def test_database_health_is_503_when_the_database_is_not_at_the_newest_revision(
    client: httpx2.Client,
) -> None:
    change = sa.text("UPDATE alembic_version SET version_num = :revision")
    with db.writer.engine.begin() as connection:
        connection.execute(change, {"revision": "old"})
    try:
        response = client.get("/health/db")
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
        assert client.get("/health").status_code == 200
    finally:
        with db.writer.engine.begin() as connection:
            connection.execute(change, {"revision": db.newest_revision()})


def test_every_path_answers_under_the_prefix_too(client: httpx2.Client, make: Make) -> None:
    make("items")
    response = client.post("/api/v1/items/", json={"title": "x", "price": 1})
    assert (response.status_code, response.headers["Location"]) == (201, "/api/v1/items/2")
    assert client.get("/api/v1/items/").json() == client.get("/items/").json()
    assert client.get("/api/v1/health").json() == client.get("/health").json()
    assert client.get("/api/v1x/items/").status_code == 404
    assert client.get("/api/v1/api/v1/items/").status_code == 404


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_a_path_without_its_slash_redirects_and_keeps_prefix_and_query(
    client: httpx2.Client, prefix: str
) -> None:
    response = client.get(f"{prefix}/items?limit=5", follow_redirects=False)
    assert response.status_code == 307
    assert response.headers["Location"].endswith(f"{prefix}/items/?limit=5")
    assert client.post(f"{prefix}/items", json={"title": "x", "price": 1}).status_code == 201


@pytest.mark.parametrize("path", ["/", "/health", "/items/", "/items/1", "/docs", "/api/v1/items/"])
def test_head_is_get_without_the_body(client: httpx2.Client, make: Make, path: str) -> None:
    make("items")
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(get.content))
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


def test_options_and_a_wrong_method_say_what_is_allowed(client: httpx2.Client) -> None:
    options, wrong = client.options("/items/"), client.delete("/items/")
    assert (options.status_code, options.content) == (204, b"")
    assert (wrong.status_code, wrong.json()["detail"]) == (405, "DELETE is not allowed here")
    for response in (options, wrong):
        assert response.headers["Allow"] == "GET, HEAD, OPTIONS, POST"


def test_the_openapi_document_names_both_servers(client: httpx2.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["servers"] == [{"url": "/"}, {"url": "/api/v1"}]
    operations = [o for path in document["paths"].values() for o in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    assert all(operation["description"] for operation in operations)


def test_every_error_in_the_openapi_document_is_a_problem(client: httpx2.Client) -> None:
    document = client.get("/openapi.json").json()
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    for path in document["paths"].values():
        for operation in path.values():
            assert "422" in operation["responses"]
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert response["content"] == {"application/problem+json": problem}


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/api/v1/docs"])
def test_the_documentation_needs_nothing_from_elsewhere(client: httpx2.Client, path: str) -> None:
    page = client.get(path)
    assert page.status_code == 200
    assert "http://" not in page.text
    assert "https://" not in page.text
    for address in page.text.split('"'):
        if address.endswith((".js", ".css", ".png")):
            assert client.get(address).status_code == 200


def test_a_web_origin_may_call_only_where_it_is_set(
    app_client: httpx2.Client, server: httpx2.Client
) -> None:
    answer = app_client.get("/items/", headers={"Origin": ORIGIN})
    assert "Access-Control-Allow-Origin" not in answer.headers
    answer = server.get("/items/", headers={"Origin": ORIGIN})
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    answer = server.get("/items/", headers={"Origin": "https://b.example"})
    assert "Access-Control-Allow-Origin" not in answer.headers
