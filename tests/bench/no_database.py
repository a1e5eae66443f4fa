"""FastAPI by itself: what the framework takes of each request, before any database."""

from fastapi import FastAPI
from pydantic import BaseModel


class Item(BaseModel):
    id: int
    title: str
    description: str | None
    price: float
    is_available: bool


app = FastAPI()


@app.get("/items/{item_id}")
async def read_item(item_id: int) -> Item:
    return Item(id=item_id, title="Mug", description=None, price=9.99, is_available=True)
