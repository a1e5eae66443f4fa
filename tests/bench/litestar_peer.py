"""Litestar with its SQLAlchemy plugin, as in their documentation: `async def` handlers and DTOs.

The plugin gives each request a session, and commits it before the answer is sent.
"""

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

from advanced_alchemy.extensions.litestar import (
    AsyncSessionConfig,
    EngineConfig,
    SQLAlchemyAsyncConfig,
    SQLAlchemyDTO,
    SQLAlchemyDTOConfig,
    SQLAlchemyPlugin,
)
from litestar import Litestar, get, patch, post
from litestar.dto import DTOData
from litestar.exceptions import ClientException, NotFoundException
from sqlalchemy import CheckConstraint, ForeignKey, Numeric, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
backend, rest = os.environ["DATABASE_URL"].split(":", 1)


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(index=True)
    description: Mapped[str | None]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    is_available: Mapped[bool] = mapped_column(default=True)


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]


class Product(Base):
    __tablename__ = "products"
    __table_args__ = (CheckConstraint("stock_quantity >= 0"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    sku: Mapped[str] = mapped_column(unique=True)
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    stock_quantity: Mapped[int]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    total_amount: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    status: Mapped[str] = mapped_column(default="pending")
    items: Mapped[list["OrderItem"]] = relationship()


class OrderItem(Base):
    __tablename__ = "order_items"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    quantity: Mapped[int]
    unit_price: Mapped[Decimal] = mapped_column(Numeric(10, 2))


class ItemIn(SQLAlchemyDTO[Item]):
    config = SQLAlchemyDTOConfig(exclude={"id"})


class ItemChange(SQLAlchemyDTO[Item]):
    config = SQLAlchemyDTOConfig(exclude={"id"}, partial=True)


class ItemOut(SQLAlchemyDTO[Item]):
    pass


class UserOut(SQLAlchemyDTO[User]):
    config = SQLAlchemyDTOConfig(exclude={"password_hash"})


class ProductIn(SQLAlchemyDTO[Product]):
    config = SQLAlchemyDTOConfig(exclude={"id"})


class ProductOut(SQLAlchemyDTO[Product]):
    pass


class OrderOut(SQLAlchemyDTO[Order]):
    config = SQLAlchemyDTOConfig(exclude={"items.0.order_id"})


@dataclass
class UserCreate:
    username: str
    email: str
    password: str


@dataclass
class LineCreate:
    product_id: int
    quantity: int


@dataclass
class OrderCreate:
    user_id: int
    items: list[LineCreate]


@get("/items/", return_dto=ItemOut)
async def list_items(db_session: AsyncSession, skip: int = 0, limit: int = 20) -> list[Item]:
    return list(await db_session.scalars(select(Item).order_by(Item.id).offset(skip).limit(limit)))


@get("/items/{item_id:int}", return_dto=ItemOut)
async def get_item(item_id: int, db_session: AsyncSession) -> Item:
    item = await db_session.get(Item, item_id)
    if item is None:
        raise NotFoundException("Item not found")
    return item


@post("/items/", dto=ItemIn, return_dto=ItemOut)
async def create_item(data: Item, db_session: AsyncSession) -> Item:
    db_session.add(data)
    await db_session.flush()
    return data


@patch("/items/{item_id:int}", dto=ItemChange, return_dto=ItemOut)
async def update_item(item_id: int, data: DTOData[Item], db_session: AsyncSession) -> Item:
    item = await db_session.get(Item, item_id)
    if item is None:
        raise NotFoundException("Item not found")
    return data.update_instance(item)


@post("/users/", return_dto=UserOut)
async def create_user(data: UserCreate, db_session: AsyncSession) -> User:
    password_hash = hashlib.sha256(data.password.encode()).hexdigest()
    user = User(username=data.username, email=data.email, password_hash=password_hash)
    db_session.add(user)
    await db_session.flush()
    return user


@post("/products/", dto=ProductIn, return_dto=ProductOut)
async def create_product(data: Product, db_session: AsyncSession) -> Product:
    db_session.add(data)
    await db_session.flush()
    return data


@post("/orders/", return_dto=OrderOut)
async def create_order(data: OrderCreate, db_session: AsyncSession) -> Order:
    if await db_session.get(User, data.user_id) is None:
        raise NotFoundException("User not found")
    wanted = Counter[int]()
    for line in data.items:
        wanted[line.product_id] += line.quantity
    locked = (
        select(Product).where(Product.id.in_(list(wanted))).order_by(Product.id).with_for_update()
    )
    products = {product.id: product for product in await db_session.scalars(locked)}
    order = Order(user_id=data.user_id, total_amount=Decimal(0), items=[])
    for product_id, quantity in wanted.items():
        if (product := products.get(product_id)) is None:
            raise NotFoundException("Product not found")
        if product.stock_quantity < quantity:
            raise ClientException("Insufficient stock")
        product.stock_quantity = Product.stock_quantity - quantity
        order.total_amount += product.price * quantity
        order.items.append(
            OrderItem(product_id=product_id, quantity=quantity, unit_price=product.price)
        )
    db_session.add(order)
    await db_session.flush()
    return order


alchemy = SQLAlchemyAsyncConfig(
    connection_string=f"{DRIVERS[backend]}:{rest}",
    before_send_handler="autocommit",
    session_config=AsyncSessionConfig(expire_on_commit=False),
    metadata=Base.metadata,
    create_all=True,
    # Those beyond the pool's size would be opened for each request anew.
    engine_config=EngineConfig(pool_size=15, max_overflow=0),
)
app = Litestar(
    [list_items, get_item, create_item, update_item, create_user, create_product, create_order],
    plugins=[SQLAlchemyPlugin(config=alchemy)],
)
