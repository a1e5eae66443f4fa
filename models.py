"""The shop's data: one class per entity is both its table and its JSON.

Every section reads the same way:

    ThingBase     the fields that a client sends and gets back
    Thing         the table (`table=True`), and what a client gets
    ThingCreate   what a client sends to create one, or to replace one
    ThingUpdate   what a client sends to change one: every field may be left out
    ThingRead     only where an answer embeds related rows, or sums rows up

Sections: vocabulary, shared bases, access, items, users, categories, products, orders,
notifications, posts, tags, accounts, transfers, payments, idempotency keys.

A type says the same to the API and to the database: `Name` is at most 200 characters in
JSON and in the column. So the limits of a field stand in its type, and what only the
database needs (`unique`, `foreign_key`, `index`) in its `Field(...)`. Where a field may be
null, the length stands outside the None, as in `OptionalText`, or around a type with a check
of its own: `Annotated[Email | None, Field(max_length=254)]`. `Email | None` alone would lose
it, and MariaDB needs one.
"""

import re
import secrets
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

import pydantic
from email_validator import EmailNotValidError, validate_email
from pydantic import (
    MISSING,
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    SecretStr,
    StrictBool,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError
from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    Computed,
    Connection,
    Dialect,
    Enum,
    Index,
    Integer,
    Numeric,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    event,
    text,
)
from sqlalchemy.dialects.mysql import MEDIUMTEXT
from sqlalchemy.orm import Mapper, attributes, declared_attr
from sqlalchemy.types import TypeEngine
from sqlalchemy.util import OrderedSet
from sqlmodel import Field, Relationship, SQLModel, col, select

# Every constraint and index gets a name that says its table and columns, on every database.
SQLModel.metadata.naming_convention = {
    "pk": "pk_%(table_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}

# Vocabulary -----------------------------------------------------------------------------

INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})", re.ASCII)
AMOUNT = re.compile(r"-?[0-9]{1,8}(\.[0-9]{1,2})?", re.ASCII)
MAX_INT = 2**31 - 1  # the largest INTEGER that all three databases store
MAX_MONEY = Decimal("99999999.99")  # 10 digits: the most that a client may name


class MoneyType(TypeDecorator[Decimal]):
    """A column of money: NUMERIC(14, 2), and exact on every database.

    SQLite has no decimals: it would keep 0.30 as a float, and 0.30 - 3 * 0.10 would be
    below zero. So there it is a whole number of cents, in sums and comparisons too.
    """

    impl = Numeric(14, 2)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Integer() if dialect.name == "sqlite" else Numeric(14, 2))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        return int(value.scaleb(2)) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        return (
            Decimal(value).scaleb(-2) if value is not None and dialect.name == "sqlite" else value
        )


def plain_integer(value: Any) -> Any:
    """Before pydantic, which would take true for 1, and "+1", " 1 " and "1_0" for numbers."""
    if isinstance(value, bool) or (isinstance(value, str) and not INTEGER.fullmatch(value)):
        raise PydanticCustomError("int_parsing", "Input should be a valid integer")
    return value


def plain_money(value: Any) -> Any:
    """Before pydantic, which would take "1_0", "1e2" and the digits of other alphabets."""
    if isinstance(value, str) and not AMOUNT.fullmatch(value):
        raise PydanticCustomError("money", "Input should be an amount such as 79.99")
    return value


def in_cents(value: Decimal) -> Decimal:
    """With two decimals, however many zeros were sent, and never a negative zero."""
    return value.quantize(Decimal("0.01")) + 0


def email_address(value: str) -> str:
    """A valid address (RFC 5321, as email-validator reads it) in lower case.

    Lower case may be longer, so what is stored has to be valid, and to stay the same, too.
    """
    try:
        address = lower_address(value)
        if lower_address(address) == address and len(address) <= 254:
            return address
    except EmailNotValidError:  # whose own message would quote the address
        pass
    raise PydanticCustomError("email", "Input should be a valid e-mail address")


def lower_address(value: str) -> str:
    address = validate_email(value, check_deliverability=False, test_environment=True)
    return address.normalized.lower()


def name_as_stored(value: str) -> str:
    """A username, or an e-mail address, as the database has it to look for."""
    try:
        return email_address(value)
    except PydanticCustomError:
        return value.lower()


def secret_text(value: SecretStr) -> SecretStr:
    """Text that can be encoded: no half of a surrogate pair, and no U+0000."""
    secret = value.get_secret_value()
    if "\0" in secret or secret.encode("utf-8", "ignore").decode() != secret:
        raise PydanticCustomError("string_unicode", "Input should be valid text")
    return value


def strong_password(value: SecretStr) -> SecretStr:
    """8 to 100 characters, with an upper-case letter and a digit."""
    secret = value.get_secret_value()
    has_both = any(map(str.isupper, secret)) and any(map(str.isdigit, secret))
    if not (has_both and 8 <= len(secret) <= 100):
        message = "Input should have 8 to 100 characters, an upper-case letter and a digit"
        raise PydanticCustomError("password", message)
    return value


def money_schema(pattern: str, **bounds: float) -> WithJsonSchema:
    """How OpenAPI describes money that comes in: a number, or the same as a string."""
    number = {"type": "number", "maximum": float(MAX_MONEY), **bounds}
    return WithJsonSchema({"anyOf": [number, {"type": "string", "pattern": pattern}]}, "validation")


# PostgreSQL stores no U+0000 in a text (its manual, section 8.3), so none is let in.
NO_NUL = pydantic.Field(pattern=r"^[^\x00]*$")
SLUG = pydantic.Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
# Money is a Decimal in Python and a number in JSON: two decimals fit a float exactly enough
# to read back the same digits.
NUMBER = PlainSerializer(float, return_type=float, when_used="json")

PLAIN = BeforeValidator(plain_integer)
Id = Annotated[int, Field(ge=1, le=MAX_INT), PLAIN]
OptionalId = Annotated[int | None, Field(ge=1, le=MAX_INT), PLAIN]
Count = Annotated[int, Field(ge=0, le=MAX_INT), PLAIN]
Quantity = Annotated[int, Field(ge=1, le=10_000), PLAIN]
Name = Annotated[str, Field(min_length=1, max_length=200), NO_NUL]
Slug = Annotated[str, Field(max_length=200), SLUG]
OptionalSlug = Annotated[str | None, Field(max_length=200), SLUG]
OptionalText = Annotated[str | None, Field(max_length=10_000), NO_NUL]
Search = Annotated[str, Field(max_length=200), NO_NUL]
SearchFor = Annotated[str, Field(min_length=1, max_length=200), NO_NUL]
Username = Annotated[
    str, Field(min_length=3, max_length=50), pydantic.Field(pattern=r"^[A-Za-z0-9_]+$")
]
Sku = Annotated[
    str,
    Field(min_length=1, max_length=50),
    pydantic.Field(pattern=r"^[A-Za-z0-9-]+$"),
    AfterValidator(str.upper),
]
OptionalNote = Annotated[str | None, Field(max_length=500), NO_NUL]
Email = Annotated[
    str,
    Field(max_length=254),
    AfterValidator(email_address),
    WithJsonSchema({"type": "string", "format": "email", "maxLength": 254}),
]
Secret = Annotated[SecretStr, AfterValidator(secret_text)]
Password = Annotated[
    Secret,
    AfterValidator(strong_password),
    pydantic.Field(
        json_schema_extra={
            "minLength": 8,
            "maxLength": 100,
            "pattern": r"^(?=[^\x00]*[A-Z])(?=[^\x00]*[0-9])[^\x00]*$",
        }
    ),
]
MONEY = BeforeValidator(plain_money), AfterValidator(in_cents), NUMBER
Money = Annotated[
    Decimal,
    Field(max_digits=10, decimal_places=2, sa_type=MoneyType),
    *MONEY,
    money_schema(r"^-?[0-9]{1,8}(\.[0-9]{1,2})?$", minimum=-float(MAX_MONEY)),
]
Price = Annotated[
    Decimal,
    Field(gt=0, max_digits=10, decimal_places=2, sa_type=MoneyType),
    *MONEY,
    money_schema(r"^(?=.*[1-9])[0-9]{1,8}(\.[0-9]{1,2})?$", exclusiveMinimum=0),
]
Balance = Annotated[
    Decimal,
    Field(ge=0, max_digits=10, decimal_places=2, sa_type=MoneyType),
    *MONEY,
    money_schema(r"^[0-9]{1,8}(\.[0-9]{1,2})?$", minimum=0),
]
Moment = Annotated[
    AwareDatetime,
    Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9999, 12, 31, tzinfo=UTC)),
]
Sum = Annotated[Decimal, NUMBER]  # of many rows, so of any size


def now() -> datetime:
    return datetime.now(UTC)


# More than the 65,535 bytes that a TEXT of MariaDB and MySQL holds.
LongText: Any = Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")


def choice(values: type[StrEnum]) -> Any:
    """The column of an enum: a plain string, since a native PostgreSQL enum outlives its table."""
    return Enum(values, native_enum=False, length=20)


def listed_by(*columns: str) -> tuple[Index, ...]:
    """An index for each column that lists are filtered or sorted by.

    With the id, by which they are sorted within it: so a page is read from the index as it is,
    however many rows there are. One on a foreign key's column also serves the foreign key.
    """
    return tuple(Index(None, column, "id") for column in columns)


def listed_by_false(flag: str) -> Index:
    """An index for lists of those rows alone, the few, whose flag is false.

    The others are found in whatever order they are asked for. With an index for these too,
    SQLite would find half a table by it, and sort that, however few rows are asked for.
    """
    few, few_on_sqlite = text(f"NOT {flag}"), text(f"{flag} = 0")
    return Index(None, flag, "id", postgresql_where=few, sqlite_where=few_on_sqlite)


# Shared bases ---------------------------------------------------------------------------


class Schema(SQLModel):
    """What a client may send: a key that is not known here is an error, not ignored."""

    model_config = ConfigDict(extra="forbid")  # type: ignore[assignment]


def example(**fields: Any) -> Any:
    """The `model_config` of a body, with what /docs fills in: it works in a shop of `demo`."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


class Partial(SQLModel):
    """For ThingUpdate: every field may be left out, and then is not in `model_dump()` either.

    The fields keep their limits, and a null where none is allowed stays an error.
    """

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        for field in cls.model_fields.values():
            field.default, field.default_factory = MISSING, None
        cls.model_rebuild(force=True)


NAMED_BY = ("name", "title", "username", "order_number")  # what a row may be called by


class Entity(SQLModel):
    """A row with an id, which the database gives; the admin pages call it by `str`."""

    # Whether who asks for another user's is told 404 and not 403, so that nobody learns of it.
    is_private: ClassVar[bool] = True

    model_config = ConfigDict(  # type: ignore[assignment]
        json_schema_serialization_defaults_required=True
    )

    id: int = Field(
        default=None,
        primary_key=True,
        schema_extra={"json_schema_extra": lambda schema: schema.pop("default", None)},
    )

    def __str__(self) -> str:
        named = (self.__dict__[name] for name in NAMED_BY if name in self.__dict__)
        return str(next(named, f"{type(self).__name__} {self.id}"))

    @classmethod
    def owned_by(cls, user_id: int) -> ColumnElement[bool]:
        """The condition that a row belongs to this user, for routes that `Owner` may call."""
        if "user_id" not in cls.model_fields:
            raise TypeError(f"{cls.__name__} has to say in `owned_by` whose its rows are")
        return col(cls.user_id) == user_id  # type: ignore[attr-defined]


class Versioned(Entity):
    """An entity whose changes the ORM counts: its `version` is the ETag of its answers."""

    version: int = Field(
        default=1, exclude=True, repr=False, sa_column_kwargs={"server_default": "1"}
    )

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805
        return {"version_id_col": cls.__table__.c.version}  # type: ignore[attr-defined]


@event.listens_for(Entity, "after_insert", propagate=True)
def in_declared_order(_: Mapper[Any], __: Connection, row: Entity) -> None:
    """Put a new row's values in the order of its fields, which is that of the JSON keys."""
    values = row.__dict__
    for name in type(row).model_fields:
        if name in values:
            values[name] = values.pop(name)


@event.listens_for(Mapper, "after_configured")
def load_in_declared_order() -> None:
    """The same for rows that are loaded, at no cost for each.

    SQLAlchemy fills them in from a set, and so in another order in every process.
    """
    for mapper in SQLModel._sa_registry.mappers:
        mapper.__dict__["_prop_set"] = OrderedSet(mapper.attrs)


class Created(SQLModel):
    created_at: datetime = Field(default_factory=now)


class Timestamps(Created):
    updated_at: datetime = Field(default_factory=now, sa_column_kwargs={"onupdate": now})


@event.listens_for(Timestamps, "before_insert", propagate=True)
def unchanged_so_far(_: Mapper[Any], __: Connection, row: Timestamps) -> None:
    row.updated_at = row.created_at


T = TypeVar("T")


class NumberedPage(BaseModel, Generic[T]):
    """One page of a list whose pages are numbered from 1."""

    items: list[T]
    total: int
    page: int
    page_size: int
    total_pages: int
    has_next: bool
    has_previous: bool


class Notice(BaseModel):
    message: str


class Skipping(BaseModel):
    """The query parameters of a list: which rows, and whether to count them all."""

    skip: Count = pydantic.Field(0, description="How many rows to leave out.")
    limit: Annotated[int, Field(ge=1, le=100), PLAIN] = pydantic.Field(
        20, description="How many rows to give."
    )
    count: bool = pydantic.Field(False, description="Whether to give X-Total-Count.")


class Paging(Skipping):
    """The query parameters of a list that may be sorted by id."""

    after: Annotated[int | None, Field(ge=0, le=MAX_INT), PLAIN] = pydantic.Field(
        None, description="The last id seen: the rows after that one."
    )


# Access ---------------------------------------------------------------------------------


class Token(BaseModel):
    """An access token (RFC 6750), and for how many seconds it holds."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105
    expires_in: int


class LogIn(BaseModel):
    """The form of OAuth 2.0's password flow (RFC 6749, section 4.3.2). Other fields are ignored."""

    model_config = example(username="johndoe", password="SecurePass123")  # noqa: S106

    username: Annotated[str, Field(max_length=254), NO_NUL, AfterValidator(name_as_stored)]
    password: Annotated[Secret, Field(max_length=1000)]
    grant_type: Literal["password"] = "password"
    scope: str = ""
    client_id: str | None = None
    client_secret: Secret | None = None


class Claims(BaseModel):
    """What a token says (RFC 7519, section 4.1): whose it is, and when it was made and ends."""

    sub: Id
    stamp: Annotated[str, Field(max_length=16), NO_NUL]
    iat: int
    exp: int


class Tries(Timestamps, Entity, table=True):
    """When log-ins with a name or from an address have failed lately, or users signed up there."""

    __tablename__ = "log_in_failures"
    __table_args__ = (Index(None, "updated_at"),)

    key: str = Field(max_length=64, unique=True)
    times: list[float] = Field(default=[], sa_type=JSON)  # in seconds since 1970


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


def new_stamp() -> str:
    return secrets.token_hex(8)


class User(Timestamps, UserState, Versioned, table=True):
    __table_args__ = (
        *listed_by("username", "created_at"),
        listed_by_false("is_active"),
        Index(None, "updated_at"),  # to deactivate who has long been idle
    )
    is_private: ClassVar[bool] = False

    password_hash: str = Field(max_length=255, exclude=True, repr=False)
    # Stands in the user's tokens, which end when it changes: see `end_tokens`.
    stamp: str = Field(
        default_factory=new_stamp,
        max_length=16,
        exclude=True,
        repr=False,
        sa_column_kwargs={"server_default": ""},
    )
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


@event.listens_for(User, "before_update")
def end_tokens(_: Mapper[Any], __: Connection, user: User) -> None:
    """End a user's tokens with their password, and when they are deactivated."""
    is_deactivated = has_changed(user, "is_active") and not user.is_active
    if is_deactivated or has_changed(user, "password_hash"):
        user.stamp = new_stamp()


def has_changed(row: Entity, name: str) -> bool:
    return bool(attributes.get_history(row, name).has_changes())


class UserCreate(UserBase):
    model_config = example(
        username="johndoe",
        email="john@example.com",
        full_name="John Doe",
        password="SecurePass123",  # noqa: S106
    )

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


class UserRead(Timestamps, UserState, Entity):
    posts: list["PostRead"]


class TopSpender(BaseModel):
    username: str
    email: str
    order_count: int
    total_spent: Sum


class ActiveCount(BaseModel):
    active_users: int


class DeactivatedCount(BaseModel):
    deactivated_count: int


class DeletedCount(BaseModel):
    deleted_count: int


# Categories -----------------------------------------------------------------------------


class CategoryBase(Schema):
    name: Annotated[str, Field(min_length=1, max_length=100), NO_NUL] = Field(unique=True)
    slug: Slug = Field(unique=True)
    description: OptionalText = None
    parent_id: OptionalId = Field(default=None, foreign_key="category.id", ondelete="SET NULL")


class Category(Created, CategoryBase, Versioned, table=True):
    __table_args__ = listed_by("parent_id")

    parent: "Category" = Relationship(
        sa_relationship_kwargs={"lazy": "raise", "remote_side": "Category.id"}
    )


class CategoryCreate(CategoryBase):
    model_config = example(name="Outdoor", description="All for outdoor")

    slug: OptionalSlug = None  # type: ignore[assignment]  # left out: made from the name


class CategoryUpdate(Partial, CategoryBase):
    model_config = example(description="Tents, lamps and more")


class CategoryTree(Created, CategoryBase, Entity):
    children: list["CategoryTree"]


class CategoryProducts(BaseModel):
    category: str
    product_count: int
    products: list["Product"]


# Products -------------------------------------------------------------------------------


class ProductFields(Schema):
    name: Name
    slug: Slug = Field(unique=True)
    description: OptionalText = None
    price: Price
    stock_quantity: Count = Field(default=0, sa_type=BigInteger)
    sku: Sku = Field(unique=True)
    is_active: StrictBool = True


class ProductBase(ProductFields):
    category_id: OptionalId = Field(default=None, foreign_key="category.id", ondelete="SET NULL")


class Product(Timestamps, ProductBase, Versioned, table=True):
    __table_args__ = (
        UniqueConstraint("name", "category_id"),
        CheckConstraint("price > 0", "price_positive"),
        CheckConstraint("stock_quantity >= 0", "stock_quantity_not_negative"),
        *listed_by("name", "price", "created_at", "category_id"),
        listed_by_false("is_active"),
        # For low stock, too: what is not active is passed over within the index.
        Index(None, "stock_quantity", "id", "is_active"),
    )

    category: Category | None = Relationship(sa_relationship_kwargs={"lazy": "raise"})


class ProductCreate(ProductBase):
    model_config = example(
        name="Wireless Headphones", price=79.99, sku="WH-001", stock_quantity=50, category_id=1
    )

    slug: OptionalSlug = None  # type: ignore[assignment]  # left out: made from the name


class ProductUpdate(Partial, ProductBase):
    model_config = example(price=69.99)


class ProductRead(Timestamps, ProductBase, Entity):
    stock_quantity: int  # which with what cancelled orders give back may pass the limit above
    category: Category | None


class ProductPage(NumberedPage[ProductRead]):
    pass


class ProductLine(Partial, ProductFields):
    """A product in a file: with the slug of its category, in place of the id."""

    slug: OptionalSlug  # type: ignore[assignment]  # left out: made from the name, or kept
    stock_quantity: Annotated[int, Field(ge=0, le=2**53), PLAIN]  # cancelled orders add to it
    category: OptionalSlug
    id: Id
    created_at: Moment
    updated_at: Moment


class ImportCounts(BaseModel):
    created: int
    updated: int


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
    )

    lines: list["OrderLine"] = Relationship(
        sa_relationship_kwargs={
            "lazy": "raise",
            "passive_deletes": "all",
            "order_by": "OrderLine.id",
        }
    )
    user: User = Relationship(sa_relationship_kwargs={"lazy": "raise"})


class OrderLineBase(SQLModel):
    product_id: Id = Field(foreign_key="product.id", ondelete="RESTRICT", index=True)
    quantity: Quantity
    unit_price: Money
    total_price: Money


class OrderLine(OrderLineBase, Entity, table=True):
    __tablename__ = "order_line"
    __table_args__ = (CheckConstraint("quantity > 0", "quantity_positive"),)

    order_id: Id = Field(foreign_key="order.id", ondelete="CASCADE", index=True, exclude=True)

    product: Product = Relationship(sa_relationship_kwargs={"lazy": "raise"})

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
            raise PydanticCustomError(
                "quantity", "Input should not add up to more than 10000 of one product"
            )
        return [OrderLineCreate(product_id=id, quantity=n) for id, n in quantities.items()]


class OrderRead(Timestamps, OrderBase, Versioned):
    items: list[OrderLine] = Field(validation_alias="lines")


class OrderLineDetails(OrderLineBase, Entity):
    product: Product


class OrderDetails(Timestamps, OrderBase, Entity):
    items: list[OrderLineDetails] = Field(validation_alias="lines")
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


class OrderStats(BaseModel):
    total_orders: int
    total_revenue: Sum
    orders_by_status: dict[OrderStatus, int]


class DailyOrders(BaseModel):
    date: date
    orders: int
    revenue: Sum


# Notifications --------------------------------------------------------------------------


class NotificationBase(SQLModel):
    user_id: Id = Field(foreign_key="user.id", ondelete="CASCADE")
    order_id: Id = Field(foreign_key="order.id", ondelete="CASCADE")
    message: str = Field(max_length=500)


class Notification(Created, NotificationBase, Entity, table=True):
    __table_args__ = listed_by("user_id", "order_id")

    user: User = Relationship(sa_relationship_kwargs={"lazy": "raise"})
    order: Order = Relationship(sa_relationship_kwargs={"lazy": "raise"})


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
    content: Annotated[str, Field(min_length=1, max_length=100_000), NO_NUL] = Field(
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

    author: User = Relationship(sa_relationship_kwargs={"lazy": "raise"})
    tags: list["Tag"] = Relationship(
        link_model=PostTag,
        sa_relationship_kwargs={"lazy": "raise", "passive_deletes": True, "order_by": "Tag.id"},
    )

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


class PostRead(PostDates, PostRow, Versioned):
    tags: list["Tag"]


class PostViews(BaseModel):
    view_count: int


# Tags -----------------------------------------------------------------------------------


class TagBase(Schema):
    name: Annotated[str, Field(min_length=1, max_length=50), NO_NUL] = Field(unique=True)
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

    user: User = Relationship(sa_relationship_kwargs={"lazy": "raise"})

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

    from_account: Account = Relationship(
        sa_relationship_kwargs={"lazy": "raise", "foreign_keys": "Transfer.from_account_id"}
    )
    to_account: Account = Relationship(
        sa_relationship_kwargs={"lazy": "raise", "foreign_keys": "Transfer.to_account_id"}
    )

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

    order: Order = Relationship(sa_relationship_kwargs={"lazy": "raise"})
    account: Account = Relationship(sa_relationship_kwargs={"lazy": "raise"})

    @classmethod
    def owned_by(cls, user_id: int) -> ColumnElement[bool]:
        return col(cls.order_id).in_(select(Order.id).where(Order.user_id == user_id))


class PaymentCreate(Schema):
    model_config = example(account_id=1)

    account_id: Id


# Idempotency keys -----------------------------------------------------------------------


class IdempotencyKey(Created, Entity, table=True):
    """What was answered to a request with an Idempotency-Key, for when it is sent again."""

    __tablename__ = "idempotency_key"
    __table_args__ = (UniqueConstraint("key", "route", "user_id"), Index(None, "created_at"))

    key: str = Field(max_length=200)
    route: str = Field(max_length=200)
    user_id: int = 0  # of the user who is logged in; 0 in open mode
    # The same, with whom it is deleted; null in open mode, and no null is equal to another.
    owner_id: int | None = Field(
        default=None, foreign_key="user.id", ondelete="CASCADE", index=True
    )
    fingerprint: str = Field(max_length=64)
    status: int = 0
    headers: dict[str, str] = Field(default={}, sa_type=JSON)
    body: str = Field(default="", sa_type=LongText)
