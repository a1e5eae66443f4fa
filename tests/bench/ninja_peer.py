"""Django Ninja over Django's ORM, in one file: plain `def` views, schemas in and out.

Connections stay open, one a thread; SQLite's transactions wait for one another from their start,
both as Django's documentation advises. No middleware is in the way.
"""

import os
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application

url = urlsplit(os.environ["DATABASE_URL"])
on_sqlite = url.scheme == "sqlite"
SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": url.path.removeprefix("/"),
    "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
}
POSTGRESQL = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": url.path.strip("/"),
    "USER": url.username,
    "PASSWORD": url.password,
    "HOST": url.hostname,
    "PORT": url.port,
}
settings.configure(
    SECRET_KEY="only for measurements",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DATABASES={"default": {**(SQLITE if on_sqlite else POSTGRESQL), "CONN_MAX_AGE": 600}},
)
django.setup()

from django.contrib.auth.hashers import make_password  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402
from django.db.models import F, Q  # noqa: E402
from django.shortcuts import get_object_or_404  # noqa: E402
from django.urls import path  # noqa: E402
from ninja import NinjaAPI, PatchDict, Schema, Status  # noqa: E402
from ninja.errors import HttpError  # noqa: E402


class Item(models.Model):
    title = models.CharField(max_length=200, db_index=True)
    description = models.TextField(null=True)
    price = models.DecimalField(max_digits=10, decimal_places=2)
    is_available = models.BooleanField(default=True)

    class Meta:
        app_label = "shop"


class User(models.Model):
    username = models.CharField(max_length=50, unique=True)
    email = models.EmailField(unique=True)
    password = models.CharField(max_length=128)

    class Meta:
        app_label = "shop"


class Product(models.Model):
    name = models.CharField(max_length=200, db_index=True)
    sku = models.CharField(max_length=50, unique=True)
    price = models.DecimalField(max_digits=10, decimal_places=2)
    stock_quantity = models.IntegerField()

    class Meta:
        app_label = "shop"
        constraints = (
            models.CheckConstraint(condition=Q(stock_quantity__gte=0), name="stock_not_negative"),
        )


class Order(models.Model):
    user = models.ForeignKey(User, on_delete=models.CASCADE)
    total_amount = models.DecimalField(max_digits=10, decimal_places=2)
    status = models.CharField(max_length=20, default="pending")

    class Meta:
        app_label = "shop"


class OrderItem(models.Model):
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="items")
    product = models.ForeignKey(Product, on_delete=models.PROTECT)
    quantity = models.IntegerField()
    unit_price = models.DecimalField(max_digits=10, decimal_places=2)

    class Meta:
        app_label = "shop"


class ItemIn(Schema):
    title: str
    description: str | None = None
    price: float
    is_available: bool = True


class ItemOut(ItemIn):
    id: int


class UserIn(Schema):
    username: str
    email: str
    password: str


class UserOut(Schema):
    id: int
    username: str
    email: str


class ProductIn(Schema):
    name: str
    sku: str
    price: float
    stock_quantity: int


class ProductOut(ProductIn):
    id: int


class LineIn(Schema):
    product_id: int
    quantity: int


class OrderIn(Schema):
    user_id: int
    items: list[LineIn]


class LineOut(LineIn):
    id: int
    unit_price: float


class OrderOut(Schema):
    id: int
    user_id: int
    total_amount: float
    status: str
    items: list[LineOut]


if not connection.introspection.table_names():
    with connection.schema_editor() as editor:
        for model in (Item, User, Product, Order, OrderItem):
            editor.create_model(model)
connection.close()
api = NinjaAPI()


@api.get("/items/", response=list[ItemOut])
def list_items(request: Any, skip: int = 0, limit: int = 20) -> Any:
    return Item.objects.order_by("id")[skip : skip + limit]


@api.get("/items/{int:item_id}", response=ItemOut)
def get_item(request: Any, item_id: int) -> Any:
    return get_object_or_404(Item, id=item_id)


@api.post("/items/", response={201: ItemOut})
def create_item(request: Any, data: ItemIn) -> Any:
    return Status(201, Item.objects.create(**data.dict()))


@api.patch("/items/{int:item_id}", response=ItemOut)
def update_item(request: Any, item_id: int, data: PatchDict[ItemIn]) -> Any:
    item = get_object_or_404(Item, id=item_id)
    for field, value in data.items():
        setattr(item, field, value)
    item.save()
    return item


@api.post("/users/", response={201: UserOut})
def create_user(request: Any, data: UserIn) -> Any:
    password = make_password(data.password)
    user = User.objects.create(username=data.username, email=data.email, password=password)
    return Status(201, user)


@api.post("/products/", response={201: ProductOut})
def create_product(request: Any, data: ProductIn) -> Any:
    return Status(201, Product.objects.create(**data.dict()))


@api.post("/orders/", response={201: OrderOut})
@transaction.atomic
def create_order(request: Any, data: OrderIn) -> Any:
    user = get_object_or_404(User, id=data.user_id)
    wanted = Counter[int]()
    for line in data.items:
        wanted[line.product_id] += line.quantity
    locked = Product.objects.select_for_update().filter(id__in=list(wanted)).order_by("id")
    products = {product.id: product for product in locked}
    if len(products) < len(wanted):
        raise HttpError(404, "Product not found")
    for product in products.values():
        if product.stock_quantity < wanted[product.id]:
            raise HttpError(400, "Insufficient stock")
        product.stock_quantity = F("stock_quantity") - wanted[product.id]
        product.save(update_fields=["stock_quantity"])
    total = sum(product.price * wanted[product.id] for product in products.values())
    order = Order.objects.create(user=user, total_amount=total)
    OrderItem.objects.bulk_create(
        OrderItem(order=order, product=product, quantity=wanted[id], unit_price=product.price)
        for id, product in products.items()
    )
    return Status(201, order)


urlpatterns = [path("", api.urls)]
app = get_wsgi_application()
