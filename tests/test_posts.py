"""Posts: when they were published, their tags, their views."""

import httpx2
import pytest
import sqlalchemy as sa
from conftest import Json, Make
from document import columns_of, with_defaults

import db
from models import Post, Tag

pytestmark = pytest.mark.every_database

KEYS = [*columns_of(Post), "tags"]
BODY = {"title": "How to", "content": "Text.", "author_id": 1}


@pytest.fixture(autouse=True)
def authors(make: Make) -> None:
    """Two users, 1 and 2, and three tags: News (1), Guides (2), Recipes (3)."""
    for name in ("ann", "bob"):
        make("users", username=name)
    for name in ("News", "Guides", "Recipes"):
        make("tags", name=name)


def titles(rows: list[Json]) -> list[str]:
    return [row["title"] for row in rows]


def tag_names(post: Json) -> list[str]:
    return [tag["name"] for tag in post["tags"]]


# The six routes


def test_a_created_post_is_answered_with_its_defaults_and_location(client: httpx2.Client) -> None:
    response = client.post("/posts/", json=BODY)
    assert response.status_code == 201
    assert response.headers["Location"] == "/posts/1"
    post = response.json()
    assert post == with_defaults(
        Post,
        {
            "id": 1,
            "title": "How to",
            "slug": "how-to",
            "content": "Text.",
            "status": "draft",
            "view_count": 0,
            "author_id": 1,
            "created_at": post["created_at"],
            "updated_at": post["updated_at"],
            "published_at": None,
            "tags": [],
        },
    )
    assert client.get("/posts/1").json() == post
    assert client.get("/posts/").json() == [post]


def test_keys_come_in_declared_order_from_every_route(client: httpx2.Client) -> None:
    rows = [
        client.post("/posts/", json=BODY | {"tag_ids": [1]}).json(),
        client.put("/posts/1", json=BODY | {"tag_ids": [1]}).json(),
        client.patch("/posts/1", json={"content": "x"}).json(),
        client.get("/posts/1").json(),
        client.get("/posts/").json()[0],
    ]
    assert [list(row) for row in rows] == [KEYS] * len(rows)
    assert [list(row["tags"][0]) for row in rows] == [columns_of(Tag)] * len(rows)


def test_replacing_a_post_gives_omitted_fields_their_defaults(
    client: httpx2.Client, make: Make
) -> None:
    before = make("posts", author_id=1, slug="s", status="archived", tag_ids=[1, 2])
    client.post("/posts/1/views")
    response = client.put("/posts/1", json={"title": "New", "content": "x", "author_id": 2})
    assert response.status_code == 200
    after = response.json()
    assert after == {
        **before,
        "title": "New",
        "slug": "new",
        "content": "x",
        "status": "draft",
        "view_count": 1,
        "author_id": 2,
        "updated_at": after["updated_at"],
        "tags": [],
    }
    assert after["updated_at"] > before["updated_at"]
    assert client.get("/posts/1").json() == after


@pytest.mark.parametrize(
    "change",
    [
        {"title": "New"},
        {"slug": "new"},
        {"content": "New."},
        {"status": "archived"},
        {"author_id": 2},
    ],
)
def test_patching_a_post_changes_only_what_is_sent(
    client: httpx2.Client, make: Make, change: Json
) -> None:
    before = make("posts", author_id=1, tag_ids=[1, 2])
    response = client.patch("/posts/1", json=change)
    assert response.status_code == 200
    after = response.json()
    assert after == before | change | {"updated_at": after["updated_at"]}
    assert after["updated_at"] > before["updated_at"]
    assert client.get("/posts/1").json() == after


def test_patching_with_nothing_changes_nothing(client: httpx2.Client, make: Make) -> None:
    before = make("posts", author_id=1, status="published", tag_ids=[1])
    response = client.patch("/posts/1", json={})
    assert (response.status_code, response.json()) == (200, before)


def test_a_deleted_post_is_gone_and_its_tags_stay(client: httpx2.Client, make: Make) -> None:
    tags = client.get("/tags/").json()
    make("posts", author_id=1, tag_ids=[1, 2])
    other = make("posts", author_id=1, tag_ids=[1])
    response = client.delete("/posts/1")
    assert (response.status_code, response.content) == (204, b"")
    assert client.get("/posts/").json() == [other]
    assert client.get("/tags/").json() == tags


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/posts/7", None),
        ("PUT", "/posts/7", BODY),
        ("PATCH", "/posts/7", {"tag_ids": [1]}),
        ("DELETE", "/posts/7", None),
        ("POST", "/posts/7/views", None),
    ],
)
def test_an_unknown_post_is_404(client: httpx2.Client, method: str, path: str, body: Json) -> None:
    response = client.request(method, path, json=body)
    assert (response.status_code, response.json()["detail"]) == (404, "Post not found")


# What a post may be


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"title": ""}, "title"),
        ({"title": None}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"title": "a\0b"}, "title"),
        ({"slug": "a\0b"}, "slug"),
        ({"content": ""}, "content"),
        ({"content": None}, "content"),
        ({"content": "x" * 100_001}, "content"),
        ({"content": "a\0b"}, "content"),
        ({"status": "lost"}, "status"),
        ({"status": None}, "status"),
        ({"author_id": 0}, "author_id"),
        ({"author_id": 2**31}, "author_id"),
        ({"author_id": None}, "author_id"),
        ({"tag_ids": None}, "tag_ids"),
        ({"tag_ids": 1}, "tag_ids"),
        ({"tags": []}, "tags"),
        ({"view_count": 9}, "view_count"),
        ({"published_at": "2026-01-01T00:00:00Z"}, "published_at"),
        ({"id": 5}, "id"),
    ],
)
def test_a_bad_post_is_422_and_names_the_field(
    client: httpx2.Client, make: Make, change: Json, field: str
) -> None:
    before = make("posts", author_id=1, tag_ids=[1])
    for response in (
        client.post("/posts/", json=BODY | change),
        client.put("/posts/1", json=BODY | change),
        client.patch("/posts/1", json=change),
    ):
        assert response.status_code == 422
        assert [error["loc"] for error in response.json()["errors"]] == [["body", field]]
    assert client.get("/posts/").json() == [before]


@pytest.mark.parametrize("field", ["title", "content", "author_id"])
def test_a_post_needs_a_title_content_and_an_author(client: httpx2.Client, field: str) -> None:
    body = {key: value for key, value in BODY.items() if key != field}
    errors = client.post("/posts/", json=body).json()["errors"]
    assert [error["loc"] for error in errors] == [["body", field]]


def test_the_longest_title_and_content_are_stored_as_they_came(
    client: httpx2.Client, make: Make
) -> None:
    make("posts", author_id=1, title="💡" * 200, content="電" * 100_000)
    post = client.get("/posts/1").json()
    assert (post["title"], post["content"]) == ("💡" * 200, "電" * 100_000)


def test_an_unknown_author_is_409(client: httpx2.Client, make: Make) -> None:
    before = make("posts", author_id=1)
    for response in (
        client.post("/posts/", json=BODY | {"author_id": 9}),
        client.put("/posts/1", json=BODY | {"author_id": 9}),
        client.patch("/posts/1", json={"author_id": 9}),
    ):
        assert response.status_code == 409
        assert response.json()["detail"] == "author_id refers to nothing"
    assert client.get("/posts/").json() == [before]


def test_slugs_made_from_titles_are_distinct_and_kept(client: httpx2.Client, make: Make) -> None:
    slugs = [make("posts", author_id=1, title=title)["slug"] for title in ("A b", "a B", "A b")]
    assert slugs == ["a-b", "a-b-2", "a-b-3"]
    for title, slug in [("A b", "a-b-3"), ("A, b", "a-b-3"), ("C", "c"), ("A b", "a-b-3")]:
        assert client.put("/posts/3", json=BODY | {"title": title}).json()["slug"] == slug
    client.patch("/posts/3", json={"slug": "own"})
    assert client.put("/posts/3", json=BODY | {"title": "A b"}).json()["slug"] == "own"


def test_a_given_slug_that_is_taken_is_409(client: httpx2.Client, make: Make) -> None:
    before = [make("posts", author_id=1, slug="a"), make("posts", author_id=1)]
    for response in (
        client.post("/posts/", json=BODY | {"slug": "a"}),
        client.put("/posts/2", json=BODY | {"slug": "a"}),
        client.patch("/posts/2", json={"slug": "a"}),
    ):
        assert (response.status_code, response.json()["detail"]) == (409, "slug already exists")
    assert client.get("/posts/").json() == before


# Publishing


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_becoming_published_sets_the_time_of_it_once(
    client: httpx2.Client, make: Make, method: str
) -> None:
    base = BODY if method == "PUT" else {}
    assert make("posts", author_id=1)["published_at"] is None
    client.request(method, "/posts/1", json=base | {"status": "archived"})
    assert client.get("/posts/1").json()["published_at"] is None
    first = client.request(method, "/posts/1", json=base | {"status": "published"}).json()
    assert first["published_at"] > first["created_at"]
    assert first["published_at"].endswith("Z")
    for status in ("published", "archived", "draft", "published"):
        post = client.request(method, "/posts/1", json=base | {"status": status}).json()
        assert (post["status"], post["published_at"]) == (status, first["published_at"])
    assert client.get("/posts/1").json() == post


def test_a_post_can_be_published_from_the_start(client: httpx2.Client, make: Make) -> None:
    post = make("posts", author_id=1, status="published")
    assert post["published_at"] is not None
    assert (
        client.patch("/posts/1", json={"title": "x"}).json()["published_at"]
        == (post["published_at"])
    )


# Tags


def test_tags_are_embedded_and_replaced(client: httpx2.Client, make: Make) -> None:
    news, guides, recipes = client.get("/tags/").json()
    assert make("posts", author_id=1, tag_ids=[1, 2])["tags"] == [news, guides]
    for method, change, tags in [
        ("PATCH", {"tag_ids": [2, 3]}, [guides, recipes]),
        ("PATCH", {"title": "x"}, [guides, recipes]),
        ("PATCH", {"tag_ids": []}, []),
        ("PUT", BODY | {"tag_ids": [1]}, [news]),
        ("PUT", BODY | {"tag_ids": [1, 3]}, [news, recipes]),
        ("PUT", BODY, []),
    ]:
        post = client.request(method, "/posts/1", json=change).json()
        assert post["tags"] == tags
        assert client.get("/posts/1").json() == client.get("/posts/").json()[0] == post


def test_an_unknown_tag_is_409_and_changes_nothing(client: httpx2.Client, make: Make) -> None:
    before = make("posts", author_id=1, tag_ids=[1])
    for response in (
        client.post("/posts/", json=BODY | {"tag_ids": [1, 9]}),
        client.put("/posts/1", json=BODY | {"tag_ids": [2, 9]}),
        client.patch("/posts/1", json={"title": "x", "tag_ids": [9]}),
    ):
        assert response.status_code == 409
        assert response.json()["detail"] == "tag_ids refers to nothing"
    assert client.get("/posts/").json() == [before]


def test_deleting_a_tag_removes_only_the_links_to_it(client: httpx2.Client, make: Make) -> None:
    posts = [make("posts", author_id=1, tag_ids=ids) for ids in ([1, 2], [1], [3])]
    assert client.delete("/tags/1").status_code == 204
    posts[0]["tags"] = posts[0]["tags"][1:]
    posts[1]["tags"] = []
    assert client.get("/posts/").json() == posts


def test_a_changed_tag_shows_in_its_posts(client: httpx2.Client, make: Make) -> None:
    make("posts", author_id=1, tag_ids=[1, 2])
    client.patch("/tags/1", json={"name": "Latest"})
    assert tag_names(client.get("/posts/1").json()) == ["Latest", "Guides"]


def test_tags_cost_no_query_per_post(client: httpx2.Client, make: Make) -> None:
    queries: list[str] = []

    def note(*args: Json) -> None:
        queries.append(args[2])

    counts = []
    for posts in (1, 9):
        for _ in range(posts):
            make("posts", author_id=1, tag_ids=[1, 2, 3])
        sa.event.listen(db.database.reader.engine, "before_cursor_execute", note)
        assert len(client.get("/posts/?limit=10").json()) in (1, 10)
        sa.event.remove(db.database.reader.engine, "before_cursor_execute", note)
        counts.append(len(queries))
        queries.clear()
    assert counts[0] == counts[1] > 0


# Lists


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["b", "A_1", "Ärger 100%", "a"]),
        ("author_id=1", ["b", "A_1"]),
        ("author_id=9", []),
        ("status=draft", ["b", "a"]),
        ("status=published", ["A_1"]),
        ("status=archived", ["Ärger 100%"]),
        ("tag=news", ["b", "A_1"]),
        ("tag=guides", ["A_1"]),
        ("tag=nothing", []),
        ("tag=news&author_id=1&status=draft&q=B", ["b"]),
        ("q=a", ["A_1", "a"]),
        ("q=ärger", ["Ärger 100%"]),
        ("q=%25", ["Ärger 100%"]),
        ("q=_", ["A_1"]),
        ("q=", ["b", "A_1", "Ärger 100%", "a"]),
        ("sort=title", ["A_1", "a", "b", "Ärger 100%"]),
        ("sort=-title", ["Ärger 100%", "b", "a", "A_1"]),
        ("sort=created_at", ["b", "A_1", "Ärger 100%", "a"]),
        ("sort=-created_at", ["a", "Ärger 100%", "A_1", "b"]),
        ("sort=view_count", ["b", "a", "Ärger 100%", "A_1"]),
        ("sort=-view_count", ["A_1", "Ärger 100%", "a", "b"]),
        ("sort=-id&limit=1", ["a"]),
        ("sort=view_count&skip=1&limit=2", ["a", "Ärger 100%"]),
    ],
)
def test_posts_are_filtered_and_sorted(
    client: httpx2.Client, make: Make, query: str, found: list[str]
) -> None:
    make("posts", author_id=1, title="b", content="A", tag_ids=[1])
    make("posts", author_id=1, title="A_1", status="published", tag_ids=[1, 2])
    make("posts", author_id=2, title="Ärger 100%", status="archived", tag_ids=[3])
    make("posts", author_id=2, title="a")
    for id in (2, 2, 3):
        client.post(f"/posts/{id}/views")
    assert titles(client.get(f"/posts/?{query}").json()) == found


def test_a_post_found_by_one_tag_shows_all_of_its_tags(client: httpx2.Client, make: Make) -> None:
    for _ in range(3):
        make("posts", author_id=1, tag_ids=[1, 2, 3])
    first = client.get("/posts/?tag=guides&limit=2&count=true")
    assert first.headers["X-Total-Count"] == "3"
    rows = first.json() + client.get(first.links["next"]["url"]).json()
    assert [row["id"] for row in rows] == [1, 2, 3]
    assert [tag_names(row) for row in rows] == [["News", "Guides", "Recipes"]] * 3


@pytest.mark.parametrize(
    "query", ["sort=status", "status=lost", "author_id=0", "tag=%00", "q=%00", "tags=news"]
)
def test_a_bad_query_is_422(client: httpx2.Client, query: str) -> None:
    assert client.get(f"/posts/?{query}").status_code == 422


# Views


def test_a_view_is_counted_and_is_no_change_of_the_post(client: httpx2.Client, make: Make) -> None:
    before = make("posts", author_id=1, status="published", tag_ids=[1])
    for n in (1, 2):
        response = client.post("/posts/1/views")
        assert (response.status_code, response.json()) == (200, {"view_count": n})
    assert client.get("/posts/1").json() == before | {"view_count": 2}
    assert client.patch("/posts/1", json={"title": "x"}).json()["view_count"] == 2
