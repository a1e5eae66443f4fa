"""Tags: the six usual routes, unique names and slugs."""

import httpx2
import pytest
from conftest import Json, Make
from document import columns_of, with_defaults

from models import Tag

pytestmark = pytest.mark.every_database


def test_a_created_tag_is_answered_with_its_slug_and_location(client: httpx2.Client) -> None:
    response = client.post("/tags/", json={"name": "How To"})
    assert response.status_code == 201
    assert response.headers["Location"] == "/tags/1"
    expected = {"id": 1, "name": "How To", "slug": "how-to"}
    assert response.json() == with_defaults(Tag, expected)
    assert client.get("/tags/1").json() == response.json()
    assert client.get("/tags/").json() == [response.json()]


def test_keys_come_in_declared_order_from_every_route(client: httpx2.Client) -> None:
    rows = [
        client.post("/tags/", json={"slug": "n", "name": "News"}).json(),
        client.put("/tags/1", json={"slug": "n", "name": "News"}).json(),
        client.patch("/tags/1", json={"name": "New"}).json(),
        client.get("/tags/1").json(),
        client.get("/tags/").json()[0],
    ]
    assert [list(row) for row in rows] == [columns_of(Tag)] * len(rows)


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        ({"name": "News"}, "n"),
        ({"name": "news"}, "news-2"),
        ({"name": "Guides"}, "guides"),
        ({"name": "News", "slug": "latest"}, "latest"),
    ],
)
def test_replacing_without_a_slug_makes_it_anew_unless_the_name_stays(
    client: httpx2.Client, make: Make, body: Json, slug: str
) -> None:
    before = make("tags", name="News", slug="n")
    make("tags", name="NEWS")
    response = client.put("/tags/1", json=body)
    assert (response.status_code, response.json()) == (200, before | body | {"slug": slug})
    assert client.get("/tags/1").json() == response.json()


@pytest.mark.parametrize("change", [{}, {"name": "Guides"}, {"slug": "guides"}])
def test_patching_a_tag_changes_only_what_is_sent(
    client: httpx2.Client, make: Make, change: Json
) -> None:
    before = make("tags", name="News")
    response = client.patch("/tags/1", json=change)
    assert (response.status_code, response.json()) == (200, before | change)
    assert client.get("/tags/1").json() == response.json()


def test_a_deleted_tag_is_gone(client: httpx2.Client, make: Make) -> None:
    make("tags")
    response = client.delete("/tags/1")
    assert (response.status_code, response.content) == (204, b"")
    assert client.get("/tags/").json() == []


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_an_unknown_tag_is_404_for_every_method(client: httpx2.Client, method: str) -> None:
    body = {"name": "x"} if method in ("PUT", "PATCH") else None
    response = client.request(method, "/tags/7", json=body)
    assert (response.status_code, response.json()["detail"]) == (404, "Tag not found")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"name": "x" * 51}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"name": "x", "slug": "a\0b"}, "slug"),
        ({"name": "x", "post_ids": []}, "post_ids"),
    ],
)
def test_a_bad_tag_is_422_and_names_the_field(
    client: httpx2.Client, body: Json, field: str
) -> None:
    for response in (client.post("/tags/", json=body), client.put("/tags/1", json=body)):
        assert response.status_code == 422
        assert [error["loc"] for error in response.json()["errors"]] == [["body", field]]
    assert client.get("/tags/").json() == []


@pytest.mark.parametrize("change", [{"name": None}, {"slug": None}, {"name": ""}, {"color": "x"}])
def test_a_bad_change_is_422_and_changes_nothing(
    client: httpx2.Client, make: Make, change: Json
) -> None:
    before = make("tags")
    assert client.patch("/tags/1", json=change).status_code == 422
    assert client.get("/tags/1").json() == before


def test_names_are_unique_by_code_point_and_their_slugs_distinct(
    client: httpx2.Client, make: Make
) -> None:
    names = ["News", "news", "News ", "NÉWS", "N" * 50]
    tags = [make("tags", name=name) for name in names]
    assert [tag["name"] for tag in tags] == names
    assert [tag["slug"] for tag in tags] == ["news", "news-2", "news-3", "news-4", "n" * 50]
    for response in (
        client.post("/tags/", json={"name": "News"}),
        client.put("/tags/2", json={"name": "News"}),
        client.patch("/tags/2", json={"name": "News"}),
    ):
        assert (response.status_code, response.json()["detail"]) == (409, "name already exists")
    assert client.get("/tags/").json() == tags


def test_a_given_slug_that_is_taken_is_409(client: httpx2.Client, make: Make) -> None:
    tags = [make("tags", slug="news"), make("tags", slug="guides")]
    for response in (
        client.post("/tags/", json={"name": "x", "slug": "news"}),
        client.put("/tags/2", json={"name": "x", "slug": "news"}),
        client.patch("/tags/2", json={"slug": "news"}),
    ):
        assert (response.status_code, response.json()["detail"]) == (409, "slug already exists")
    assert client.get("/tags/").json() == tags


def test_tags_are_listed_page_by_page(client: httpx2.Client, make: Make) -> None:
    tags = [make("tags") for _ in range(3)]
    first = client.get("/tags/?limit=2&count=true")
    assert (first.json(), first.headers["X-Total-Count"]) == (tags[:2], "3")
    last = client.get(first.links["next"]["url"])
    assert last.json() == tags[2:]
    assert "Link" not in last.headers
    assert client.get("/tags/?sort=-id&skip=1").json() == [tags[1], tags[0]]
