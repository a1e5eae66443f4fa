"""What every service needs around its entities. Each name, with the room that it is from.

A list of rooms, from the ground up, is in docs/kit.md.
"""

from kit.access import Access, Token, cookie, cookies_of
from kit.commands import Commands
from kit.context import context_of
from kit.credentials import Bodies, Credentials, new_stamp
from kit.database import Database, NewSession
from kit.driver_errors import kind_of
from kit.fields import (
    FILLED,
    MAX_INT,
    MAX_MONEY,
    NO_NUL,
    PLAIN,
    Balance,
    Count,
    Email,
    Id,
    LongText,
    Moment,
    Money,
    MoneyType,
    Name,
    OptionalId,
    OptionalSlug,
    OptionalText,
    Password,
    Price,
    Search,
    SearchFor,
    Secret,
    Slug,
    Sum,
    Username,
    choice,
    now,
    spelled,
)
from kit.files import TableFile
from kit.filling import (
    Filling,
    Total,
    favourite,
    filling,
    in_order,
    likely_price,
    slug_of,
    spread,
)
from kit.history import ChangeRow, History
from kit.idempotency import OnceSession, StoredAnswer
from kit.imports import ImportCounts
from kit.log_ins import LogIn, LogIns
from kit.migrations import Migrations
from kit.openapi import problems
from kit.ownership import (
    caller_of,
    is_own,
    only_own,
    refuse_all_but_superusers,
    refuse_others,
)
from kit.paging import (
    NumberedPage,
    Paged,
    PageNumber,
    PageSize,
    Skipped,
    Skipping,
    count_rows,
    numbered_page,
    page,
    sortable,
)
from kit.problems import (
    BusyError,
    ConflictError,
    bad_request,
    invalid,
    not_found,
    problem,
    unauthorized,
)
from kit.reading import AsyncReading
from kit.route import APIRouter, Route
from kit.rows import (
    KEY_SHARE,
    add,
    add_to,
    embed,
    expect_missing,
    first_or_404,
    get_or_404,
    insert_rows,
    is_needed,
    lock_rows,
    try_insert,
)
from kit.search import contains, slug_for
from kit.service import Service
from kit.settings import Settings, read_settings
from kit.streams import Events, Stream
from kit.tables import (
    Created,
    Entity,
    Partial,
    Schema,
    Timestamps,
    Versioned,
    example,
    listed_by,
    listed_by_false,
    listed_by_true,
    listed_within,
    related,
)
from kit.transactions import retry_on_conflict, transaction_of
from kit.uploads import FileFormat, Uploaded
from kit.welcome import WELCOME, welcome
