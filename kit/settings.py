"""Settings from the environment and a file `.env`: of the database, of access, of HTTP."""

import re
import sys
from difflib import get_close_matches
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Literal, TypeVar

from pydantic import (
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from kit.fields import Name

DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
HOST = r"[^/?@:,[]+(?::\d+)?"
SEVERAL_HOSTS = re.compile(
    rf"(postgres[^/]*://(?:[^/?@]*@)?)({HOST}(?:,{HOST})+)(/[^?]*)(?:\?(.*))?"
)

ORIGIN = re.compile(
    r"([a-z][a-z0-9+.-]*)://([a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[[0-9a-f:]+\])(?::([1-9][0-9]{0,4}))?"
)
OF_NO_PAGE = {"ftp", "ws", "wss"}  # schemes that a page does not come by
NOT_UTF_8 = ".env is not a text in UTF-8"
# How near a name in .env is to that of a setting that was meant (difflib's ratio): DATABSE_URL
# and TOKEN_TLL are, DATABASE_USER, TEST_DATABASE_URL and SECRET_KEY_BASE are other tools'.
NEAR = 0.885


def name_each_host(url: str) -> str:
    """Several hosts as SQLAlchemy names them, `//user@/name?host=h1:p1&host=h2:p2`.

    PostgreSQL's own way, which is in its manual, is `//user@h1:p1,h2:p2/name`.
    """
    if not (found := SEVERAL_HOSTS.fullmatch(url)):
        return url
    start, hosts, name, query = found.groups()
    each = "&".join(f"host={host}" for host in hosts.split(","))
    return f"{start}{name}?{each}&{query or ''}"


def split_origins(setting: str) -> list[str]:
    """The origins in CORS_ORIGINS; none in an empty one."""
    return [origin for origin in map(str.strip, setting.split(",")) if origin]


def is_origin(text: str) -> bool:
    """Whether browsers send it just so (RFC 6454, section 6.2; URL Standard, 3.5 and 3.6)."""
    if not (found := ORIGIN.fullmatch(text)):
        return False
    scheme, host, port = found.groups()
    try:
        if host.startswith("["):
            normal = f"[{IPv6Address(host[1:-1])}]"
        else:
            is_number = re.search(r"(^|\.)([0-9]+|0x[0-9a-f]*)\.?$", host)
            normal = str(IPv4Address(host)) if is_number else host
    except ValueError:
        return False
    is_usual = (scheme, port) in (("http", "80"), ("https", "443"))
    return host == normal and scheme not in OF_NO_PAGE and not is_usual and int(port or 1) < 65536


class Settings(BaseSettings):
    """Read from the environment and from a file `.env`; the names are those of the fields."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8-sig", extra="ignore"
    )

    database_url: str = "sqlite:///./app.db"
    database_read_url: str | None = None
    database_echo: bool | Literal["pool"] = False  # log SQL, or what the pool does
    db_pool_size: int = Field(10, ge=0, le=1000)
    db_max_overflow: int = Field(5, ge=0, le=1000)
    db_pool_timeout: float = Field(10, gt=0, le=3600)  # seconds
    db_pool_recycle: int = Field(1800, ge=1)  # seconds
    migrate_on_start: bool = True
    secret_key: SecretStr | None = None  # that signs tokens
    token_ttl: int = Field(3600, ge=1, le=366 * 24 * 3600)  # seconds
    cors_origins: str = ""  # separated by commas
    root_path: str = ""  # what a proxy in front adds to every path, "/shop"
    max_body_size: int = Field(1024 * 1024, ge=1)  # bytes
    history_days: int = Field(
        90, ge=0, le=36_500
    )  # for which changes are kept; 0: none are written
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    metrics: bool = False  # for Prometheus, at /metrics
    app_name: Name = "API"
    debug: bool = False

    @model_validator(mode="before")
    @classmethod
    def known_names(cls, values: dict[str, Any]) -> dict[str, Any]:
        """A `.env` may be for other tools as well, but hardly with names so near to these."""
        for name in sorted(values.keys() - cls.model_fields.keys()):
            if "\0" in name:  # as in UTF-16
                raise ValueError(NOT_UTF_8)
            for meant in get_close_matches(name, cls.model_fields, 1, NEAR):
                raise ValueError(f".env has {name.upper()}, which is none: is it {meant.upper()}?")
        return values

    @field_validator("database_url", "database_read_url")
    @classmethod
    def usual_url(cls, value: str | None) -> str | None:
        """Take the usual URLs, without a driver's name in them."""
        if value is None:
            return None
        try:
            url = make_url(name_each_host(value))
        except (ArgumentError, ValueError):
            raise ValueError("is not a database URL such as sqlite:///./app.db") from None
        driver = DRIVERS.get(url.drivername, url.drivername)
        if driver not in DRIVERS.values():
            raise ValueError("has to begin with sqlite://, postgresql://, mysql:// or mariadb://")
        if driver.startswith("sqlite") and url.database in (None, "", ":memory:"):
            raise ValueError("has to name a file: sqlite:///./app.db")
        if "@" in f"{url.host}{url.database}" and not driver.startswith("sqlite"):
            # What is before it may be a part of the password, which no error has to show.
            raise ValueError("has to have %40 for @ within the password, and %2F for /")
        if not url.database:
            raise ValueError("has to name a database: postgresql://user:password@host/name")
        if url.query.get("pgbouncer", "true") not in ("true", "false"):
            raise ValueError("has to say pgbouncer=true or pgbouncer=false, or neither")
        url = url.set(drivername=driver)
        try:
            url.get_dialect()().create_connect_args(url)
        except (TypeError, ValueError):
            raise ValueError("has an option whose value its driver does not take") from None
        return url.render_as_string(hide_password=False)

    @field_validator("database_echo", mode="before")
    @classmethod
    def flag_or_pool(cls, value: Any) -> Any:
        if value == "pool":
            return value
        try:
            return TypeAdapter(bool).validate_python(value)
        except ValidationError:
            raise ValueError("has to be true, false or pool") from None

    @field_validator("db_max_overflow")
    @classmethod
    def any_connection(cls, value: int, others: ValidationInfo) -> int:
        if not value and others.data.get("db_pool_size") == 0:
            raise ValueError("has to be at least 1 where DB_POOL_SIZE is 0")
        return value

    @field_validator("secret_key")
    @classmethod
    def long_key(cls, value: SecretStr | None) -> SecretStr | None:
        """A key for HS256 has at least 256 bits (RFC 7518, section 3.2); an empty one is none."""
        secret = value.get_secret_value() if value else ""
        if secret.encode("utf-8", "ignore").decode() != secret:
            raise ValueError("has to be text in UTF-8")
        if 0 < len(secret) < 32:
            raise ValueError("has to have at least 32 characters")
        return value if secret else None

    @field_validator("root_path")
    @classmethod
    def path_prefix(cls, value: str) -> str:
        """A path that begins with a slash and ends with none; "" is no prefix."""
        path = value.strip("/")
        if path and not re.fullmatch(r"(?!\.)[\w.~-]+(/(?!\.)[\w.~-]+)*", path, re.ASCII):
            raise ValueError("has to be a path such as /shop, of letters, digits and - . _ ~")
        return f"/{path}" if path else ""

    @field_validator("cors_origins")
    @classmethod
    def web_origins(cls, value: str, others: ValidationInfo) -> str:
        """Origins as browsers send them; not `null`, which any site can have them send."""
        for origin in split_origins(value):
            if origin != "*" and not is_origin(origin):
                shown = origin.rpartition("@")[2]  # without a password
                raise ValueError(
                    f"no page's origin is {shown!a}: it has to be like https://shop.example:8443, "
                    "in lower case and ASCII (xn--...), without a path, a * or a port that is usual"
                )
            if origin == "*" and others.data.get("secret_key", "a bad one") is None:
                raise ValueError("cannot be * without a SECRET_KEY: any site could do everything")
        return value


S = TypeVar("S", bound=Settings)


def read_settings(kind: type[S]) -> S:
    """The settings, or the end of the process with one line that says what is wrong."""
    try:
        return kind()
    except UnicodeError:
        sys.exit(f"Bad setting: {NOT_UTF_8}")
    except OSError as error:
        sys.exit(f"Bad setting: .env cannot be read: {error.strerror}")
    except ValidationError as error:
        wrong = (
            f"{''.join(f'{name}: ' for name in e['loc']).upper()}{e['msg']}"
            for e in error.errors(include_input=False)
        )
        sys.exit("Bad setting: " + "; ".join(line.replace("Value error, ", "") for line in wrong))
