"""The command line of a service: serve, migrate, createsuperuser, backup."""

import logging
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from pydantic import SecretStr, ValidationError
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlmodel import Session

from kit import logs, passwords
from kit.driver_errors import explain
from kit.filling import is_empty
from kit.problems import sentence_of
from kit.service import Service

logger = logging.getLogger("kit")


class Commands(typer.Typer):
    """`cli = Commands(app, User, UserCreate)`; a command of one's own: `@cli.command()`."""

    def __init__(self, app: Service, users: Any, body: Any) -> None:
        super().__init__(
            help=f"{app.settings.app_name}. Without a command: serve.",
            add_completion=False,
            callback=self.options,
            invoke_without_command=True,  # for options alone
            pretty_exceptions_show_locals=False,  # among them are passwords
        )
        self.app, self.users, self.body = app, users, body
        for command in (self.serve, self.migrate, self.createsuperuser, self.backup):
            self.command()(command)

    def run(self, arguments: list[str]) -> None:
        """Run one of the commands; `serve`, where none is named."""
        logs.set_up(self.app.settings)
        first = arguments[0] if arguments else "-"
        is_named = not first.startswith("-") or first in ("--help", "--version")
        self(arguments if is_named else ["serve", *arguments])

    def options(
        self,
        version: Annotated[
            bool, typer.Option("--version", help="Say which version this is.")
        ] = False,
    ) -> None:
        if version:
            print(self.app.title, self.app.version)
            raise typer.Exit

    def serve(
        self,
        host: str = "127.0.0.1",
        port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
        workers: Annotated[int, typer.Option(min=1)] = 1,
        reload: bool = False,
        root_path: Annotated[
            str | None, typer.Option(help="What a proxy in front adds to every path, such as /shop")
        ] = None,
    ) -> None:
        """Migrate the database, then serve the API."""
        try:
            prefix = self.app.settings.path_prefix(root_path or "")
        except ValueError as error:
            sys.exit(f"--root-path {error}")
        if self.app.settings.migrate_on_start:
            self.migrate_or_exit()
        self.say_where(host, port, prefix or self.app.settings.root_path)
        if workers > 1 or reload:
            # Their processes import the app by its name. With this program as well, which they
            # would run before all else, they would take twice as long and meanwhile be silent,
            # and uvicorn, which waits for their answer, deaf.
            vars(sys.modules["__main__"]).update(__file__=None, __spec__=None)
        uvicorn.run(
            self.app if workers == 1 and not reload else "main:app",
            host=host,
            port=port,
            workers=workers,
            reload=reload,
            app_dir=str(self.app.migrations.home),
            root_path=prefix,
            timeout_graceful_shutdown=10,
            log_config=logs.configuration(self.app.settings),
            timeout_worker_healthcheck=60,  # seconds, for Python and uvicorn to start
        )

    def say_where(self, host: str, port: int, prefix: str) -> None:
        """Tell who starts the service where it is, who is let in and, at first, what fills it."""
        app, name = self.app, f"[{host}]" if ":" in host else host
        lines = [f"{app.title} {app.version}"]
        if port:  # or else it is any that is free, which uvicorn tells
            root = f"http://{name}:{port}{prefix}"
            lines[0] += f" is on {root}"
            links = [link for link in ("docs", "admin:index") if link in app.links]
            lines += [f"  {app.links[link]}: {root}{app.url_path_for(link)}" for link in links]
        if app.settings.secret_key:
            lines.append("Log-ins are on: SECRET_KEY is set.")
        else:
            lines.append("Log-ins are off, as SECRET_KEY is not set: only this machine is let in.")
        if self.can_be_filled():
            lines.append("The database is empty. To fill it with made-up data: python main.py demo")
        say = logger.info if app.settings.log_format == "json" else print
        for line in lines:
            say(line)
        sys.stdout.flush()

    def can_be_filled(self) -> bool:
        """Whether there is a `demo`, for a database that is migrated and has no rows."""
        is_there = any(
            c.callback and c.callback.__name__ == "demo" for c in self.registered_commands
        )
        if not is_there or not self.app.settings.migrate_on_start:
            return False  # and whether the database answers at all is not known
        engine = self.app.database.reader.engine
        try:
            with engine.connect() as connection:
                return is_empty(connection)
        except SQLAlchemyError:  # of a replica that is not there, or not migrated yet
            return False
        finally:
            engine.dispose()  # the processes that serve have their own

    def migrate_or_exit(self) -> None:
        try:
            self.app.migrations.run()
        except (SQLAlchemyError, TimeoutError) as error:
            why = " ".join(str(getattr(error, "orig", error)).split())  # in one line
            sys.exit(f"The database cannot be used: {why}")

    def migrate(self) -> None:
        """Bring the database to the newest revision."""
        self.migrate_or_exit()
        print(f"The database is at revision {self.app.migrations.newest}.")

    def createsuperuser(
        self,
        username: Annotated[str, typer.Option(prompt=True)],
        email: Annotated[str, typer.Option(prompt="E-mail")],
        password: Annotated[
            str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True)
        ],
    ) -> None:
        """Create a user who may do everything; asks for what is not given."""
        try:
            data = self.body(username=username, email=email, password=SecretStr(password))
        except ValidationError as error:
            errors = error.errors(include_input=False)
            wrong = (f"{e['loc'][0]}: {sentence_of(e)}" for e in errors)
            sys.exit("; ".join(wrong))
        self.migrate_or_exit()
        state = {"is_superuser": True, "password_hash": passwords.hasher.hash(password)}
        engine = self.app.database.writer.engine
        try:
            with Session(engine) as session:
                session.add(self.users.model_validate(data, update=state))
                session.commit()
        except DBAPIError as error:
            sys.exit(str(explain(error, engine) or error.orig))
        print(f"{username} may do everything now.")

    def backup(self, file: Path) -> None:
        """Copy a SQLite database to FILE, consistently, while it is in use.

        FILE is created, for its owner alone to read: nothing that is there already is written to.
        """
        url = make_url(self.app.settings.database_url)
        if (kind := url.get_backend_name()) != "sqlite":
            tool = "pg_dump" if kind == "postgresql" else "mariadb-dump or mysqldump"
            sys.exit(f"This copies SQLite databases. For {kind} use {tool}.")
        database = Path(str(url.database))
        if not database.is_file():
            sys.exit(f"{database} is {'a folder' if database.is_dir() else 'not there'}.")
        wrong = f"Cannot copy {database} to {file}"
        try:
            file.touch(0o600, exist_ok=False)  # which goes through no link
        except FileExistsError:
            sys.exit(f"{file} exists already.")
        except OSError as error:
            sys.exit(f"{wrong}: {error.strerror}.")
        try:
            source = sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True)
            with closing(source):
                source.execute("VACUUM INTO ?", [str(file.absolute())])  # it takes an empty file
        except BaseException as error:
            file.unlink(missing_ok=True)  # which may be half-written
            if isinstance(error, sqlite3.Error):
                sys.exit(f"{wrong}: {error}.")
            raise
        print(f"Copied to {file}.")
