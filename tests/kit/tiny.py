"""Calls an app of a test's own."""

import asyncio

import httpx2

import kit
from kit.service import lifespan


def start(app: kit.Service) -> None:
    async def to_the_first_request() -> None:
        async with lifespan(app):
            pass

    asyncio.run(to_the_first_request())


def get(app: kit.Service, path: str, **headers: str) -> httpx2.Response:
    async def call() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(call())
