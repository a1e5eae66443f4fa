"""Items: the smallest entity, and so the place where the usual six routes are spelled out."""

import httpx2
import pytest
from conftest import Make
from document import columns_of, with_defaults
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import Item

pytestmark = pytest.mark.every_database

LAMP = {"title": "Lamp", "description": "Warm light.", "price": 19.99, "is_available": False}


def test_a_created_item_is_answered_with_its_defaults_and_location(client: httpx2.Client) -> None:
    response = client.post("/items/", json={"title": "Mechanical Keyboard", "price": 89.99})
    assert response.status_code == 201
    assert response.headers["Location"] == "/items/1"
    assert response.json() == with_defaults(
        Item,
        {
            "id": 1,
            "title": "Mechanical Keyboard",
            "description": None,
            "price": 89.99,
            "is_available": True,
        },
    )
    assert client.get("/items/1").json() == response.json()


def test_keys_come_in_declared_order_from_every_route(client: httpx2.Client, make: Make) -> None:
    keys = columns_of(Item)
    make("items")
    patched = client.patch("/items/1", json={"price": 2})
    replaced = client.put("/items/1", json={"price": 3, "title": "x"})
    for row in (client.get("/items/1").json(), client.get("/items/").json()[0]):
        assert list(row) == keys
    assert list(patched.json()) == list(replaced.json()) == keys


def test_replacing_an_item_gives_omitted_fields_their_defaults(
    client: httpx2.Client, make: Make
) -> None:
    make("items", **LAMP)
    response = client.put("/items/1", json={"title": "Torch", "price": "5.00"})
    assert response.status_code == 200
    expected = {"id": 1, "title": "Torch", "description": None, "price": 5.0, "is_available": True}
    assert response.json() == with_defaults(Item, expected)
    assert client.get("/items/1").json() == response.json()


def test_patching_an_item_changes_only_what_is_sent(client: httpx2.Client, make: Make) -> None:
    make("items", **LAMP)
    response = client.patch("/items/1", json={"price": 9.5})
    assert response.status_code == 200
    assert response.json() == with_defaults(Item, {"id": 1, **LAMP, "price": 9.5})
    assert client.get("/items/1").json() == response.json()


def test_patching_with_an_explicit_null_empties_a_field_that_may_be_null(
    client: httpx2.Client, make: Make
) -> None:
    make("items", **LAMP)
    assert client.patch("/items/1", json={"description": None}).json()["description"] is None


def test_patching_with_nothing_changes_nothing(client: httpx2.Client, make: Make) -> None:
    before = make("items", **LAMP)
    response = client.patch("/items/1", json={})
    assert (response.status_code, response.json()) == (200, before)


def test_a_deleted_item_is_gone_and_its_id_is_not_used_again(
    client: httpx2.Client, make: Make
) -> None:
    make("items")
    response = client.delete("/items/1")
    assert (response.status_code, response.content) == (204, b"")
    assert client.get("/items/1").json()["detail"] == "Item not found"
    assert make("items")["id"] == 2


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_an_unknown_item_is_404_for_every_method(client: httpx2.Client, method: str) -> None:
    body = {"title": "x", "price": 1} if method in ("PUT", "PATCH") else None
    response = client.request(method, "/items/7", json=body)
    assert (response.status_code, response.json()["detail"]) == (404, "Item not found")


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("", ["Red lamp", "blue LAMP", "100% wool", "a_b"]),
        ("is_available=true", ["Red lamp", "100% wool", "a_b"]),
        ("is_available=false", ["blue LAMP"]),
        ("min_price=20", ["blue LAMP", "100% wool"]),
        ("max_price=20", ["Red lamp", "blue LAMP", "a_b"]),
        ("min_price=20&max_price=20.00", ["blue LAMP"]),
        ("q=lamp", ["Red lamp", "blue LAMP"]),
        ("q=%25", ["100% wool"]),
        ("q=_", ["a_b"]),
        ("q=", ["Red lamp", "blue LAMP", "100% wool", "a_b"]),
        ("q=nothing", []),
        ("sort=title", ["100% wool", "Red lamp", "a_b", "blue LAMP"]),
        ("sort=-price", ["100% wool", "blue LAMP", "Red lamp", "a_b"]),
        ("sort=price&limit=2", ["a_b", "Red lamp"]),
    ],
)
def test_items_are_filtered_and_sorted(
    client: httpx2.Client, make: Make, query: str, titles: list[str]
) -> None:
    make("items", title="Red lamp", price=10)
    make("items", title="blue LAMP", price=20, is_available=False)
    make("items", title="100% wool", price=30.5)
    make("items", title="a_b", price=0.01)
    assert [item["title"] for item in client.get(f"/items/?{query}").json()] == titles


def test_searching_ignores_case_in_every_alphabet(client: httpx2.Client, make: Make) -> None:
    make("items", title="ÄRGER Žluťoučký")
    for q in ("ärger", "ÄRGER", "ŽLUŤ", "žluť"):
        assert len(client.get("/items/", params={"q": q}).json()) == 1


def test_searching_knows_the_same_letters_on_every_database(
    client: httpx2.Client, make: Make
) -> None:
    letters = [chr(code) for code in range(0x110000) if chr(code).lower() != chr(code)]
    assert len(letters) > 1400
    for start in range(0, len(letters), 66):
        make("items", title="x".join(letters[start : start + 66]))
    for start in range(0, len(letters), 66):
        q = "x".join(letters[start : start + 66]).lower()
        found = client.get("/items/", params={"q": q}).json()
        assert [item["id"] for item in found] == [start // 66 + 1], q


@pytest.mark.every_database
@pytest.mark.parametrize("q", ["k", "KEL", "i", "lica", "5/%", "kilo", "\u212a", "wool"])
def test_searching_finds_letters_whose_small_one_is_in_another_alphabet(
    client: httpx2.Client, make: Make, q: str
) -> None:
    titles = ["300 \u212aelvin", "\u212aILO", "\u0130lica", "Il\u0131ca", "5/% wool", "Äkel", "æ"]
    for title in titles:
        make("items", title=title)
    found = [item["title"] for item in client.get("/items/", params={"q": q}).json()]
    assert found == [title for title in titles if q.lower() in title.lower()]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"price": 1}, "title"),
        ({"title": "", "price": 1}, "title"),
        ({"title": "x" * 201, "price": 1}, "title"),
        ({"title": "a\0b", "price": 1}, "title"),
        ({"title": "\u2003\n", "price": 1}, "title"),
        ({"title": 5, "price": 1}, "title"),
        ({"title": "x"}, "price"),
        ({"title": "x", "price": 0}, "price"),
        ({"title": "x", "price": -2}, "price"),
        ({"title": "x", "price": 89.999}, "price"),
        ({"title": "x", "price": 100000000}, "price"),
        ({"title": "x", "price": "nan"}, "price"),
        ({"title": "x", "price": None}, "price"),
        ({"title": "x", "price": 1, "is_available": "maybe"}, "is_available"),
        ({"title": "x", "price": 1, "description": "x" * 10_001}, "description"),
        ({"title": "x", "price": 1, "prise": 2}, "prise"),
    ],
)
def test_a_bad_item_is_422_and_names_the_field(
    client: httpx2.Client, body: dict[str, object], field: str
) -> None:
    for response in (client.post("/items/", json=body), client.put("/items/1", json=body)):
        assert response.status_code == 422
        assert [error["loc"] for error in response.json()["errors"]] == [["body", field]]
    assert client.get("/items/").json() == []


def test_a_null_is_422_where_a_field_cannot_be_null(client: httpx2.Client, make: Make) -> None:
    before = make("items")
    for field in ("title", "price", "is_available"):
        assert client.patch("/items/1", json={field: None}).status_code == 422
    assert client.get("/items/1").json() == before


def test_prices_are_exact_to_the_last_cent(client: httpx2.Client, make: Make) -> None:
    for price in (0.01, 0.29, 1.1, 79.99, 99999999.99):
        assert make("items", price=price)["price"] == price
    assert [i["price"] for i in client.get("/items/").json()] == [
        0.01,
        0.29,
        1.1,
        79.99,
        99999999.99,
    ]


@pytest.mark.parametrize("text", ["19.99", "19.990", f"19.99{'0' * 40}"])
def test_an_amount_is_the_same_as_a_text_and_as_a_number(client: httpx2.Client, text: str) -> None:
    for sent in (text, f'"{text}"'):
        body = f'{{"title": "Lamp", "price": {sent}}}'
        answer = client.post("/items/", content=body, headers={"Content-Type": "application/json"})
        assert answer.json().get("price") == 19.99, answer.text
    query = f"?min_price={text}&max_price={text}"
    assert len(client.get(f"/items/{query}").json()) == 2


@pytest.mark.parametrize("text", ["89.999", f"19.99{'0' * 40}1", "100000000.00"])
def test_an_amount_with_more_digits_is_refused_either_way(client: httpx2.Client, text: str) -> None:
    for sent in (text, f'"{text}"'):
        body = f'{{"title": "Lamp", "price": {sent}}}'
        answer = client.post("/items/", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
    assert client.get(f"/items/?max_price={text}").status_code == 422


@pytest.mark.parametrize(
    "text",
    ["1e2", " 19.99 ", "+5", "１９", "5.", ".5", "1_0", "1,5", "0x1", "-", ""],  # noqa: RUF001
)
def test_an_amount_is_written_in_plain_digits(client: httpx2.Client, text: str) -> None:
    answer = client.post("/items/", json={"title": "Lamp", "price": text})
    assert answer.json()["detail"] == "price: Input should be an amount such as 79.99"


# Any text that can be encoded, but for U+0000.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=200)
CENTS = st.integers(min_value=1, max_value=9_999_999_999)
QUICK = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@QUICK
@given(title=TEXT.filter(str.strip), description=TEXT, cents=CENTS)
def test_what_is_stored_comes_back_to_the_last_character_and_cent(
    client: httpx2.Client, title: str, description: str, cents: int
) -> None:
    price = f"{cents // 100}.{cents % 100:02}"
    sent = {"title": title, "description": description, "price": price, "is_available": True}
    created = client.post("/items/", json=sent).json()
    expected = {"id": created["id"], **sent, "price": float(price)}
    assert created == with_defaults(Item, expected)
    assert client.get(f"/items/{created['id']}").json() == created


@QUICK
@given(title=TEXT.filter(str.strip), data=st.data())
def test_an_item_is_found_by_any_part_of_its_title(
    client: httpx2.Client, title: str, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(title) - 1))
    last = data.draw(st.integers(first + 1, len(title)))
    id = client.post("/items/", json={"title": title, "price": 1}).json()["id"]
    found = client.get("/items/", params={"q": title[first:last], "sort": "-id"}).json()
    assert id in [item["id"] for item in found]
