"""The shop's data: one class per entity is both its table and its JSON.

Every section reads the same way:

    ThingBase     the fields that a client sends and gets back
    Thing         the table (`table=True`), and what a client gets
    ThingCreate   what a client sends to create one, or to replace one
    ThingUpdate   what a client sends to change one: every field may be left out
    ThingWithX    only where an answer embeds related rows, in its field `x`; what goes deeper, or
                  sums rows up, has a name of its own

Sections: items, users, categories, products, orders, notifications, posts, tags, accounts,
transfers, payments, changes, service, stored answers.

A type such as `Name` says the same to the API and to the database: at most 200 characters in JSON
and in the column. What only the database needs is in its `Field(...)` (`unique`, `foreign_key`)
or in `__table_args__`: checks, and indexes for what lists are sorted and filtered by (`listed_by`).
"""

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import MISSING, AfterValidator, BaseModel, StrictBool, field_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    Computed,
    Index,
    String,
    UniqueConstraint,
)
from sqlmodel import Field, SQLModel, col, select

from kit import (
    FILLED,
    MAX_INT,
    NO_NUL,
    PLAIN,
    Balance,
    ChangeRow,
    Created,
    Credentials,
    Email,
    Entity,
    Id,
    LongText,
    Money,
    Name,
    NumberedPage,
    OptionalId,
    OptionalSlug,
    OptionalText,
    Partial,
    Password,
    Price,
    Schema,
    Secret,
    Slug,
    StoredAnswer,
    Sum,
    Timestamps,
    Username,
    Versioned,
    choice,
    example,
    listed_by,
    listed_by_false,
    listed_by_true,
    listed_within,
    related,
    spelled,
)

# What may be null has its None inside: `Name | None` would lose the length of the column.
OptionalNote = Annotated[str | None, Field(max_length=500), NO_NUL]
Quantity = Annotated[int, Field(ge=1, le=10_000), PLAIN]
Sku = Annotated[
    str,
    Field(min_length=1, max_length=50),
    spelled(r"^[A-Za-z0-9-]+$", "Letters, digits and hyphens only"),
    AfterValidator(str.upper),
]


class Notice(BaseModel):
    message: str


# Items ----------------------------------------------------------------------------------


class ItemBase(Schema):
    title: Name
    description: OptionalText = None
    price: Price
    is_available: StrictBool = True


class Item(ItemBase, Versioned, table=True):
    __table_args__ = (
        CheckConstraint("price > 0", "price_positive"),
        *listed_by("title", "price"),
        listed_by_false("is_available"),
    )


class ItemCreate(ItemBase):
    model_config = example(
        title="Mechanical Keyboard", description="With a key for all", price=89.99
    )


class ItemUpdate(Partial, ItemBase):
    model_config = example(price=79.99)


# Users ----------------------------------------------------------------------------------


class UserBase(Schema):
    username: Username
    email: Email = Field(unique=True)
    full_name: Annotated[str | None, Field(max_length=100), NO_NUL] = None
    bio: Annotated[str | None, Field(max_length=1000), NO_NUL] = None


class UserState(UserBase):
    is_active: StrictBool = True
    is_superuser: StrictBool = False


class User(Timestamps, UserState, Credentials, Versioned, table=True):
    __table_args__ = (
        *listed_by("username", "created_at"),
        listed_by_false("is_active"),
        listed_by_true("is_superuser"),
        Index(None, "updated_at"),  # to deactivate who has long been idle
    )
    keeps_history: ClassVar[bool] = True
    is_private: ClassVar[bool] = False
    named_by: ClassVar[tuple[str, ...]] = ("username",)

    # "Ann" and "ann" are one name: the database derives this column, and keeps it unique.
    username_key: str | None = Field(
        default=None,
        exclude=True,
        repr=False,
        sa_column=Column(
            String(50),
            Computed("lower(username)", persisted=True),
            unique=True,
            info={"field": "username"},
        ),
    )

    @classmethod
    def owned_by(cls, user_id: int) -> ColumnElement[bool]:
        return col(cls.id) == user_id


class UserCreate(UserBase):
    model_config = example(
        username="johndoe",
        email="john@example.com",
        full_name="John Doe",
        password="SecurePass123",  # noqa: S106
    )

    password: Password


class UserByAdmin(UserState):
    password: Password


class UserPage(NumberedPage[User]):
    pass


UserCreates = Annotated[list[UserCreate], Field(min_length=1, max_length=100)]


CurrentPassword = Annotated[
    Secret,
    Field(max_length=1000, description="Who changes their own password or e-mail has to know it."),
]


class UserReplacement(UserCreate):
    current_password: CurrentPassword = MISSING  # type: ignore[assignment]


class UserUpdate(Partial, UserState):
    model_config = example(full_name="John M. Doe")

    password: Password
    current_password: CurrentPassword


class ActiveCount(BaseModel):
    active_users: int


class DeactivatedCount(BaseModel):
    deactivated_count: int


class DeletedCount(BaseModel):
    deleted_count: int


# Categories -----------------------------------------------------------------------------


class CategoryBase(Schema):
    name: Annotated[str, Field(min_length=1, max_length=100), *FILLED] = Field(unique=True)
    slug: Slug = Field(unique=True)
    description: OptionalText = None
    parent_id: OptionalId = Field(default=None, foreign_key="category.id", ondelete="SET NULL")


class Category(Created, CategoryBase, Versioned, table=True):
    __table_args__ = listed_by("parent_id")

    parent: "Category" = related(remote_side="Category.id")


class CategoryCreate(CategoryBase):
    model_config = example(name="Outdoor", description="All for outdoor")

    slug: OptionalSlug = None  # type: ignore[assignment]  # left out: made from the name


class CategoryUpdate(Partial, CategoryBase):
    model_config = example(description="Tents, lamps and more")


class CategoryTree(Created, CategoryBase, Entity):
    children: list["CategoryTree"]


# Products -------------------------------------------------------------------------------


MAX_STOCK = 2**53  # exact in JSON
Stock = Annotated[int, Field(ge=0, le=MAX_STOCK), PLAIN]


class ProductBase(Schema):
    name: Name
    slug: Slug = Field(unique=True)
    description: OptionalText = None
    price: Price
    stock_quantity: Stock = Field(default=0, sa_type=BigInteger)
    sku: Sku = Field(unique=True)
    is_active: StrictBool = True
    category_id: OptionalId = Field(default=None, foreign_key="category.id", ondelete="SET NULL")


class Product(Timestamps, ProductBase, Versioned, table=True):
    __table_args__ = (
        UniqueConstraint("name", "category_id"),
        CheckConstraint("price > 0", "price_positive"),
        CheckConstraint("stock_quantity >= 0", "stock_quantity_not_negative"),
        *listed_by("name", "price", "created_at", "category_id"),
        listed_by_false("is_active"),
        *listed_within("category_id", "name", "price", "stock_quantity", "created_at"),
        # For low stock, too: what is not active is passed over within the index.
        Index(None, "stock_quantity", "id", "is_active"),
    )
    keeps_history: ClassVar[bool] = True

    category: Category | None = related()


class ProductCreate(ProductBase):
    model_config = example(
        name="Wireless Headphones", price=79.99, sku="WH-001", stock_quantity=50, category_id=1
    )

    slug: OptionalSlug = None  # type: ignore[assignment]  # left out: made from the name


class ProductUpdate(Partial, ProductBase):
    model_config = example(price=69.99)


class ProductEdit(ProductUpdate):
    """A product as the admin's form takes it."""

    stock_change: Annotated[
        str | None, spelled(r"^[+-]?[0-9]{1,9}$", "A whole number such as +5 or -3 only")
    ] = Field(default=None, description="+5 or -3, in place of another stock quantity.")


class ProductWithCategory(Timestamps, ProductBase, Entity):
    category: Category | None


class CategoryProducts(BaseModel):
    category: str
    product_count: int
    products: list[Product]


class ProductPage(NumberedPage[ProductWithCategory]):
    pass


class StockChange(Schema):
    model_config = example(change=10)

    change: Annotated[int, Field(ge=-MAX_INT, le=MAX_INT), PLAIN]


class CategoryStats(BaseModel):
    category: str | None
    product_count: int
    avg_price: Sum
    min_price: Sum
    max_price: Sum


# Orders ---------------------------------------------------------------------------------


class OrderStatus(StrEnum):
    pending = "pending"
    confirmed = "confirmed"
    shipped = "shipped"
    delivered = "delivered"
    cancelled = "cancelled"


class OrderBase(SQLModel):
    order_number: str = Field(max_length=30, unique=True)
    status: OrderStatus = Field(default=OrderStatus.pending, sa_type=choice(OrderStatus))
    total_amount: Money
    user_id: Id = Field(foreign_key="user.id", ondelete="CASCADE")
    shipping_address: OptionalNote = None


class Order(Timestamps, OrderBase, Versioned, table=True):
    __table_args__ = (
        CheckConstraint("total_amount > 0", "total_amount_positive"),
        *listed_by("total_amount", "created_at", "user_id", "status"),
        *listed_within("status", "total_amount", "created_at"),
        Index(None, "user_id", "status", "total_amount"),  # who spent most, from this alone
    )
    keeps_history: ClassVar[bool] = True
    named_by: ClassVar[tuple[str, ...]] = ("order_number",)

    lines: list["OrderLine"] = related(passive_deletes="all", order_by="OrderLine.id")
    user: User = related()


class OrderLineBase(SQLModel):
    product_id: Id = Field(foreign_key="product.id", ondelete="RESTRICT", index=True)
    quantity: Quantity
    unit_price: Money
    total_price: Money


class OrderLine(OrderLineBase, Entity, table=True):
    __tablename__ = "order_line"
    __table_args__ = (CheckConstraint("quantity > 0", "quantity_positive"),)

    order_id: Id = Field(foreign_key="order.id", ondelete="CASCADE", index=True, exclude=True)

    product: Product = related()

    named_by: ClassVar[tuple[str, ...]] = ("product",)

    def __str__(self) -> str:
        return f"{self.quantity} x {self.product}, {self.total_price}"


class OrderLineCreate(Schema):
    product_id: Id
    quantity: Quantity


class OrderCreate(Schema):
    model_config = example(
        user_id=1,
        items=[{"product_id": 1, "quantity": 2}],
        shipping_address="1 High Street, Springfield",
    )

    user_id: Id
    items: Annotated[list[OrderLineCreate], Field(min_length=1, max_length=100)]
    shipping_address: OptionalNote = None

    @field_validator("items")
    @classmethod
    def add_up(cls, items: list[OrderLineCreate]) -> list[OrderLineCreate]:
        """Make one line of those that name the same product, in the order first named."""
        quantities: dict[int, int] = {}
        for item in items:
            quantities[item.product_id] = quantities.get(item.product_id, 0) + item.quantity
        if max(quantities.values()) > 10_000:
            raise PydanticCustomError("quantity", "At most 10000 of one product")
        return [OrderLineCreate(product_id=id, quantity=n) for id, n in quantities.items()]


class OrderWithItems(Timestamps, OrderBase, Versioned):
    items: list[OrderLine] = Field(validation_alias="lines")


class OrderLineWithProduct(OrderLineBase, Entity):
    product: Product


class OrderDetails(Timestamps, OrderBase, Entity):
    items: list[OrderLineWithProduct] = Field(validation_alias="lines")
    user: User


class OrderSummary(SQLModel):
    id: int
    order_number: str
    status: OrderStatus
    total_amount: Money
    created_at: datetime


class OrderStatusChange(BaseModel):
    order_id: int
    new_status: OrderStatus


class TopSpender(BaseModel):
    username: str
    email: str
    order_count: int
    total_spent: Sum


class OrderStats(BaseModel):
    total_orders: int
    total_revenue: Sum
    orders_by_status: dict[OrderStatus, int]


class DailyOrders(BaseModel):
    date: date
    orders: int
    revenue: Sum


class NewOrderLine(OrderLineCreate):
    quantity: Quantity = 1


class NewOrder(Schema):
    """An order as the admin's form takes it: products, SKUs or both."""

    user_id: Id
    items: Annotated[list[NewOrderLine], Field(max_length=100)] = []
    lines: OptionalText = Field(None, description='Or on each line a SKU and how many: "HEA-1 2".')
    shipping_address: OptionalNote = None


class StatusChange(Schema):
    status: OrderStatus


# Notifications --------------------------------------------------------------------------


class NotificationBase(SQLModel):
    user_id: Id = Field(foreign_key="user.id", ondelete="CASCADE")
    order_id: Id = Field(foreign_key="order.id", ondelete="CASCADE")
    message: str = Field(max_length=500)


class Notification(Created, NotificationBase, Entity, table=True):
    __table_args__ = listed_by("user_id", "order_id")

    user: User = related()
    order: Order = related()


class NewNotification(Schema):
    order_id: Id
    message: Annotated[str, Field(min_length=1, max_length=500), *FILLED]


# Posts ----------------------------------------------------------------------------------


class PostStatus(StrEnum):
    draft = "draft"
    published = "published"
    archived = "archived"


class PostTag(SQLModel, table=True):
    __tablename__ = "post_tag"
    __table_args__ = (Index(None, "tag_id", "post_id"),)

    post_id: int = Field(primary_key=True, foreign_key="post.id", ondelete="CASCADE")
    tag_id: int = Field(
        primary_key=True,
        foreign_key="tag.id",
        ondelete="CASCADE",
        sa_column_kwargs={"info": {"field": "tag_ids"}},
    )


class PostBase(Schema):
    title: Name
    slug: Slug = Field(unique=True)
    content: Annotated[str, Field(min_length=1, max_length=100_000), *FILLED] = Field(
        sa_type=LongText
    )
    status: PostStatus = Field(default=PostStatus.draft, sa_type=choice(PostStatus))


class PostRow(PostBase):
    view_count: int = 0
    author_id: Id = Field(foreign_key="user.id", ondelete="CASCADE")


class PostDates(Timestamps):
    published_at: datetime | None = None


class Post(PostDates, PostRow, Versioned, table=True):
    __table_args__ = listed_by("title", "created_at", "view_count", "author_id", "status")
    is_private: ClassVar[bool] = False

    author: User = related()
    tags: list["Tag"] = related(link_model=PostTag, passive_deletes=True, order_by="Tag.id")

    @classmethod
    def owned_by(cls, user_id: int) -> ColumnElement[bool]:
        return col(cls.author_id) == user_id


class PostCreate(PostBase):
    model_config = example(
        title="How to choose a keyboard",
        content="Type on it, and listen.",
        status="published",
        author_id=1,
        tag_ids=[1],
    )

    slug: OptionalSlug = None  # type: ignore[assignment]  # left out: made from the title
    author_id: Id
    tag_ids: Annotated[list[Id], Field(max_length=100)] = []


class PostUpdate(Partial, PostBase):
    model_config = example(content="Type on it, and listen well.")

    author_id: Id
    tag_ids: Annotated[list[Id], Field(max_length=100)]


class PostWithTags(PostDates, PostRow, Versioned):
    tags: list["Tag"]


class UserWithPosts(Timestamps, UserState, Entity):
    posts: list[PostWithTags]


class PostViews(BaseModel):
    view_count: int


# Tags -----------------------------------------------------------------------------------


class TagBase(Schema):
    name: Annotated[str, Field(min_length=1, max_length=50), *FILLED] = Field(unique=True)
    slug: Slug = Field(unique=True)


class Tag(TagBase, Versioned, table=True):
    pass


class TagCreate(TagBase):
    model_config = example(name="Sale")

    slug: OptionalSlug = None  # type: ignore[assignment]  # left out: made from the name


class TagUpdate(Partial, TagBase):
    model_config = example(name="Summer sale")


# Accounts -------------------------------------------------------------------------------


class AccountBase(Schema):
    user_id: Id = Field(foreign_key="user.id", ondelete="RESTRICT")
    balance: Balance = Decimal(0)


class Account(Created, AccountBase, Entity, table=True):
    __table_args__ = (
        CheckConstraint("balance >= 0", "balance_not_negative"),
        *listed_by("user_id"),
    )
    keeps_history: ClassVar[bool] = True

    user: User = related()

    named_by: ClassVar[tuple[str, ...]] = ("user",)

    def __str__(self) -> str:
        owner = self.__dict__.get("user")  # where it is loaded
        return f"{owner}, account {self.id}" if owner else f"Account {self.id}"


class AccountCreate(AccountBase):
    model_config = example(user_id=1, balance=100)


# Transfers ------------------------------------------------------------------------------


class TransferStatus(StrEnum):
    completed = "completed"


class TransferBase(Schema):
    from_account_id: Id = Field(foreign_key="account.id", ondelete="RESTRICT")
    to_account_id: Id = Field(foreign_key="account.id", ondelete="RESTRICT")
    amount: Price


class TransferState(TransferBase):
    status: TransferStatus = Field(default=TransferStatus.completed, sa_type=choice(TransferStatus))


class Transfer(Created, TransferState, Entity, table=True):
    __table_args__ = (
        CheckConstraint("amount > 0", "amount_positive"),
        CheckConstraint("from_account_id <> to_account_id", "accounts_differ"),
        *listed_by("from_account_id", "to_account_id"),
    )

    from_account: Account = related(foreign_keys="Transfer.from_account_id")
    to_account: Account = related(foreign_keys="Transfer.to_account_id")

    @classmethod
    def owned_by(cls, user_id: int) -> ColumnElement[bool]:
        return col(cls.from_account_id).in_(select(Account.id).where(Account.user_id == user_id))


class TransferCreate(TransferBase):
    model_config = example(from_account_id=1, to_account_id=2, amount=9.99)


# Payments -------------------------------------------------------------------------------


class PaymentBase(SQLModel):
    order_id: Id = Field(foreign_key="order.id", ondelete="CASCADE")
    account_id: Id = Field(foreign_key="account.id", ondelete="RESTRICT", index=True)
    amount: Price
    refunded_at: datetime | None = None


class Payment(Created, PaymentBase, Entity, table=True):
    __table_args__ = listed_by("order_id")

    order: Order = related()
    account: Account = related()

    @classmethod
    def owned_by(cls, user_id: int) -> ColumnElement[bool]:
        return col(cls.order_id).in_(select(Order.id).where(Order.user_id == user_id))


class PaymentCreate(Schema):
    model_config = example(account_id=1)

    account_id: Id


class NewPayment(PaymentCreate):
    order_id: Id


# Changes --------------------------------------------------------------------------------


class Change(ChangeRow, table=True):
    pass


# Service --------------------------------------------------------------------------------


class Connections(SQLModel):
    pool_size: int
    connections_in_use: int
    connections_available: int


class Health(SQLModel):
    status: Literal["healthy"]
    database: Connections


class DatabaseHealth(SQLModel):
    status: Literal["healthy", "stressed"]
    pool_size: int
    checked_in: int
    checked_out: int
    overflow: int
    total_connections: int
    revision: str


# Stored answers -------------------------------------------------------------------------


class IdempotencyKey(StoredAnswer, table=True):
    """What was answered to a request with an Idempotency-Key, until its user is deleted."""

    owner_id: int | None = Field(
        default=None, foreign_key="user.id", ondelete="CASCADE", index=True
    )
