"""The usual tutorial stack, to compare with: `get_db`, plain `def` routes, separate schemas."""

import hashlib
import os
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ForeignKey, Numeric, create_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    sessionmaker,
)

url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg2:")
is_sqlite = url.startswith("sqlite")
engine = create_engine(url, connect_args={"check_same_thread": False} if is_sqlite else {})
SessionLocal = sessionmaker(autocommit=False, autoflush=False, bind=engine)


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True, index=True)
    title: Mapped[str] = mapped_column(index=True)
    description: Mapped[str | None]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    is_available: Mapped[bool] = mapped_column(default=True)


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True, index=True)
    username: Mapped[str] = mapped_column(unique=True, index=True)
    email: Mapped[str] = mapped_column(unique=True, index=True)
    hashed_password: Mapped[str]


class Product(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True, index=True)
    name: Mapped[str] = mapped_column(index=True)
    sku: Mapped[str] = mapped_column(unique=True, index=True)
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    stock_quantity: Mapped[int]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True, index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    total_amount: Mapped[Decimal] = mapped_column(Numeric(10, 2), default=0)
    status: Mapped[str] = mapped_column(default="pending")
    items: Mapped[list["OrderItem"]] = relationship(back_populates="order")


class OrderItem(Base):
    __tablename__ = "order_items"
    id: Mapped[int] = mapped_column(primary_key=True, index=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    quantity: Mapped[int]
    unit_price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    order: Mapped[Order] = relationship(back_populates="items")


class ItemBase(BaseModel):
    title: str
    description: str | None = None
    price: float
    is_available: bool = True


class ItemUpdate(BaseModel):
    title: str | None = None
    description: str | None = None
    price: float | None = None
    is_available: bool | None = None


class ItemResponse(ItemBase):
    model_config = ConfigDict(from_attributes=True)
    id: int


class UserCreate(BaseModel):
    username: str
    email: str
    password: str


class UserResponse(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    username: str
    email: str


class ProductCreate(BaseModel):
    name: str
    sku: str
    price: float
    stock_quantity: int


class ProductResponse(ProductCreate):
    model_config = ConfigDict(from_attributes=True)
    id: int


class LineCreate(BaseModel):
    product_id: int
    quantity: int


class OrderCreate(BaseModel):
    user_id: int
    items: list[LineCreate]


class LineResponse(LineCreate):
    model_config = ConfigDict(from_attributes=True)
    id: int
    unit_price: float


class OrderResponse(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    user_id: int
    total_amount: float
    status: str
    items: list[LineResponse]


Base.metadata.create_all(bind=engine)
app = FastAPI()


def get_db() -> Iterator[Session]:
    db = SessionLocal()
    try:
        yield db
    finally:
        db.close()


Db = Annotated[Session, Depends(get_db)]


@app.get("/items/", response_model=list[ItemResponse])
def read_items(db: Db, skip: int = 0, limit: int = 20) -> list[Item]:
    return db.query(Item).offset(skip).limit(limit).all()


@app.get("/items/{item_id}", response_model=ItemResponse)
def read_item(item_id: int, db: Db) -> Item:
    item = db.query(Item).filter(Item.id == item_id).first()
    if item is None:
        raise HTTPException(status_code=404, detail="Item not found")
    return item


@app.post("/items/", response_model=ItemResponse, status_code=201)
def create_item(data: ItemBase, db: Db) -> Item:
    item = Item(**data.model_dump())
    db.add(item)
    db.commit()
    db.refresh(item)
    return item


@app.patch("/items/{item_id}", response_model=ItemResponse)
def update_item(item_id: int, data: ItemUpdate, db: Db) -> Item:
    item = db.query(Item).filter(Item.id == item_id).first()
    if item is None:
        raise HTTPException(status_code=404, detail="Item not found")
    for key, value in data.model_dump(exclude_unset=True).items():
        setattr(item, key, value)
    db.commit()
    db.refresh(item)
    return item


@app.post("/users/", response_model=UserResponse, status_code=201)
def create_user(data: UserCreate, db: Db) -> User:
    hashed = hashlib.sha256(data.password.encode()).hexdigest()
    user = User(username=data.username, email=data.email, hashed_password=hashed)
    db.add(user)
    db.commit()
    db.refresh(user)
    return user


@app.post("/products/", response_model=ProductResponse, status_code=201)
def create_product(data: ProductCreate, db: Db) -> Product:
    product = Product(**data.model_dump())
    db.add(product)
    db.commit()
    db.refresh(product)
    return product


@app.post("/orders/", response_model=OrderResponse, status_code=201)
def create_order(data: OrderCreate, db: Db) -> Order:
    user = db.query(User).filter(User.id == data.user_id).first()
    if user is None:
        raise HTTPException(status_code=404, detail="User not found")
    order, total = Order(user_id=user.id), Decimal(0)
    db.add(order)
    db.flush()
    for line in data.items:
        product = db.query(Product).filter(Product.id == line.product_id).first()
        if product is None:
            raise HTTPException(status_code=404, detail="Product not found")
        if product.stock_quantity < line.quantity:
            raise HTTPException(status_code=400, detail="Insufficient stock")
        product.stock_quantity -= line.quantity
        total += product.price * line.quantity
        db.add(
            OrderItem(
                order_id=order.id,
                product_id=product.id,
                quantity=line.quantity,
                unit_price=product.price,
            )
        )
    order.total_amount = total
    db.commit()
    db.refresh(order)
    return order
