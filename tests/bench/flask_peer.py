"""Flask with Flask-SQLAlchemy, as in their documentation: dictionaries in, dictionaries out.

It checks no body but for what the database refuses.
"""

import os
from collections import Counter
from decimal import Decimal
from typing import Any

from flask import Flask, abort, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import CheckConstraint, ForeignKey, Numeric, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from werkzeug.security import generate_password_hash


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)
app = Flask(__name__)
url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg2:")
app.config["SQLALCHEMY_DATABASE_URI"] = url
db.init_app(app)


class Item(db.Model):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(index=True)
    description: Mapped[str | None]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    is_available: Mapped[bool] = mapped_column(default=True)

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "title": self.title,
            "description": self.description,
            "price": float(self.price),
            "is_available": self.is_available,
        }


class User(db.Model):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]

    def to_dict(self) -> dict[str, Any]:
        return {"id": self.id, "username": self.username, "email": self.email}


class Product(db.Model):
    __tablename__ = "products"
    __table_args__ = (CheckConstraint("stock_quantity >= 0"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    sku: Mapped[str] = mapped_column(unique=True)
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    stock_quantity: Mapped[int]

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "sku": self.sku,
            "price": float(self.price),
            "stock_quantity": self.stock_quantity,
        }


class Order(db.Model):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    total_amount: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    status: Mapped[str] = mapped_column(default="pending")
    items: Mapped[list["OrderItem"]] = relationship()

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "user_id": self.user_id,
            "total_amount": float(self.total_amount),
            "status": self.status,
            "items": [line.to_dict() for line in self.items],
        }


class OrderItem(db.Model):
    __tablename__ = "order_items"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    quantity: Mapped[int]
    unit_price: Mapped[Decimal] = mapped_column(Numeric(10, 2))

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "product_id": self.product_id,
            "quantity": self.quantity,
            "unit_price": float(self.unit_price),
        }


with app.app_context():
    db.create_all()


@app.errorhandler(IntegrityError)
def refused(error: IntegrityError) -> tuple[dict[str, str], int]:
    db.session.rollback()
    return {"error": "Conflict"}, 409


@app.get("/items/")
def list_items() -> list[dict[str, Any]]:
    skip, limit = request.args.get("skip", 0, type=int), request.args.get("limit", 20, type=int)
    items = db.session.scalars(select(Item).order_by(Item.id).offset(skip).limit(limit))
    return [item.to_dict() for item in items]


@app.get("/items/<int:item_id>")
def get_item(item_id: int) -> dict[str, Any]:
    item: Item = db.get_or_404(Item, item_id)
    return item.to_dict()


@app.post("/items/")
def create_item() -> tuple[dict[str, Any], int]:
    item = Item(**request.get_json())
    db.session.add(item)
    db.session.commit()
    return item.to_dict(), 201


@app.patch("/items/<int:item_id>")
def update_item(item_id: int) -> dict[str, Any]:
    item: Item = db.get_or_404(Item, item_id)
    for field, value in request.get_json().items():
        setattr(item, field, value)
    db.session.commit()
    return item.to_dict()


@app.post("/users/")
def create_user() -> tuple[dict[str, Any], int]:
    data = request.get_json()
    password_hash = generate_password_hash(data.pop("password"))
    user = User(**data, password_hash=password_hash)
    db.session.add(user)
    db.session.commit()
    return user.to_dict(), 201


@app.post("/products/")
def create_product() -> tuple[dict[str, Any], int]:
    product = Product(**request.get_json())
    db.session.add(product)
    db.session.commit()
    return product.to_dict(), 201


@app.post("/orders/")
def create_order() -> tuple[dict[str, Any], int]:
    data = request.get_json()
    user: User = db.get_or_404(User, data["user_id"])
    wanted = Counter[int]()
    for line in data["items"]:
        wanted[line["product_id"]] += line["quantity"]
    locked = (
        select(Product).where(Product.id.in_(list(wanted))).order_by(Product.id).with_for_update()
    )
    products = {product.id: product for product in db.session.scalars(locked)}
    order = Order(user_id=user.id, total_amount=Decimal(0))
    for product_id, quantity in wanted.items():
        product = products.get(product_id) or abort(404)
        if product.stock_quantity < quantity:
            abort(409, "Insufficient stock")
        product.stock_quantity = Product.stock_quantity - quantity
        order.total_amount += product.price * quantity
        order.items.append(
            OrderItem(product_id=product_id, quantity=quantity, unit_price=product.price)
        )
    db.session.add(order)
    db.session.commit()
    return order.to_dict(), 201
