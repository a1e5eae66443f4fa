"""An app without routes."""

import pytest

import db
import kit


@pytest.fixture
def app(database: str) -> kit.Service:
    return kit.Service(db.database, db.migrations, db.async_session)
