"""Cornershop: the API of a small shop.

Sections, in the same order here, in models.py, in the tests and in docs/api.md:

    items          the smallest entity: the one to copy
    users, categories, products, orders, notifications, posts, tags,
    accounts, transfers, payments, changes
    service        the root, health, log-in and log-out
    admin          pages for the shopkeeper: forms that do what the routes do, a dashboard
    command line   serve, migrate, createsuperuser, demo, backup

A section reads list, create, read, replace, update, delete, then what is its own. A route is a
plain function with a `session`, which is `Read`, `Write` or `Once` (see db.py). Who may call it
stands in its decorator: `Anyone`, the `Owner` of what it is about, or a `Superuser`.
"""

import random
import re
import secrets
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Any, cast

from fastapi import Depends, Form, Query, Request, Response
from fastapi.sse import EventSourceResponse
from sqlalchemy import ColumnElement, delete, exists, func, or_, update
from sqlalchemy.orm import contains_eager, joinedload, selectinload
from sqlmodel import Session, col, select

import db
from db import (
    Anyone,
    AnyoneOrOwner,
    Once,
    Owner,
    OwnerOrPage,
    Public,
    Read,
    Superuser,
    Write,
    WriteLong,
    database,
)
from kit import (
    KEY_SHARE,
    MAX_MONEY,
    PLAIN,
    WELCOME,
    Commands,
    ConflictError,
    Count,
    Email,
    Events,
    FileFormat,
    Filling,
    Id,
    ImportCounts,
    LogIn,
    Moment,
    Money,
    Paged,
    PageNumber,
    PageSize,
    Search,
    SearchFor,
    Service,
    Skipped,
    Skipping,
    Slug,
    Stream,
    TableFile,
    Token,
    Total,
    Uploaded,
    add,
    add_to,
    bad_request,
    caller_of,
    contains,
    count_rows,
    embed,
    expect_missing,
    favourite,
    filling,
    first_or_404,
    get_or_404,
    in_order,
    insert_rows,
    is_needed,
    is_own,
    likely_price,
    lock_rows,
    new_stamp,
    not_found,
    now,
    numbered_page,
    page,
    passwords,
    problems,
    refuse_all_but_superusers,
    refuse_others,
    retry_on_conflict,
    slug_for,
    slug_of,
    sortable,
    spread,
    try_insert,
    unauthorized,
    welcome,
)
from kit.admin import Action, Admin, AdminView, Chart, ChoiceFilter, Dashboard, Table
from models import (
    MAX_STOCK,
    Account,
    AccountCreate,
    ActiveCount,
    Category,
    CategoryCreate,
    CategoryProducts,
    CategoryStats,
    CategoryTree,
    CategoryUpdate,
    Change,
    DailyOrders,
    DatabaseHealth,
    DeactivatedCount,
    DeletedCount,
    Health,
    Item,
    ItemCreate,
    ItemUpdate,
    NewNotification,
    NewOrder,
    NewPayment,
    Notice,
    Notification,
    Order,
    OrderCreate,
    OrderDetails,
    OrderLine,
    OrderStats,
    OrderStatus,
    OrderStatusChange,
    OrderSummary,
    OrderWithItems,
    Payment,
    PaymentCreate,
    Post,
    PostCreate,
    PostStatus,
    PostTag,
    PostUpdate,
    PostViews,
    PostWithTags,
    Product,
    ProductCreate,
    ProductEdit,
    ProductPage,
    ProductUpdate,
    ProductWithCategory,
    Sku,
    StatusChange,
    StockChange,
    Tag,
    TagCreate,
    TagUpdate,
    TopSpender,
    Transfer,
    TransferCreate,
    User,
    UserByAdmin,
    UserCreate,
    UserCreates,
    UserPage,
    UserReplacement,
    UserUpdate,
    UserWithPosts,
)

app = Service(database, db.migrations, db.async_session)

# Items ----------------------------------------------------------------------------------


@app.get("/items/", dependencies=[Anyone])
def list_items(
    session: Read,
    paging: Paged,
    sort: Annotated[str, sortable("id", "title", "price")] = "id",
    is_available: bool | None = None,
    min_price: Money | None = None,
    max_price: Money | None = None,
    q: Search | None = None,
) -> list[Item]:
    """List items. `q` is looked for in the title."""
    query = select(Item)
    if is_available is not None:
        query = query.where(Item.is_available == is_available)
    if min_price is not None:
        query = query.where(Item.price >= min_price)
    if max_price is not None:
        query = query.where(Item.price <= max_price)
    if q:
        query = query.where(contains(Item.title, q))
    return page(session, query, paging, sort)


@app.post("/items/", dependencies=[Superuser], status_code=201)
def create_item(session: Write, data: ItemCreate) -> Item:
    """Create an item."""
    return add(session, Item.model_validate(data))


@app.get("/items/{item_id}", dependencies=[Anyone])
def read_item(session: Read, item_id: Id) -> Item:
    """Read an item."""
    return get_or_404(session, Item, item_id)


@app.put("/items/{item_id}", dependencies=[Superuser])
def replace_item(session: Write, item_id: Id, data: ItemCreate) -> Item:
    """Replace an item: fields that are left out get their defaults."""
    return get_or_404(session, Item, item_id).sqlmodel_update(data.model_dump())


@app.patch("/items/{item_id}", dependencies=[Superuser])
def update_item(session: Write, item_id: Id, data: ItemUpdate) -> Item:
    """Change the fields that are sent."""
    return get_or_404(session, Item, item_id).sqlmodel_update(data.model_dump())


@app.delete("/items/{item_id}", dependencies=[Superuser], status_code=204)
def delete_item(session: Write, item_id: Id) -> None:
    """Delete an item."""
    session.delete(get_or_404(session, Item, item_id))


# Users ----------------------------------------------------------------------------------

# A body with its password hashed, which is done before the transaction begins.
NewUser = Annotated[dict[str, Any], Depends(db.bodies.to_create(UserCreate))]
NewUsers = Annotated[list[dict[str, Any]], Depends(db.bodies.to_create_each(UserCreates))]
ReplacedUser = Annotated[dict[str, Any], Depends(db.bodies.to_change(UserReplacement))]
ChangedUser = Annotated[dict[str, Any], Depends(db.bodies.to_change(UserUpdate))]


@app.get("/users/", dependencies=[Superuser])
def list_users(
    session: Read,
    paging: Paged,
    sort: Annotated[str, sortable("id", "username", "created_at")] = "id",
    is_active: bool | None = None,
    q: Search | None = None,
) -> list[User]:
    """List users. `q` is looked for in the username, the e-mail address and the full name."""
    query = select(User)
    if is_active is not None:
        query = query.where(User.is_active == is_active)
    if q:
        query = query.where(named_like(q))
    return page(session, query, paging, sort)


@app.post("/users/", dependencies=[Anyone], status_code=201, responses=problems(429))
def create_user(session: Write, data: NewUser) -> User:
    """Create a user. Username and e-mail address are unique, whatever their case.

    After 20 sign-ups from an address within 5 minutes, those that failed too, the next is a 429.
    """
    return add(session, User.model_validate(data))


@app.get("/users/{user_id}", dependencies=[Owner])
def read_user(session: Read, user_id: Id) -> User:
    """Read a user."""
    return get_or_404(session, User, user_id)


@app.put("/users/{user_id}", dependencies=[Owner], responses=problems(429))
def replace_user(session: Write, user_id: Id, data: ReplacedUser) -> User:
    """Replace a user, password included: fields that are left out get their defaults.

    For yourself, add your `current_password`.
    """
    return get_or_404(session, User, user_id).sqlmodel_update(data)


@app.patch("/users/{user_id}", dependencies=[Owner], responses=problems(400, 429))
def update_user(session: Write, user_id: Id, data: ChangedUser) -> User:
    """Change the fields that are sent; `is_active` and `is_superuser` are for superusers.

    For a new password or e-mail address of your own, add your `current_password`: without it, or
    with a wrong one, it is a 403, and a 429 after as many as end a log-in.
    """
    if {"is_active", "is_superuser"} & data.keys():
        refuse_all_but_superusers(session, "is_active and is_superuser are for superusers")
    if False in (data.get("is_active"), data.get("is_superuser")):
        keep_a_superuser(session, user_id)
    return get_or_404(session, User, user_id).sqlmodel_update(data)


@app.delete("/users/{user_id}", dependencies=[Superuser], status_code=204, responses=problems(400))
def delete_user(session: Write, user_id: Id) -> None:
    """Delete a user with their posts, orders and notifications; not while they have an account."""
    keep_a_superuser(session, user_id)
    session.delete(get_or_404(session, User, user_id))


@app.post("/users/bulk", dependencies=[Superuser], status_code=201)
def create_users(session: Write, response: Response, data: NewUsers) -> list[User]:
    """Create up to 100 users: all of them, or on any conflict none."""
    users = [User.model_validate(each) for each in data]
    session.add_all(users)
    response.headers["Location"] = app.url_path_for("list_users")
    return users


@app.get("/users/search", dependencies=[Superuser])
def search_users(session: Read, paging: Paged, q: SearchFor) -> list[User]:
    """Search usernames, e-mail addresses and full names."""
    return page(session, select(User).where(named_like(q)), paging)


@app.get("/users/by-email/{email:path}", dependencies=[Owner])
def read_user_by_email(session: Read, email: Email) -> User:
    """Read the user with this e-mail address, in whatever case."""
    user = session.exec(select(User).where(User.email == email)).first()
    refuse_others(session, user.id if user else 0)  # alike, whether there is one or not
    return user or not_found("User not found")


@app.get("/users/me", dependencies=[Owner])
def read_me(session: Read) -> User:
    """Read the user who is logged in."""
    if not caller_of(session).id:
        raise unauthorized("Nobody is logged in")
    return get_or_404(session, User, caller_of(session).id)


@app.get("/users/page", dependencies=[Superuser], response_model=UserPage)
def read_users_page(
    session: Read, page: PageNumber = 1, page_size: PageSize = 20
) -> dict[str, Any]:
    """Users in numbered pages, newest first."""
    return numbered_page(session, select(User), page, page_size)


@app.get("/users/stats/active-count", dependencies=[Superuser])
def count_active_users(session: Read) -> ActiveCount:
    """Count the active users."""
    return ActiveCount(active_users=count_rows(session, select(User).where(User.is_active)))


@app.delete("/users/{user_id}/soft", dependencies=[Owner], responses=problems(400))
def deactivate_user(session: Write, user_id: Id) -> Notice:
    """Deactivate a user, who keeps everything."""
    refuse_others(session, user_id)
    keep_a_superuser(session, user_id)
    get_or_404(session, User, user_id).is_active = False
    return Notice(message=f"User {user_id} has been deactivated")


users_file = TableFile(
    User, "users", example={"id": 1, "username": "johndoe", "email": "john@example.com"}
)


@app.get("/users/export", dependencies=[Superuser], **users_file.exports)
def export_users(session: Read, format: FileFormat = "csv") -> Response:
    """All users as a file, like products; without their passwords, so there is no import."""
    return users_file.export(session, format)


@app.patch("/users/bulk/deactivate", dependencies=[Superuser])
def deactivate_users(
    session: WriteLong, days: Annotated[int, Query(ge=0, le=36_500), PLAIN]
) -> DeactivatedCount:
    """Deactivate users who have not changed for more than so many days, but no superusers."""
    since = now() - timedelta(days=days)
    idle = (
        update(User)
        .where(col(User.is_active), ~col(User.is_superuser), col(User.updated_at) < since)
        .values(is_active=False, stamp=new_stamp(), version=User.version + 1)
    )
    return DeactivatedCount(deactivated_count=session.exec(idle).rowcount)


@app.delete("/users/bulk/inactive", dependencies=[Superuser])
def delete_inactive_users(session: WriteLong) -> DeletedCount:
    """Delete the inactive users, except superusers and those with an account."""
    inactive = ~col(User.is_active), ~col(User.is_superuser)
    gone = delete(User).where(*inactive, ~is_needed(session, User))
    return DeletedCount(deleted_count=session.exec(gone).rowcount)


def keep_a_superuser(session: Session, user_id: int) -> None:
    """Before this user goes: 400 for the last active superuser, where one has to log in.

    All of them are locked until the end, in the order of their ids, before any row else: of two
    who demote each other, the second finds that it would be the last.
    """
    active = select(User.id).where(User.is_active, User.is_superuser).order_by(col(User.id))
    if not db.access.is_open() and [*session.exec(active.with_for_update())] == [user_id]:
        bad_request("The last superuser has to stay")


def named_like(q: str) -> ColumnElement[bool]:
    return or_(*(contains(text, q) for text in (User.username, User.email, User.full_name)))


# Categories -----------------------------------------------------------------------------


@app.get("/categories/", dependencies=[Anyone])
def list_categories(
    session: Read,
    paging: Paged,
    sort: Annotated[str, sortable("id", "name")] = "id",
    parent_id: Id | None = None,
) -> list[Category]:
    """List categories."""
    query = select(Category)
    if parent_id is not None:
        query = query.where(Category.parent_id == parent_id)
    return page(session, query, paging, sort)


@app.post("/categories/", dependencies=[Superuser], status_code=201)
def create_category(session: Write, data: CategoryCreate) -> Category:
    """Create a category. Without a slug it gets one made from its name."""
    slug = slug_for(session, Category, data)
    return add(session, Category.model_validate(data, update={"slug": slug}))


@app.get("/categories/{category_id}", dependencies=[Anyone])
def read_category(session: Read, category_id: Id) -> Category:
    """Read a category."""
    return get_or_404(session, Category, category_id)


@app.put("/categories/{category_id}", dependencies=[Superuser], responses=problems(400))
def replace_category(session: Write, category_id: Id, data: CategoryCreate) -> Category:
    """Replace a category: fields that are left out get their defaults."""
    refuse_cycle(session, category_id, data.parent_id)
    category = get_or_404(session, Category, category_id)
    slug = slug_for(session, Category, data, category)
    return category.sqlmodel_update(data.model_dump() | {"slug": slug})


@app.patch("/categories/{category_id}", dependencies=[Superuser], responses=problems(400))
def update_category(session: Write, category_id: Id, data: CategoryUpdate) -> Category:
    """Change the fields that are sent."""
    changes = data.model_dump()
    refuse_cycle(session, category_id, changes.get("parent_id"))
    return get_or_404(session, Category, category_id).sqlmodel_update(changes)


@app.delete("/categories/{category_id}", dependencies=[Superuser], status_code=204)
def delete_category(session: Write, category_id: Id) -> None:
    """Delete a category. Its products and the categories below it stay, without it."""
    category = get_or_404(session, Category, category_id)
    below = update(Category).where(col(Category.parent_id) == category_id)
    session.exec(below.values(parent_id=None, version=Category.version + 1))
    inside = update(Product).where(col(Product.category_id) == category_id)
    kept = {"updated_at": Product.updated_at, "version": Product.version + 1}
    session.exec(inside.values(category_id=None, **kept))
    session.delete(category)


@app.get("/categories/tree", dependencies=[Anyone], response_model=list[CategoryTree])
def read_category_tree(session: Read) -> Response:
    """All categories, each with those below it as `children`."""
    below: dict[int | None, list[str | Category]] = defaultdict(list)
    for category in session.exec(select(Category).order_by(col(Category.id).desc())):
        siblings = below[category.parent_id]
        siblings += [",", category] if siblings else [category]
    # Written out with a stack, not by recursion: encoders give up some hundred levels down.
    stack, written = ["]", *below[None], "["], []
    while stack:
        part = stack.pop()
        if isinstance(part, Category):
            stack += ["]}", *below[part.id]]
            part = part.model_dump_json().removesuffix("}") + ',"children":['
        written.append(part)
    return Response("".join(written), media_type="application/json")


categories_file = TableFile(
    Category,
    "categories",
    key="slug",
    refers={"parent_id": (Category.slug, Category.name)},
    tree="parent_id",
    example={"slug": "outdoor", "name": "Outdoor", "parent": None},
)


@app.get("/categories/export", dependencies=[Superuser], **categories_file.exports)
def export_categories(session: Read, format: FileFormat = "csv") -> Response:
    """All categories as a file, like products; with the slug of the `parent`."""
    return categories_file.export(session, format)


@app.post("/categories/import", dependencies=[Superuser], **categories_file.imports)
def import_categories(session: WriteLong, upload: Uploaded) -> ImportCounts:
    """Create or update categories, by their slug: all lines of the file or, if one is bad, none.

    A parent may also be one that another line makes, before or after it.
    """
    return categories_file.load(session, upload)


def refuse_cycle(session: Session, category_id: int, parent_id: int | None) -> None:
    """Refuse a parent that is the category itself or below it.

    All categories are locked first, in the order of their ids: two that move under each other
    at the same time would else both be right.
    """
    if parent_id is None:
        return
    links = select(Category.id, Category.parent_id).order_by(col(Category.id)).with_for_update()
    parents, seen = dict(session.exec(links).all()), set()
    while category_id in parents and parent_id is not None and parent_id not in seen:
        if parent_id == category_id:
            bad_request("A category cannot be its own ancestor")
        seen.add(parent_id)
        parent_id = parents.get(parent_id)


# Products -------------------------------------------------------------------------------

WITH_CATEGORY = joinedload(cast(Any, Product.category))


@app.get("/products/", dependencies=[Anyone])
def list_products(
    session: Read,
    paging: Paged,
    sort: Annotated[str, sortable("id", "name", "price", "stock_quantity", "created_at")] = "id",
    category_id: Id | None = None,
    min_price: Money | None = None,
    max_price: Money | None = None,
    is_active: bool | None = None,
    max_stock: Count | None = None,
    q: Search | None = None,
) -> list[Product]:
    """List products. `q` is looked for in the name."""
    query = select(Product)
    if category_id is not None:
        query = query.where(Product.category_id == category_id)
    if min_price is not None:
        query = query.where(Product.price >= min_price)
    if max_price is not None:
        query = query.where(Product.price <= max_price)
    if is_active is not None:
        query = query.where(Product.is_active == is_active)
    if max_stock is not None:
        query = query.where(Product.stock_quantity <= max_stock)
    if q:
        query = query.where(contains(Product.name, q))
    return page(session, query, paging, sort)


@app.post("/products/", dependencies=[Superuser], status_code=201)
def create_product(session: Write, data: ProductCreate) -> Product:
    """Create a product. Without a slug it gets one made from its name."""
    slug = slug_for(session, Product, data)
    return add(session, Product.model_validate(data, update={"slug": slug}))


@app.get("/products/{product_id}", dependencies=[Anyone])
def read_product(session: Read, product_id: Id) -> Product:
    """Read a product."""
    return get_or_404(session, Product, product_id)


@app.put("/products/{product_id}", dependencies=[Superuser])
def replace_product(session: Write, product_id: Id, data: ProductCreate) -> Product:
    """Replace a product: fields that are left out get their defaults."""
    product = get_or_404(session, Product, product_id)
    slug = slug_for(session, Product, data, product)
    return product.sqlmodel_update(data.model_dump() | {"slug": slug})


@app.patch("/products/{product_id}", dependencies=[Superuser])
def update_product(session: Write, product_id: Id, data: ProductUpdate) -> Product:
    """Change the fields that are sent."""
    return get_or_404(session, Product, product_id).sqlmodel_update(data.model_dump())


@app.delete("/products/{product_id}", dependencies=[Superuser], status_code=204)
def delete_product(session: Write, product_id: Id) -> None:
    """Delete a product; not while an order refers to it."""
    session.delete(get_or_404(session, Product, product_id))


@app.get("/categories/{category_id}/products", dependencies=[Anyone])
def list_category_products(session: Read, paging: Paged, category_id: Id) -> CategoryProducts:
    """A category's products, page by page, and how many they are."""
    category = get_or_404(session, Category, category_id)
    inside = select(Product).where(Product.category_id == category_id)
    count = count_rows(session, inside)
    products = page(session, inside, paging)
    return CategoryProducts(category=category.name, product_count=count, products=products)


@app.get("/products/page", dependencies=[Anyone], response_model=ProductPage)
def read_products_page(
    session: Read, page: PageNumber = 1, page_size: PageSize = 20
) -> dict[str, Any]:
    """Products with their categories, in numbered pages, newest first."""
    query = select(Product).options(WITH_CATEGORY)
    return numbered_page(session, query, page, page_size)


@app.get(
    "/products/with-categories", dependencies=[Anyone], response_model=list[ProductWithCategory]
)
def list_products_with_categories(session: Read, paging: Paged) -> list[Product]:
    """List the active products with their categories."""
    query = select(Product).where(Product.is_active).options(WITH_CATEGORY)
    return page(session, query, paging)


@app.get("/products/by-category-stats", dependencies=[Superuser])
def list_category_stats(session: Read) -> list[CategoryStats]:
    """Count and prices of the active products by category, most products first."""
    count, price, name = func.count(), Product.price, col(Category.name)
    query = (
        cast(Any, select)(name, count, func.sum(price), func.min(price), func.max(price))
        .select_from(Product)
        .outerjoin(Category)
        .where(Product.is_active)
        .group_by(Category.id, name)
        .order_by(count.desc(), name.is_(None), name)
    )
    return [
        CategoryStats(
            category=category,
            product_count=count,
            avg_price=(total / count).quantize(Decimal("0.01"), ROUND_HALF_UP),
            min_price=least,
            max_price=most,
        )
        for category, count, total, least, most in session.exec(query)
    ]


@app.get("/products/by-sku/{sku}", dependencies=[Anyone])
def read_product_by_sku(session: Read, sku: Sku) -> Product:
    """Read the product with this SKU, in whatever case."""
    return first_or_404(session, select(Product).where(Product.sku == sku))


@app.get("/products/by-slug/{slug}", dependencies=[Anyone])
def read_product_by_slug(session: Read, slug: Slug) -> Product:
    """Read the product with this slug."""
    return first_or_404(session, select(Product).where(Product.slug == slug))


LOW_STOCK = 10


@app.get("/products/low-stock", dependencies=[Anyone])
def list_low_stock(session: Read, paging: Skipped, threshold: Count = LOW_STOCK) -> list[Product]:
    """List the active products of which so many or fewer are left, least first."""
    query = select(Product).where(Product.is_active, Product.stock_quantity <= threshold)
    return page(session, query, paging, "stock_quantity")


@app.post("/products/{product_id}/stock", dependencies=[Superuser], responses=problems(400))
def change_stock(session: Write, product_id: Id, data: StockChange) -> Product:
    """Add to the stock, or with a negative change take from it; never below zero."""
    product = get_or_404(session, Product, product_id)
    if product.stock_quantity + data.change < 0:
        bad_request(f"Insufficient stock. Current: {product.stock_quantity}")
    if product.stock_quantity + data.change > MAX_STOCK:
        bad_request(f"Too much stock. Current: {product.stock_quantity}")
    product.stock_quantity += data.change
    return product


products_file = TableFile(
    Product,
    "products",
    key="sku",
    refers={"category_id": (Category.slug, Category.name)},
    slug_from="name",
    adds={"stock_change": "stock_quantity"},
    example={"sku": "WH-002", "name": "Wired Headphones", "price": 29.99},
)


@app.get("/products/export", dependencies=[Superuser], **products_file.exports)
def export_products(session: Read, format: FileFormat = "csv") -> Response:
    """All products as a file: CSV (RFC 4180, for spreadsheets too) or JSON Lines.

    In place of the category's id it has its slug, and at the end the `version`. In CSV an
    apostrophe stands before text that a spreadsheet would take for a formula, and alone for text of
    no length. One also stands after a `;`, a tab or a line break inside a text, where what follows
    would be a formula: for a spreadsheet that separates by these. The import takes it away.
    """
    return products_file.export(session, format)


@app.post("/products/import", dependencies=[Superuser], **products_file.imports)
def import_products(session: WriteLong, upload: Uploaded) -> ImportCounts:
    """Create or update products, by their SKU: all lines of the file or, if one is bad, none.

    It takes what the export gives. Fields that are left out stay as they are, or get their
    defaults; the ids and times of products that exist stay theirs. A `version` other than the
    product's is refused: so an old file undoes nothing. `stock_change` adds to the stock, which
    `stock_quantity` sets. A 422 tells the first 100 bad lines.
    """
    return products_file.load(session, upload)


# Orders ---------------------------------------------------------------------------------

WITH_LINES = joinedload(cast(Any, Order.lines))  # in one statement: as of one moment
WITH_PRODUCTS = WITH_LINES.joinedload(cast(Any, OrderLine.product))
WITH_USER = joinedload(cast(Any, Order.user))
NEXT_STATUS = {
    OrderStatus.pending: {OrderStatus.confirmed, OrderStatus.cancelled},
    OrderStatus.confirmed: {OrderStatus.shipped, OrderStatus.cancelled},
    OrderStatus.shipped: {OrderStatus.delivered},
}


@app.get("/orders/", dependencies=[Owner], response_model=list[OrderSummary])
def list_orders(
    session: Read,
    paging: Paged,
    sort: Annotated[str, sortable("id", "total_amount", "created_at")] = "id",
    user_id: Id | None = None,
    status: Annotated[list[OrderStatus] | None, Query()] = None,
    q: Search | None = None,
    created_from: Moment | None = None,
    created_before: Moment | None = None,
) -> list[Order]:
    """List orders, without their lines; `status` may be there several times.

    `q` is looked for in the order number, and in the user's name and e-mail address.
    """
    query = select(Order)
    if user_id is not None:
        query = query.where(Order.user_id == user_id)
    if status:
        query = query.where(col(Order.status).in_(status))
    if q:
        named = select(User.id).where(or_(contains(User.username, q), contains(User.email, q)))
        query = query.where(or_(contains(Order.order_number, q), col(Order.user_id).in_(named)))
    if created_from is not None:
        query = query.where(Order.created_at >= created_from)
    if created_before is not None:
        query = query.where(Order.created_at < created_before)
    return page(session, query, paging, sort)


@app.post(
    "/orders/",
    dependencies=[Owner],
    status_code=201,
    response_model=OrderWithItems,
    responses=problems(400, 404),
)
def create_order(session: Once, data: OrderCreate) -> Order:
    """Place an order, at the products' prices of this moment. The stock goes down with it.

    404 for an unknown user or product, 400 for a product that is inactive or sold out.
    """
    refuse_others(session, data.user_id, "An order can only be placed for yourself")
    expect_missing(session, user_id=f"User {data.user_id} not found")
    products = lock_rows(session, Product, [line.product_id for line in data.items])
    lines = []
    for line in data.items:
        product = products[line.product_id]
        refuse_unless_in_stock(product, line.quantity)
        price, total = product.price, product.price * line.quantity
        lines.append(OrderLine(**line.model_dump(), unit_price=price, total_price=total))
    order = Order(
        order_number=new_order_number(session),
        total_amount=sum((line.total_price for line in lines), Decimal(0)),
        user_id=data.user_id,
        shipping_address=data.shipping_address,
    )
    if order.total_amount > MAX_MONEY:
        bad_request("Order total too large")
    sold = [(products[line.product_id], -line.quantity) for line in lines]
    add_to(session, Product.stock_quantity, sold)
    add(session, order)
    embed(order, lines=insert_rows(session, lines, order_id=order.id))
    notify(session, order)
    return order


@app.get("/orders/{order_id}", dependencies=[Owner], response_model=OrderWithItems)
def read_order(session: Read, order_id: Id) -> Order:
    """Read an order with its lines."""
    return get_or_404(session, Order, order_id, WITH_LINES)


@app.delete("/orders/{order_id}", dependencies=[Owner], status_code=204, responses=problems(400))
def delete_order(session: Write, order_id: Id) -> None:
    """Delete an order that was cancelled; for superusers."""
    order = get_or_404(session, Order, order_id)
    refuse_all_but_superusers(session, "Only a superuser may delete an order")
    if order.status != OrderStatus.cancelled:
        bad_request("Only a cancelled order can be deleted")
    session.delete(order)


@app.get("/orders/{order_id}/details", dependencies=[Owner], response_model=OrderDetails)
def read_order_details(session: Read, order_id: Id) -> Order:
    """Read an order with its user, and with the product of each line."""
    return get_or_404(session, Order, order_id, WITH_USER, WITH_PRODUCTS)


@app.get("/orders/user/{user_id}", dependencies=[Owner], response_model=list[OrderSummary])
def list_orders_of_user(session: Read, paging: Paged, user_id: Id) -> list[Order]:
    """List a user's orders, newest first."""
    if not is_own(session, user_id):
        not_found("User not found")
    get_or_404(session, User, user_id)
    return page(session, select(Order).where(Order.user_id == user_id), paging, "-id")


@app.patch("/orders/{order_id}/status", dependencies=[Owner], responses=problems(400))
def change_order_status(session: Write, order_id: Id, new_status: OrderStatus) -> OrderStatusChange:
    """Confirm, ship, deliver or cancel an order; anything out of turn is a 400.

    Cancelling gives the stock back, and what was paid. It is all that a user may do who is not a
    superuser.
    """
    order = get_or_404(session, Order, order_id)
    if new_status != OrderStatus.cancelled:
        refuse_all_but_superusers(session, f"Only a superuser may make an order {new_status}")
    set_status(session, order, new_status)
    if new_status == OrderStatus.cancelled:
        undo_order(session, order)
    return OrderStatusChange(order_id=order_id, new_status=new_status)


@app.get("/orders/stats/summary", dependencies=[Owner])
def read_order_stats(session: Read, user_id: Id | None = None) -> OrderStats:
    """Count orders by status and sum up the revenue, in which cancelled ones do not count.

    Who is not a superuser has to name their own `user_id`.
    """
    if user_id is None or not is_own(session, user_id):
        refuse_all_but_superusers(session, "Add your own user_id: others are for superusers")
    query = select(Order.status, func.count(), func.sum(Order.total_amount)).group_by(Order.status)
    if user_id is not None:
        query = query.where(Order.user_id == user_id)
    rows = session.exec(query).all()
    earned = [amount for status, _, amount in rows if status != OrderStatus.cancelled]
    return OrderStats(
        total_orders=sum(count for _, count, _ in rows),
        total_revenue=sum(earned, Decimal(0)),
        orders_by_status=dict.fromkeys(OrderStatus, 0) | {s: count for s, count, _ in rows},
    )


@app.get("/orders/stats/daily", dependencies=[Superuser])
def list_daily_orders(
    session: Read, days: Annotated[int, Query(ge=1, le=3660), PLAIN] = 30
) -> list[DailyOrders]:
    """Orders and revenue of each of the last days (UTC), oldest first, without cancelled ones."""
    first = now().date() - timedelta(days=days - 1)
    day = func.date(Order.created_at)
    query = (
        select(day, func.count(), func.sum(Order.total_amount))
        .where(Order.created_at >= datetime.combine(first, datetime.min.time(), UTC))
        .where(Order.status != OrderStatus.cancelled)
        .group_by(day)
    )
    found = {str(day): (count, revenue) for day, count, revenue in session.exec(query)}
    dates = [first + timedelta(days=n) for n in range(days)]
    numbers = [(date, *found.get(str(date), (0, Decimal(0)))) for date in dates]
    return [DailyOrders(date=date, orders=n, revenue=revenue) for date, n, revenue in numbers]


@app.get("/users/top-spenders", dependencies=[Superuser])
def list_top_spenders(session: Read, limit: PageSize = 10) -> list[TopSpender]:
    """Who spent most; cancelled orders do not count."""
    return [TopSpender(**row._mapping) for row in spenders(session, limit)]


def spenders(session: Session, limit: int) -> list[Any]:
    spent = func.sum(Order.total_amount).label("total_spent")
    user = col(User.id), col(User.username), col(User.email)
    query = (
        select(*user, func.count().label("order_count"))
        .add_columns(spent)
        .join(Order)
        .where(col(Order.status) != OrderStatus.cancelled)
        .group_by(*user)
        .order_by(spent.desc(), col(User.id))
        .limit(limit)
    )
    return [*session.execute(query)]


def refuse_unless_in_stock(product: Product, quantity: int) -> None:
    if not product.is_active:
        bad_request(f"Product '{product.name}' is not available")
    if product.stock_quantity < quantity:
        available = f"Available: {product.stock_quantity}, Requested: {quantity}"
        bad_request(f"Insufficient stock for '{product.name}'. {available}")


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def new_order_number(session: Session) -> str:
    retry_on_conflict(session, "order_number")
    tail = "".join(secrets.choice(LETTERS) for _ in range(6))
    return f"ORD-{now():%Y%m%d%H%M%S}-{tail}"


def set_status(session: Session, order: Order, new_status: OrderStatus) -> None:
    if new_status not in NEXT_STATUS.get(order.status, ()):
        bad_request(f"Cannot transition from {order.status} to {new_status}")
    order.status = new_status
    notify(session, order)


def undo_order(session: Session, order: Order) -> None:
    """Give the stock back, and what was paid."""
    lines = session.exec(select(OrderLine).where(OrderLine.order_id == order.id)).all()
    products = lock_rows(session, Product, [line.product_id for line in lines])
    for line in lines:
        if products[line.product_id].stock_quantity + line.quantity > MAX_STOCK:
            bad_request(f"Too much stock of '{products[line.product_id].name}'")
    returned = [(products[line.product_id], line.quantity) for line in lines]
    add_to(session, Product.stock_quantity, returned)
    refund(session, order)


# Notifications --------------------------------------------------------------------------


@app.get("/notifications/", dependencies=[Owner])
def list_notifications(
    session: Read,
    paging: Paged,
    sort: Annotated[str, sortable("id")] = "id",
    user_id: Id | None = None,
    order_id: Id | None = None,
) -> list[Notification]:
    """List notifications."""
    query = select(Notification)
    if user_id is not None:
        query = query.where(Notification.user_id == user_id)
    if order_id is not None:
        query = query.where(Notification.order_id == order_id)
    return page(session, query, paging, sort)


new_notifications = Stream(app.feed(Notification), db.access.owner_or_page)


@app.get(
    "/notifications/events",
    dependencies=[OwnerOrPage],
    response_class=EventSourceResponse,
    responses=problems(429, 503) | new_notifications.documented,
)
async def stream_notifications(
    events: Annotated[Events, Depends(new_notifications)],
) -> Events:
    """Notifications as they are written: an endless stream of Server-Sent Events.

    Each comes once, in the order of ids. A client that connects again sends Last-Event-ID, as
    browsers do by themselves, and misses none. After 15 seconds without one, a comment shows that
    the stream is alive. Nothing comes any more when the token has ended. A user, or superuser, who
    is logged in has at most 5 streams at a time (one for each tab with the dashboard); one more is
    a 429.
    """
    async for event in events:
        yield event


def notify(session: Session, order: Order) -> None:
    """Tell the order's user its status; when that fails, the order stands all the same."""
    session.flush()
    message = status_message(order.order_number, order.status)
    try_insert(session, Notification, user_id=order.user_id, order_id=order.id, message=message)


def status_message(order_number: str, status: OrderStatus) -> str:
    what = "was placed" if status == OrderStatus.pending else f"is now {status}"
    return f"Order {order_number} {what}"


# Posts ----------------------------------------------------------------------------------

WITH_TAGS = selectinload(cast(Any, Post.tags))
NOT_THE_AUTHOR = "The author of a post has to be yourself"


@app.get("/posts/", dependencies=[AnyoneOrOwner], response_model=list[PostWithTags])
def list_posts(
    session: Read,
    paging: Paged,
    sort: Annotated[str, sortable("id", "title", "created_at", "view_count")] = "id",
    author_id: Id | None = None,
    status: PostStatus | None = None,
    tag: Slug | None = None,
    q: Search | None = None,
) -> list[Post]:
    """List posts with their tags: those that are published, and one's own.

    `tag` is a slug; `q` is looked for in the title.
    """
    query = select(Post).options(WITH_TAGS)
    if not caller_of(session).is_superuser:
        is_published = col(Post.status) == PostStatus.published
        query = query.where(or_(is_published, Post.owned_by(caller_of(session).id)))
    if author_id is not None:
        query = query.where(Post.author_id == author_id)
    if status is not None:
        query = query.where(Post.status == status)
    if tag is not None:
        tagged = select(PostTag.post_id).join(Tag).where(Tag.slug == tag)
        query = query.where(col(Post.id).in_(tagged))
    if q:
        query = query.where(contains(Post.title, q))
    return page(session, query, paging, sort)


@app.post("/posts/", dependencies=[Owner], status_code=201, response_model=PostWithTags)
def create_post(session: Write, data: PostCreate) -> Post:
    """Create a post. Without a slug it gets one made from its title."""
    refuse_others(session, data.author_id, NOT_THE_AUTHOR)
    post = Post.model_validate(data, update={"slug": slug_for(session, Post, data)})
    set_tags(session, post, data.tag_ids)
    return add(session, published(post))


@app.get("/posts/{post_id}", dependencies=[AnyoneOrOwner], response_model=PostWithTags)
def read_post(session: Read, post_id: Id) -> Post:
    """Read a post with its tags; one that is not published, only its author."""
    at_once = select(Post).outerjoin(PostTag).outerjoin(Tag).order_by(col(Tag.id))
    query = at_once.where(Post.id == post_id).options(contains_eager(cast(Any, Post.tags)))
    post = session.exec(query).unique().first() or not_found("Post not found")
    refuse_draft(session, post)
    return post


@app.put("/posts/{post_id}", dependencies=[Owner], response_model=PostWithTags)
def replace_post(session: Write, post_id: Id, data: PostCreate) -> Post:
    """Replace a post: fields that are left out get their defaults."""
    post = get_or_404(session, Post, post_id, WITH_TAGS)
    refuse_others(session, data.author_id, NOT_THE_AUTHOR)
    slug = slug_for(session, Post, data, post)
    set_tags(session, post, data.tag_ids)
    return published(post.sqlmodel_update(data.model_dump() | {"slug": slug}))


@app.patch("/posts/{post_id}", dependencies=[Owner], response_model=PostWithTags)
def update_post(session: Write, post_id: Id, data: PostUpdate) -> Post:
    """Change the fields that are sent."""
    post = get_or_404(session, Post, post_id, WITH_TAGS)
    if "author_id" in data.model_fields_set:
        refuse_others(session, data.author_id, NOT_THE_AUTHOR)
    if "tag_ids" in data.model_fields_set:
        set_tags(session, post, data.tag_ids)
    return published(post.sqlmodel_update(data.model_dump()))


@app.delete("/posts/{post_id}", dependencies=[Owner], status_code=204)
def delete_post(session: Write, post_id: Id) -> None:
    """Delete a post. Its tags stay."""
    session.delete(get_or_404(session, Post, post_id))


@app.post("/posts/{post_id}/views", dependencies=[AnyoneOrOwner])
def count_view(session: Write, post_id: Id) -> PostViews:
    """Count a view of the post, whose `updated_at` and ETag stay."""
    post = get_or_404(session, Post, post_id)
    refuse_draft(session, post)
    views = post.view_count + 1
    viewed = {"view_count": views, "updated_at": Post.updated_at}
    session.exec(update(Post).where(col(Post.id) == post_id).values(viewed))
    return PostViews(view_count=views)


@app.get("/users/{user_id}/with-posts", dependencies=[Owner], response_model=UserWithPosts)
def read_user_with_posts(session: Read, paging: Paged, user_id: Id) -> dict[str, Any]:
    """Read a user with their posts, page by page."""
    user = get_or_404(session, User, user_id)
    posts = select(Post).where(Post.author_id == user_id).options(WITH_TAGS)
    return user.model_dump() | {"posts": page(session, posts, paging)}


def refuse_draft(session: Session, post: Post) -> None:
    """Refuse a post that is not published to all but its author."""
    if post.status != PostStatus.published:
        refuse_others(session, post.author_id)


def set_tags(session: Session, post: Post, ids: list[int]) -> None:
    query = select(Tag).where(col(Tag.id).in_(ids)).order_by(col(Tag.id))
    locked = query.with_for_update(**KEY_SHARE).execution_options(populate_existing=True)
    tags = list(session.exec(locked))
    if len(tags) < len(set(ids)):
        raise ConflictError("tag_ids refers to nothing")
    if post.tags != tags:  # which are in another table: the post itself has to be touched
        post.updated_at = now()
    post.tags = tags


def published(post: Post) -> Post:
    """Note when the post was published, the first time that it is."""
    if post.status == PostStatus.published and post.published_at is None:
        post.published_at = now()
    return post


# Tags -----------------------------------------------------------------------------------


@app.get("/tags/", dependencies=[Anyone])
def list_tags(
    session: Read, paging: Paged, sort: Annotated[str, sortable("id", "name")] = "id"
) -> list[Tag]:
    """List tags."""
    return page(session, select(Tag), paging, sort)


@app.post("/tags/", dependencies=[Superuser], status_code=201)
def create_tag(session: Write, data: TagCreate) -> Tag:
    """Create a tag. Without a slug it gets one made from its name."""
    return add(session, Tag.model_validate(data, update={"slug": slug_for(session, Tag, data)}))


@app.get("/tags/{tag_id}", dependencies=[Anyone])
def read_tag(session: Read, tag_id: Id) -> Tag:
    """Read a tag."""
    return get_or_404(session, Tag, tag_id)


@app.put("/tags/{tag_id}", dependencies=[Superuser])
def replace_tag(session: Write, tag_id: Id, data: TagCreate) -> Tag:
    """Replace a tag: fields that are left out get their defaults."""
    tag = get_or_404(session, Tag, tag_id)
    tag.sqlmodel_update(data.model_dump() | {"slug": slug_for(session, Tag, data, tag)})
    return touch_posts(session, tag)


@app.patch("/tags/{tag_id}", dependencies=[Superuser])
def update_tag(session: Write, tag_id: Id, data: TagUpdate) -> Tag:
    """Change the fields that are sent."""
    tag = get_or_404(session, Tag, tag_id).sqlmodel_update(data.model_dump())
    return touch_posts(session, tag)


@app.delete("/tags/{tag_id}", dependencies=[Superuser], status_code=204)
def delete_tag(session: Write, tag_id: Id) -> None:
    """Delete a tag. The posts that had it stay."""
    tag = get_or_404(session, Tag, tag_id)
    session.delete(tag)
    touch_posts(session, tag)


def touch_posts(session: Session, tag: Tag) -> Tag:
    """Count a change of the posts that have the tag, since they show it, if it changes."""
    if session.is_modified(tag) or tag in session.deleted:
        with session.no_autoflush:  # or the links would be gone
            touch_posts_with(session, [tag.id])
    return tag


def touch_posts_with(session: Session, tag_ids: Sequence[int]) -> None:
    having = select(PostTag.post_id).where(col(PostTag.tag_id).in_(tag_ids))
    kept = {"updated_at": Post.updated_at, "version": Post.version + 1}
    session.exec(update(Post).where(col(Post.id).in_(having)).values(kept))


tags_file = TableFile(
    Tag,
    "tags",
    key="slug",
    example={"slug": "sale", "name": "Sale"},
    on_change=touch_posts_with,
)


@app.get("/tags/export", dependencies=[Superuser], **tags_file.exports)
def export_tags(session: Read, format: FileFormat = "csv") -> Response:
    """All tags as a file, like products."""
    return tags_file.export(session, format)


@app.post("/tags/import", dependencies=[Superuser], **tags_file.imports)
def import_tags(session: WriteLong, upload: Uploaded) -> ImportCounts:
    """Create or update tags, by their slug: all lines of the file or, if one is bad, none."""
    return tags_file.load(session, upload)


# Accounts -------------------------------------------------------------------------------


@app.get("/accounts/", dependencies=[Owner])
def list_accounts(
    session: Read,
    paging: Paged,
    sort: Annotated[str, sortable("id")] = "id",
    user_id: Id | None = None,
) -> list[Account]:
    """List accounts."""
    query = select(Account)
    if user_id is not None:
        query = query.where(Account.user_id == user_id)
    return page(session, query, paging, sort)


@app.post("/accounts/", dependencies=[Superuser], status_code=201)
def create_account(session: Write, data: AccountCreate) -> Account:
    """Open an account for a user, who may have several."""
    return add(session, Account.model_validate(data))


@app.get("/accounts/{account_id}", dependencies=[Owner])
def read_account(session: Read, account_id: Id) -> Account:
    """Read an account."""
    return get_or_404(session, Account, account_id)


def withdraw(account: Account, amount: Decimal) -> None:
    if account.balance < amount:
        bad_request("Insufficient funds")
    account.balance -= amount


def deposit(account: Account, amount: Decimal) -> None:
    if account.balance + amount > MAX_MONEY:
        bad_request("This transfer cannot be made")  # whose balance it is may not be told
    account.balance += amount


# Transfers ------------------------------------------------------------------------------


@app.get("/transfers/", dependencies=[Owner])
def list_transfers(
    session: Read,
    paging: Paged,
    sort: Annotated[str, sortable("id")] = "id",
    account_id: Id | None = None,
) -> list[Transfer]:
    """List transfers; `account_id` is where they come from or go to.

    A user's own are those from their accounts.
    """
    query = select(Transfer)
    if account_id is not None:
        come_from = col(Transfer.from_account_id) == account_id
        query = query.where(or_(come_from, col(Transfer.to_account_id) == account_id))
    return page(session, query, paging, sort)


@app.post("/transfers/", dependencies=[Owner], status_code=201, responses=problems(400, 404))
def create_transfer(session: Once, data: TransferCreate) -> Transfer:
    """Move money from one account to another. No balance goes below zero."""
    if data.from_account_id == data.to_account_id:
        bad_request("Cannot transfer to the same account")
    ids = [data.from_account_id, data.to_account_id]
    accounts = lock_rows(session, Account, ids, own=ids[:1])
    withdraw(accounts[data.from_account_id], data.amount)
    deposit(accounts[data.to_account_id], data.amount)
    return add(session, Transfer.model_validate(data))


@app.get("/transfers/{transfer_id}", dependencies=[Owner])
def read_transfer(session: Read, transfer_id: Id) -> Transfer:
    """Read a transfer."""
    return get_or_404(session, Transfer, transfer_id)


# Payments -------------------------------------------------------------------------------


@app.get("/orders/{order_id}/payments", dependencies=[Owner], tags=["payments"])
def list_payments(session: Read, paging: Paged, order_id: Id) -> list[Payment]:
    """List an order's payments."""
    get_or_404(session, Order, order_id)
    return page(session, select(Payment).where(Payment.order_id == order_id), paging)


@app.post(
    "/orders/{order_id}/payments",
    dependencies=[Owner],
    status_code=201,
    tags=["payments"],
    responses=problems(400),
)
def create_payment(session: Once, order_id: Id, data: PaymentCreate) -> Payment:
    """Pay a pending order from an account, which confirms the order."""
    order = get_or_404(session, Order, order_id)
    if order.status != OrderStatus.pending:
        bad_request(f"Only a pending order can be paid, and this one is {order.status}")
    ids = [data.account_id]
    account = lock_rows(session, Account, ids, own=ids)[data.account_id]
    withdraw(account, order.total_amount)
    set_status(session, order, OrderStatus.confirmed)
    return add(
        session, Payment(order_id=order_id, account_id=account.id, amount=order.total_amount)
    )


def refund(session: Session, order: Order) -> None:
    """Give back what was paid for an order, over the limit of a balance too."""
    unpaid = col(Payment.refunded_at).is_(None)
    payments = session.exec(select(Payment).where(Payment.order_id == order.id, unpaid)).all()
    accounts = lock_rows(session, Account, [payment.account_id for payment in payments])
    for payment in payments:
        accounts[payment.account_id].balance += payment.amount
        payment.refunded_at = now()


# Changes --------------------------------------------------------------------------------


@app.get("/changes/", dependencies=[Superuser])
def list_changes(
    session: Read,
    paging: Paged,
    sort: Annotated[str, sortable("id")] = "id",
    entity: Annotated[Search | None, Query(description="The table, such as `product`.")] = None,
    id: Annotated[Id | None, Query(description="That of the row.")] = None,
) -> list[Change]:
    """List who changed users, products, orders and accounts, what and when.

    Kept for HISTORY_DAYS. A field is there `before` and `after`, but for a password, of which it
    is told only that it was changed.
    """
    query = select(Change)
    if entity is not None:
        query = query.where(Change.entity == entity)
    if id is not None:
        query = query.where(Change.entity_id == id)
    return page(session, query, paging, sort)


# Service --------------------------------------------------------------------------------


@app.get("/", dependencies=[Public], tags=["service"], **WELCOME)
async def read_root(request: Request) -> Response:
    """Say what this is: in JSON, and to browsers as a page."""
    return welcome(request)


@app.get("/health", dependencies=[Public], tags=["service"], response_model=Health)
async def read_health() -> dict[str, Any]:
    """Whether the process answers (liveness). Asks no database."""
    use = database.pool_use()
    used, size = use["checked_out"], use["pool_size"]
    numbers = {"pool_size": size, "connections_in_use": used, "connections_available": size - used}
    return {"status": "healthy", "database": numbers}


@app.get("/health/db", dependencies=[Public], tags=["service"], response_model=DatabaseHealth)
def read_database_health(session: Read) -> dict[str, Any]:
    """Whether requests can be served (readiness): 503 when the database is away or outdated."""
    revision = db.migrations.check(session.connection())
    use = database.pool_use()
    stressed = use["checked_out"] >= use["pool_size"]
    return {"status": "stressed" if stressed else "healthy", **use, "revision": revision}


@app.post("/token", dependencies=[Public], tags=["access"], responses=problems(400, 401, 429, 503))
async def create_token(request: Request, form: Annotated[LogIn, Form()]) -> Token:
    """Log in with a username or an e-mail address: a token for `Authorization: Bearer`.

    It ends after TOKEN_TTL, or when the user changes the password or is deactivated. After 10
    failures for a name or from an address within 5 minutes, the right password is a 429 too.
    """
    return await db.log_ins.log_in(request, form)


@app.post("/logout", dependencies=[Owner], tags=["access"], status_code=204)
def log_out(session: Write) -> None:
    """Log out everywhere: end all tokens of the user. In open mode there are none to end."""
    user = update(User).where(col(User.id) == caller_of(session).id)
    session.exec(user.values(stamp=new_stamp(), updated_at=User.updated_at))  # no other change


# Admin ----------------------------------------------------------------------------------


BASKET_LINE = re.compile(r"([A-Za-z0-9-]+)(?:[\s,;]+([0-9]{1,5}))?")


def edit_product(session: Session, product_id: int, data: ProductEdit) -> Product:
    if not data.stock_change:
        return update_product(session, product_id, data)
    change = int(data.stock_change)
    product = change_stock(session, product_id, StockChange(change=change))
    if data.stock_quantity != product.stock_quantity - change:
        bad_request("Enter another stock quantity or a change of stock, not both")
    return product.sqlmodel_update(data.model_dump(exclude={"stock_quantity"}))


def place_order(session: Session, data: NewOrder) -> Order:
    items: list[Any] = [*data.items]
    for line in filter(None, map(str.strip, (data.lines or "").splitlines())):
        found = BASKET_LINE.fullmatch(line) or bad_request(f"This is no SKU and a number: {line}")
        sku, quantity = found.groups("1")
        product = session.exec(select(Product.id).where(Product.sku == sku.upper())).first()
        product = product or bad_request(f"No product has the SKU {sku}")
        items.append({"product_id": product, "quantity": quantity})
    order = data.model_dump(exclude={"lines"}) | {"items": items or bad_request("Choose a product")}
    return create_order(session, OrderCreate.model_validate(order))


def change_order(session: Session, order_id: int, data: StatusChange) -> Order | None:
    change_order_status(session, order_id, data.status)
    return session.get(Order, order_id)


def pay_order(session: Session, data: NewPayment) -> Payment:
    return create_payment(session, data.order_id, PaymentCreate(account_id=data.account_id))


def create_notification(session: Session, data: NewNotification) -> Notification:
    row = Notification(user_id=0, **data.model_dump())
    session.add(address(session, row))
    session.flush()
    return row


def update_notification(
    session: Session, notification_id: int, data: NewNotification
) -> Notification:
    row = get_or_404(session, Notification, notification_id)
    return address(session, row.sqlmodel_update(data.model_dump()))


def address(session: Session, notification: Notification) -> Notification:
    """To the order's user."""
    notification.user_id = get_or_404(session, Order, notification.order_id).user_id
    return notification


def delete_notification(session: Session, notification_id: int) -> None:
    session.delete(get_or_404(session, Notification, notification_id))


def update_account(session: Session, account_id: int, data: AccountCreate) -> Account:
    """Correct an account that no money came from or went to."""
    account = get_or_404(session, Account, account_id)
    columns = Transfer.from_account_id, Transfer.to_account_id, Payment.account_id
    is_used = or_(*(exists().where(col(column) == account_id) for column in columns))
    if session.scalar(select(is_used)):
        bad_request("Money has moved here: an account is corrected by a transfer")
    return account.sqlmodel_update(data.model_dump())


def delete_account(session: Session, account_id: int) -> None:
    session.delete(get_or_404(session, Account, account_id))


# What may be said of a new user here, beside what the API takes.
UserOfAnyKind = Annotated[dict[str, Any], Depends(db.bodies.to_create(UserByAdmin))]


def create_user_of_any_kind(session: Session, data: UserOfAnyKind) -> User:
    return create_user(session, data)


class ItemAdmin(AdminView, model=Item):
    icon = "fa-solid fa-tag"
    column_list = ["id", "title", "price", "is_available"]
    column_searchable_list = ["title"]
    column_filters = ["is_available"]
    routes = create_item, update_item, delete_item


def user_panels(session: Session, id: int) -> list[Table]:
    """What a user has spent, as `list_top_spenders` counts it."""
    counted = Order.user_id == id, Order.status != OrderStatus.cancelled
    spent = func.coalesce(func.sum(Order.total_amount), Decimal(0))
    row = session.exec(select(func.count(), spent).where(*counted)).one()
    headings = ["Orders, without cancelled ones", "Spent"]
    return [Table("Spending", headings, [(f"order/list?user_id={id}", tuple(row))], columns=12)]


class UserAdmin(AdminView, model=User):
    icon = "fa-solid fa-user"
    column_labels = {"email": "E-mail"}
    column_list = ["id", "username", "email", "full_name", "is_active", "is_superuser"]
    column_searchable_list = ["username", "email", "full_name"]
    column_filters = ["is_active", "is_superuser", "created_at"]
    beside = staticmethod(lambda user: user.email)
    file = users_file
    panels = staticmethod(user_panels)
    routes = create_user_of_any_kind, update_user, delete_user


class CategoryAdmin(AdminView, model=Category):
    name_plural = "Categories"
    icon = "fa-solid fa-folder-tree"
    column_list = ["id", "name", "slug", "parent"]
    column_searchable_list = ["name"]
    column_filters = ["parent_id"]
    file = categories_file
    routes = create_category, update_category, delete_category


class ProductAdmin(AdminView, model=Product):
    icon = "fa-solid fa-box"
    column_labels = {"sku": "SKU", "stock_change": "Change of stock"}
    beside = staticmethod(lambda p: f"({p.sku}) · {p.price:,.2f} · {p.stock_quantity:,} left")
    first_fields = ["name", "sku", "price", "stock_quantity", "stock_change", "category_id"]
    column_list = ["id", "name", "sku", "price", "stock_quantity", "category", "is_active"]
    column_searchable_list = ["name", "sku"]
    column_filters = [
        "is_active",
        ChoiceFilter(
            "Stock",
            None_left=col(Product.stock_quantity) == 0,
            Low=col(Product.stock_quantity) <= LOW_STOCK,
        ),
        "category_id",
    ]
    file = products_file
    routes = create_product, edit_product, delete_product


def order_panels(session: Session, id: int) -> list[Table]:
    """The lines of an order, and who ordered."""
    order = get_or_404(session, Order, id, WITH_USER, WITH_PRODUCTS)
    lines = [
        (
            f"product/details/{line.product_id}",
            (line.product.name, line.product.sku, line.unit_price, line.quantity, line.total_price),
        )
        for line in order.lines
    ]
    customer = (order.user.username, order.user.full_name, order.user.email)
    return [
        Table("Lines", ["Product", "SKU", "Price", "Quantity", "Total"], lines, columns=12),
        Table(
            "Customer",
            ["Username", "Full name", "E-mail"],
            [(f"user/details/{order.user_id}", customer)],
            columns=12,
        ),
    ]


def next_step(label: str, status: OrderStatus, asks: str = "") -> Action:
    """A button for the orders that may have this status next."""
    return Action(
        label,
        change_order_status,
        {"new_status": status},
        lambda order: status in NEXT_STATUS.get(order.status, ()),
        asks,
    )


class OrderAdmin(AdminView, model=Order):
    icon = "fa-solid fa-cart-shopping"
    column_labels = {
        "user": "Customer",
        "user_id": "Customer",
        "items": "Products",
        "lines": "SKUs",
    }
    column_list = ["id", "order_number", "user", "status", "total_amount", "created_at"]
    column_searchable_list = ["order_number", "user.username", "user.email", "user.full_name"]
    column_filters = ["status", "created_at"]
    panels = staticmethod(order_panels)
    actions = [
        next_step("Confirm", OrderStatus.confirmed),
        next_step("Ship", OrderStatus.shipped),
        next_step("Deliver", OrderStatus.delivered),
        next_step(
            "Cancel",
            OrderStatus.cancelled,
            "Cancel? The stock comes back, and what was paid is paid back.",
        ),
    ]
    may_delete = staticmethod(lambda order: order.status == OrderStatus.cancelled)
    routes = place_order, change_order, delete_order


class NotificationAdmin(AdminView, model=Notification):
    icon = "fa-solid fa-bell"
    column_list = ["id", "user", "order", "message", "created_at"]
    column_searchable_list = ["message", "user.username", "order.order_number"]
    column_filters = ["created_at"]
    routes = create_notification, update_notification, delete_notification


class PostAdmin(AdminView, model=Post):
    icon = "fa-solid fa-newspaper"
    column_list = ["id", "title", "author", "status", "view_count", "published_at"]
    column_searchable_list = ["title", "author.username"]
    column_filters = ["status", "created_at"]
    details = ["tags"]
    routes = create_post, update_post, delete_post


class TagAdmin(AdminView, model=Tag):
    icon = "fa-solid fa-hashtag"
    column_list = ["id", "name", "slug"]
    column_searchable_list = ["name"]
    column_filters = [
        ChoiceFilter(
            "Used by posts",
            Yes=exists().where(col(PostTag.tag_id) == Tag.id),
            No=~exists().where(col(PostTag.tag_id) == Tag.id),
        )
    ]
    file = tags_file
    routes = create_tag, update_tag, delete_tag


class AccountAdmin(AdminView, model=Account):
    icon = "fa-solid fa-wallet"
    column_list = ["id", "user", "balance", "created_at"]
    column_searchable_list = ["user.username"]
    column_filters = [
        ChoiceFilter(
            "Balance",
            Empty=col(Account.balance) == Decimal(0),
            Not_empty=col(Account.balance) > Decimal(0),
        ),
        "created_at",
    ]
    routes = create_account, update_account, delete_account


class TransferAdmin(AdminView, model=Transfer):
    icon = "fa-solid fa-right-left"
    column_list = ["id", "from_account", "to_account", "amount", "status", "created_at"]
    column_searchable_list = ["from_account.user.username"]
    column_filters = ["status", "created_at"]
    routes = create_transfer, None, None


class PaymentAdmin(AdminView, model=Payment):
    icon = "fa-solid fa-credit-card"
    column_list = ["id", "order", "account", "amount", "refunded_at", "created_at"]
    column_searchable_list = ["order.order_number", "account.user.username"]
    column_filters = [
        ChoiceFilter(
            "Refunded",
            Yes=col(Payment.refunded_at).is_not(None),
            No=col(Payment.refunded_at).is_(None),
        ),
        "created_at",
    ]
    routes = pay_order, None, None


class ChangeAdmin(AdminView, model=Change):
    icon = "fa-solid fa-clock-rotate-left"
    column_labels = {"entity": "Of", "entity_id": "Its ID", "what": "Fields"}
    column_list = ["id", "created_at", "entity", "entity_id", "kind", "what", "user_id"]
    column_filters = ["kind", "created_at"]
    column_formatters_detail = {"fields": lambda change, _: change.what}


def dashboard(session: Session) -> Dashboard:
    """What the first page shows, as the API tells it."""
    days = [(f"{day.date:%d %b}", day) for day in list_daily_orders(session, 30)]
    stats = read_order_stats(session)
    return Dashboard(
        figures={
            "Revenue, 30 days": sum(day.revenue for _, day in days),
            "Orders, 30 days": sum(day.orders for _, day in days),
            "Revenue in all": stats.total_revenue,
            "Pending orders": stats.orders_by_status[OrderStatus.pending],
        },
        charts=[
            Chart("Revenue by day", {date: day.revenue for date, day in days}),
            Chart("Orders by day", {date: day.orders for date, day in days}, columns=7),
            Chart("Orders by status", stats.orders_by_status, columns=5),
        ],
        tables=[newest_orders(session), low_stock(session), top_spenders(session)],
        refresh_on=("stream_notifications", "notification"),
    )


def newest_orders(session: Session) -> Table:
    newest = session.exec(select(Order).order_by(col(Order.id).desc()).limit(8).options(WITH_USER))
    rows = [(f"order/details/{o.id}", (o, o.user, o.status, o.total_amount)) for o in newest]
    headings = ["Number", "Customer", "Status", "Total"]
    return Table("Newest orders", headings, rows, all="order/list", columns=12)


def low_stock(session: Session) -> Table:
    low = list_low_stock(session, Skipping(limit=8))
    rows = [(f"product/details/{p.id}", (p.name, p.sku, p.stock_quantity)) for p in low]
    all_of_it = "product/list?is_active=true&stock=Low&sortBy=stock_quantity&sort=asc"
    return Table("Low stock", ["Product", "SKU", "Left"], rows, all=all_of_it)


def top_spenders(session: Session) -> Table:
    rows = [
        (f"user/details/{s.id}", (s.username, s.order_count, s.total_spent))
        for s in spenders(session, 8)
    ]
    return Table("Top spenders", ["User", "Orders", "Spent"], rows, all="pages/spenders")


def hundred_spenders(session: Session) -> Table:
    rows = [
        (f"user/details/{s.id}", (s.username, s.email, s.order_count, s.total_spent))
        for s in spenders(session, 100)
    ]
    headings = ["User", "E-mail", "Orders", "Spent"]
    return Table("Top spenders, the first 100", headings, rows, columns=12)


admin = Admin(
    app,
    db.log_ins,
    log_out,
    dashboard,
    pages={"spenders": hundred_spenders},
    title=app.title,
)


# Command line ---------------------------------------------------------------------------

cli = Commands(app, User, UserCreate)


@cli.command()
def demo(products: Total = 200, users: Total = 50, orders: Total = 500, seed: Total = 1) -> None:
    """Fill an empty database with a plausible shop: all of it or, on any error, nothing.

    On the same day, the same seed gives the same shop, but for the password.
    """
    cli.migrate_or_exit()
    password = f"{secrets.token_urlsafe(9)}A1"
    with filling(database, db.migrations.home / "demo.toml", seed) as fill:
        items = [{"is_available": True, **item} for item in fill.words["items"]]
        fill(Item, len(items), items)
        fill_categories(fill)
        fill(Product, products, demo_products(fill, products))
        fill(User, users, demo_users(fill, users, passwords.hasher.hash(password)))
        fill_orders(fill, orders)
        fill_posts(fill)
        fill_accounts(fill)
    if users:
        print(f"The password of every user, such as {fill.person(0).username}, is {password}")


SHOP_DAYS = 400
ORDER_DAYS = 90  # the last of them


def fill_categories(fill: Filling) -> None:
    """The categories. One that is below another comes after it."""
    ids: dict[str | None, int | None] = {None: None}
    for words in fill.words["categories"]:
        parent_id, opened = ids[words.pop("parent", None)], fill.ago(SHOP_DAYS)
        made = {"slug": slug_of(words["name"]), "parent_id": parent_id, "created_at": opened}
        fill.session.add(category := Category.model_validate(words, update=made))
        fill.session.flush()
        ids[category.name] = category.id


def demo_products(fill: Filling, count: int) -> Iterator[dict[str, Any]]:
    """One of each kind in turn. When a kind has come in all combinations, names get a number."""
    dice, kinds, ends = fill.dice("products"), fill.words["products"], fill.words["finishes"]
    shelves = dict(fill.session.exec(select(Category.name, Category.id)).all())
    for n in range(count):
        turn, at = divmod(n, len(kinds))
        kind = kinds[at]
        looks, sizes = kind["looks"], kind.get("sizes", [""])
        words = fill.words["series"], range(len(looks)), range(len(sizes)), ends[kind["finish"]]
        lap, (series, look, size, finish) = fill.mixed(turn, at, *words)
        about = (look + size + dice.random()) / (len(looks) + len(sizes) - 1)
        main = f"{series} {looks[look]} {kind['noun']}"
        name = [main, sizes[size], finish, f"No. {lap + 1}" if lap else ""]
        created = fill.ago(SHOP_DAYS * (1 - (n / count) ** 3))  # most of them early
        yield {
            "name": ", ".join(filter(None, name)),
            "slug": "-".join(filter(None, map(slug_of, name))),
            "description": dice.choice(kind["descriptions"]).format(size=sizes[size]),
            "price": likely_price(kind["prices"], about),
            # Of the first one, which the examples in /docs order, there always are some.
            "stock_quantity": int(dice.expovariate(0.025)) + (0 if n else 20),
            "sku": f"{kind['sku']}-{1001 + turn}",
            "is_active": not n or dice.random() < 0.95,
            "category_id": shelves[kind["category"]],
            "created_at": created,
            "updated_at": created,
        }


def demo_users(fill: Filling, count: int, password_hash: str) -> Iterator[dict[str, Any]]:
    dice, bios = fill.dice("users"), fill.words["bios"]
    for n in range(count):
        full_name, username, email, _ = fill.person(n)
        created = joined(fill, n, count)
        yield {
            "username": username,
            "email": email,
            "full_name": full_name,
            "bio": bios[n // 4 % len(bios)] if n % 4 == 1 else None,
            "is_active": not n or dice.random() < 0.95,
            "password_hash": password_hash,
            "created_at": created,
            "updated_at": created,
        }


def joined(fill: Filling, n: int, count: int) -> datetime:
    """When one of so many users came: more and more of them did."""
    return fill.ago(SHOP_DAYS * (1 - (n / count) ** 0.5))


def fill_orders(fill: Filling, count: int) -> None:
    """Orders of the last days, with their lines and notifications."""
    count = count if fill.ids(User) and fill.ids(Product) else 0
    fill(Order, count, (order for order, *_ in demo_orders(fill, count)))
    made = zip(fill.ids(Order), demo_orders(fill, count), strict=True)
    fill(OrderLine, None, ({"order_id": id, **x} for id, (_, lines, _) in made for x in lines))
    fill(Notification, None, in_order(demo_notifications(fill)))


def demo_orders(fill: Filling, count: int) -> Iterator[tuple[Any, list[Any], list[Any]]]:
    """Each order, its lines, its statuses until now: the same, however often they are asked for."""
    dice, first = fill.dice("orders"), fill.ids(User).start
    users, goods = fill.some(User, dice), fill.some(Product, dice, col(Product.is_active))
    homes = {user.id: fill.person(user.id - first).address for user in users}
    for placed in spread(count, fill.ago(ORDER_DAYS), ORDER_DAYS, fill.words["busy"], dice):
        user_id = favourite(dice, users, placed).id
        chosen = (favourite(dice, goods, placed) for _ in range(dice.choice([1, 1, 1, 2, 2, 3, 4])))
        lines = [demo_line(x, dice.choice([1, 1, 1, 1, 2, 3])) for x in dict.fromkeys(chosen)]
        steps = demo_steps(fill, placed, dice)
        order = {
            "order_number": f"ORD-{placed:%Y%m%d%H%M%S}-{''.join(dice.choices(LETTERS, k=6))}",
            "status": steps[-1][0],
            "total_amount": sum(line["total_price"] for line in lines),
            "user_id": user_id,
            "shipping_address": homes[user_id],
            "created_at": placed,
            "updated_at": steps[-1][1],
        }
        yield order, lines, steps


def demo_line(product: Any, n: int) -> dict[str, Any]:
    price, total = product.price, product.price * n
    return {"product_id": product.id, "quantity": n, "unit_price": price, "total_price": total}


def demo_steps(fill: Filling, placed: datetime, dice: random.Random) -> list[Any]:
    """An order's statuses until now, each with its moment."""
    ways, steps = fill.words["ways"], [(OrderStatus.pending, placed)]
    (way,) = dice.choices(ways, [way["weight"] for way in ways])
    for status, least, most in way["steps"]:
        moment = steps[-1][1] + timedelta(minutes=dice.uniform(least, most))
        if moment >= fill.today:
            break
        steps.append((OrderStatus(status), moment))
    return steps


def demo_notifications(fill: Filling) -> Iterator[tuple[datetime, list[dict[str, Any]]]]:
    ids = fill.ids(Order)
    for id, (order, _, steps) in zip(ids, demo_orders(fill, len(ids)), strict=True):
        told = ((status_message(order["order_number"], status), at) for status, at in steps)
        to = {"user_id": order["user_id"], "order_id": id}
        yield order["created_at"], [{**to, "message": text, "created_at": at} for text, at in told]


def fill_posts(fill: Filling) -> None:
    """The posts of demo.toml, and their tags."""
    posts = fill.words["posts"] if fill.ids(User) else []
    fill(Post, len(posts), demo_posts(fill, posts))
    tags = [*dict.fromkeys(tag for post in posts for tag in post["tags"])]
    fill(Tag, len(tags), ({"name": tag, "slug": slug_of(tag)} for tag in tags))
    ids = dict(zip(tags, fill.ids(Tag), strict=True))
    pairs = zip(fill.ids(Post), posts, strict=True)
    fill(PostTag, None, ({"post_id": id, "tag_id": ids[t]} for id, p in pairs for t in p["tags"]))


def demo_posts(fill: Filling, posts: list[Any]) -> Iterator[dict[str, Any]]:
    """Posts by a few of those who came first."""
    dice, users = fill.dice("posts"), fill.ids(User)
    authors = users[: len(users) // 20 + 1][:3]
    for n, post in enumerate(posts):
        status, days = post.get("status", PostStatus.published), 200 - 199 * n // len(posts)
        written = fill.ago(days - dice.uniform(0.3, 0.8))
        yield {
            "title": post["title"],
            "slug": slug_of(post["title"]),
            "content": post["text"].strip(),
            "status": PostStatus(status),
            "created_at": written,
            "updated_at": fill.today if status == PostStatus.archived else written,
            "published_at": None if status == PostStatus.draft else written,
            "view_count": 0 if status == PostStatus.draft else days * dice.randint(2, 9),
            "author_id": dice.choice(authors),
        }


def fill_accounts(fill: Filling) -> None:
    """An account for each user, transfers between them, and payments of orders."""
    users, orders = fill.ids(User), fill.ids(Order)
    fill(Account, len(users), demo_accounts(fill, users))
    accounts = fill.ids(Account)
    fill(Transfer, len(users) // 2, demo_transfers(fill, accounts))
    fill(Payment, None, in_order(demo_payments(fill, orders, accounts)))


def demo_accounts(fill: Filling, users: range) -> Iterator[dict[str, Any]]:
    dice = fill.dice("accounts")
    for n, id in enumerate(users):
        balance = Decimal(dice.randint(10_000, 90_000)) / 100
        yield {"user_id": id, "balance": balance, "created_at": joined(fill, n, len(users))}


def demo_transfers(fill: Filling, accounts: range) -> Iterator[dict[str, Any]]:
    """Between the first half of the accounts, which were there by then."""
    dice, count = fill.dice("transfers"), len(accounts) // 2
    for n in range(count):
        come_from, go_to = dice.sample(accounts[: count + 1], 2)
        yield {
            "from_account_id": come_from,
            "to_account_id": go_to,
            "amount": Decimal(dice.randint(4, 160)) / 2,
            "created_at": fill.ago(ORDER_DAYS * (1 - n / count)),
        }


def demo_payments(fill: Filling, orders: range, accounts: range) -> Iterator[tuple[Any, list[Any]]]:
    """That of each order which was confirmed; paid back if the order was cancelled then."""
    first = fill.ids(User).start
    for id, (order, _, steps) in zip(orders, demo_orders(fill, len(orders)), strict=True):
        moments = dict(steps)
        payment = {
            "order_id": id,
            "account_id": accounts[order["user_id"] - first],
            "amount": order["total_amount"],
            "created_at": moments.get(OrderStatus.confirmed),
            "refunded_at": moments.get(OrderStatus.cancelled),
        }
        yield order["created_at"], [payment] if OrderStatus.confirmed in moments else []


if __name__ == "__main__":
    cli.run(sys.argv[1:])
