"""Categories: slugs, a tree of any depth without cycles, what a deletion leaves behind."""

import re

import httpx2
import pytest
import sqlalchemy as sa
from conftest import Json, Make
from document import columns_of, with_defaults

import db
from models import Category

pytestmark = pytest.mark.every_database

KEYS = columns_of(Category)
CYCLE = "A category cannot be its own ancestor"


def chain(make: Make, length: int) -> None:
    """Make so many categories, each but the first below the one before."""
    for n in range(1, length + 1):
        make("categories", name=f"Level {n}", parent_id=n - 1 or None)


# The six routes


def test_a_created_category_is_answered_with_its_defaults_and_location(
    client: httpx2.Client,
) -> None:
    response = client.post("/categories/", json={"name": "Garden Tools"})
    assert response.status_code == 201
    assert response.headers["Location"] == "/categories/1"
    category = response.json()
    assert category == with_defaults(
        Category,
        {
            "id": 1,
            "name": "Garden Tools",
            "slug": "garden-tools",
            "description": None,
            "parent_id": None,
            "created_at": category["created_at"],
        },
    )
    assert category["created_at"].endswith("Z")
    assert client.get("/categories/1").json() == category
    assert client.get("/categories/").json() == [category]


def test_keys_come_in_declared_order_from_every_route(client: httpx2.Client) -> None:
    body = {"name": "Garden"}
    rows = [
        client.post("/categories/", json=body).json(),
        client.put("/categories/1", json=body).json(),
        client.patch("/categories/1", json={"description": "x"}).json(),
        client.get("/categories/1").json(),
        client.get("/categories/").json()[0],
    ]
    assert [list(row) for row in rows] == [KEYS] * len(rows)
    assert list(client.get("/categories/tree").json()[0]) == [*KEYS, "children"]


def test_replacing_a_category_gives_omitted_fields_their_defaults(
    client: httpx2.Client, make: Make
) -> None:
    make("categories")
    before = make("categories", name="Lamps", slug="l", description="Warm.", parent_id=1)
    response = client.put("/categories/2", json={"name": "Torches"})
    assert response.status_code == 200
    expected = {"name": "Torches", "slug": "torches", "description": None, "parent_id": None}
    assert response.json() == before | expected
    assert client.get("/categories/2").json() == response.json()


def test_patching_a_category_changes_only_what_is_sent(client: httpx2.Client, make: Make) -> None:
    before = make("categories", name="Lamps", description="Warm.")
    make("categories")
    for change in (
        {},
        {"name": "Torches"},
        {"slug": "t"},
        {"parent_id": 2},
        {"description": None},
        {"parent_id": None},
    ):
        response = client.patch("/categories/1", json=change)
        assert (response.status_code, response.json()) == (200, before | change)
        assert client.get("/categories/1").json() == response.json()
        before = response.json()


def test_a_deleted_category_is_gone(client: httpx2.Client, make: Make) -> None:
    make("categories")
    response = client.delete("/categories/1")
    assert (response.status_code, response.content) == (204, b"")
    assert client.get("/categories/").json() == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/categories/7"),
        ("PUT", "/categories/7"),
        ("PATCH", "/categories/7"),
        ("DELETE", "/categories/7"),
        ("GET", "/categories/7/products"),
    ],
)
def test_an_unknown_category_is_404(client: httpx2.Client, method: str, path: str) -> None:
    body = {"name": "x"} if method in ("PUT", "PATCH") else None
    response = client.request(method, path, json=body)
    assert (response.status_code, response.json()["detail"]) == (404, "Category not found")


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["b", "a", "B", "Ä"]),
        ("sort=name", ["B", "a", "b", "Ä"]),
        ("sort=-name", ["Ä", "b", "a", "B"]),
        ("sort=-id", ["Ä", "B", "a", "b"]),
        ("parent_id=1", ["a", "B"]),
        ("parent_id=1&sort=name", ["B", "a"]),
        ("parent_id=9", []),
    ],
)
def test_categories_are_filtered_and_sorted(
    client: httpx2.Client, make: Make, query: str, names: list[str]
) -> None:
    for name, parent_id in [("b", None), ("a", 1), ("B", 1), ("Ä", 2)]:
        make("categories", name=name, parent_id=parent_id)
    assert [c["name"] for c in client.get(f"/categories/?{query}").json()] == names


@pytest.mark.parametrize("query", ["sort=slug", "parent_id=0", "parent_id=x", "q=lamp"])
def test_a_bad_query_is_422(client: httpx2.Client, query: str) -> None:
    assert client.get(f"/categories/?{query}").status_code == 422


# What a category may be


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"name": "x", "slug": "a\0b"}, "slug"),
        ({"name": "x", "description": "a\0b"}, "description"),
        ({"name": "x", "parent_id": 0}, "parent_id"),
        ({"name": "x", "parent_id": 2**31}, "parent_id"),
        ({"name": "x", "parent_id": "one"}, "parent_id"),
        ({"name": "x", "parent": 1}, "parent"),
        ({"name": "x", "created_at": "2026-01-01T00:00:00Z"}, "created_at"),
    ],
)
def test_a_bad_category_is_422_and_names_the_field(
    client: httpx2.Client, body: dict[str, object], field: str
) -> None:
    for response in (
        client.post("/categories/", json=body),
        client.put("/categories/1", json=body),
    ):
        assert response.status_code == 422
        assert [error["loc"] for error in response.json()["errors"]] == [["body", field]]
    assert client.get("/categories/").json() == []


@pytest.mark.parametrize("change", [{"name": None}, {"slug": None}, {"name": ""}, {"nmae": "x"}])
def test_a_bad_change_is_422_and_changes_nothing(
    client: httpx2.Client, make: Make, change: Json
) -> None:
    before = make("categories")
    response = client.patch("/categories/1", json={"description": "new"} | change)
    assert response.status_code == 422
    assert client.get("/categories/1").json() == before


def test_a_name_is_unique_by_code_point(client: httpx2.Client, make: Make) -> None:
    for name in ("Garden", "garden", "Garden ", "Gardén", "💡" * 100):
        assert make("categories", name=name)["name"] == name
    for response in (
        client.post("/categories/", json={"name": "Garden"}),
        client.put("/categories/2", json={"name": "Garden"}),
        client.patch("/categories/2", json={"name": "Garden"}),
    ):
        assert (response.status_code, response.json()["detail"]) == (409, "name already exists")
    assert client.get("/categories/2").json()["name"] == "garden"


def test_an_unknown_parent_is_409(client: httpx2.Client, make: Make) -> None:
    before = make("categories")
    body = {"name": "Lamps", "parent_id": 9}
    for response in (
        client.post("/categories/", json=body),
        client.put("/categories/1", json=body),
        client.patch("/categories/1", json={"parent_id": 9}),
    ):
        assert response.status_code == 409
        assert response.json()["detail"] == "parent_id refers to nothing"
    assert client.get("/categories/").json() == [before]


# Slugs


def test_slugs_made_from_names_are_distinct(make: Make) -> None:
    names = ["Lamps & Co", "lamps co", "LAMPS CO", *(f"Lamps{'!' * n} Co" for n in range(1, 9))]
    slugs = [make("categories", name=name)["slug"] for name in names]
    assert slugs == ["lamps-co", *(f"lamps-co-{n}" for n in range(2, 12))]


def test_a_name_without_letters_gets_a_slug_too(make: Make) -> None:
    slugs = [make("categories", name=name)["slug"] for name in ("!!!", "???", "💡", "電気")]
    assert len(set(slugs)) == 4
    assert all(re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", slug) for slug in slugs)


def test_a_given_slug_that_is_taken_is_409(client: httpx2.Client, make: Make) -> None:
    make("categories", slug="lamps")
    before = make("categories", slug="torches")
    for response in (
        client.post("/categories/", json={"name": "x", "slug": "lamps"}),
        client.put("/categories/2", json={"name": "x", "slug": "lamps"}),
        client.patch("/categories/2", json={"slug": "lamps"}),
    ):
        assert (response.status_code, response.json()["detail"]) == (409, "slug already exists")
    assert client.get("/categories/2").json() == before


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        ({"name": "garden"}, "garden-2"),
        ({"name": "GARDEN"}, "garden-2"),
        ({"name": "Lamps"}, "lamps"),
        ({"name": "lamps, too"}, "lamps-too"),
        ({"name": "Lamps", "slug": "light"}, "light"),
        ({"name": "garden", "slug": "light"}, "light"),
    ],
)
def test_replacing_without_a_slug_makes_it_anew_unless_the_name_stays(
    client: httpx2.Client, make: Make, body: Json, slug: str
) -> None:
    make("categories", name="Garden")
    assert make("categories", name="garden")["slug"] == "garden-2"
    assert client.put("/categories/2", json=body).json()["slug"] == slug


def test_replacing_keeps_a_given_slug_while_the_name_stays(
    client: httpx2.Client, make: Make
) -> None:
    make("categories", name="Garden", slug="green")
    assert client.put("/categories/1", json={"name": "Garden"}).json()["slug"] == "green"


# The tree


@pytest.mark.parametrize(("category", "parent"), [(1, 1), (1, 2), (1, 3), (2, 3), (1, 40)])
def test_a_category_cannot_be_its_own_ancestor(
    client: httpx2.Client, make: Make, category: int, parent: int
) -> None:
    chain(make, parent)
    before = client.get(f"/categories/{category}").json()
    body = {"name": before["name"], "parent_id": parent}
    for response in (
        client.put(f"/categories/{category}", json=body),
        client.patch(f"/categories/{category}", json={"parent_id": parent}),
    ):
        assert (response.status_code, response.json()["detail"]) == (400, CYCLE)
    assert client.get(f"/categories/{category}").json() == before


def test_a_category_may_move_up_and_to_another_branch(client: httpx2.Client, make: Make) -> None:
    chain(make, 4)
    make("categories", parent_id=1)
    for category, parent in [(4, 2), (3, 5), (5, None), (1, 3)]:
        response = client.patch(f"/categories/{category}", json={"parent_id": parent})
        assert (response.status_code, response.json()["parent_id"]) == (200, parent)


def test_the_tree_holds_every_category_below_its_parent(client: httpx2.Client, make: Make) -> None:
    assert client.get("/categories/tree").json() == []
    a = make("categories", name="A", description='"Quotes" and \\ Ä 💡')
    b = make("categories", name="B")
    a1 = make("categories", name="A1", parent_id=1)
    a2 = make("categories", name="A2", parent_id=1)
    a11 = make("categories", name="A11", parent_id=3)
    assert client.get("/categories/tree").json() == [
        {
            **a,
            "children": [
                {**a1, "children": [{**a11, "children": []}]},
                {**a2, "children": []},
            ],
        },
        {**b, "children": []},
    ]


def test_the_tree_is_one_query_whatever_its_depth(client: httpx2.Client, make: Make) -> None:
    chain(make, 320)
    queries: list[str] = []

    def note(*args: Json) -> None:
        queries.append(args[2])

    sa.event.listen(db.database.reader.engine, "before_cursor_execute", note)
    response = client.get("/categories/tree")
    sa.event.remove(db.database.reader.engine, "before_cursor_execute", note)
    assert (response.status_code, len(queries)) == (200, 1)
    branch, names = response.json(), []
    while branch:
        assert len(branch) == 1
        names.append(branch[0]["name"])
        branch = branch[0]["children"]
    assert names == [f"Level {n}" for n in range(1, 321)]


# Products, and what a deletion leaves


def test_a_category_is_given_with_its_products(client: httpx2.Client, make: Make) -> None:
    make("categories", name="Lamps")
    make("categories", name="Empty", parent_id=1)
    first, _, last = (make("products", category_id=id) for id in (1, None, 1))
    response = client.get("/categories/1/products")
    assert response.status_code == 200
    assert response.json() == {"category": "Lamps", "product_count": 2, "products": [first, last]}
    empty = {"category": "Empty", "product_count": 0, "products": []}
    assert client.get("/categories/2/products").json() == empty


def test_deleting_a_category_sets_the_links_to_it_to_null(
    client: httpx2.Client, make: Make
) -> None:
    chain(make, 3)
    child, grandchild = (client.get(f"/categories/{id}").json() for id in (2, 3))
    product, other = make("products", category_id=1), make("products", category_id=2)
    assert client.delete("/categories/1").status_code == 204
    assert client.get("/categories/").json() == [child | {"parent_id": None}, grandchild]
    assert client.get("/products/1").json() == product | {"category_id": None}
    assert client.get("/products/2").json() == other
