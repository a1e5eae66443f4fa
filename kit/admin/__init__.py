"""Web pages for an application's tables: lists, forms, a dashboard, behind a log-in.

An entity has its pages with a class of a few lines:

    class ItemAdmin(AdminView, model=Item):
        icon = "fa-solid fa-tag"
        column_list = ["id", "title", "price"]
        routes = create_item, update_item, delete_item

and `Admin(app, title=..., dashboard=...)`, after all of these classes, mounts them at /admin.
The pages are sqladmin's. What they do is ours: a form is made of what a route takes as its body,
and calls the route's function, so that what the API refuses is refused there too.

Of sqladmin these private names are used, since no public ones do it:

    _run_query, _run_arbitrary_query    to run its queries where those of routes run
    _stmt_by_identifier                 to look up nothing for what is no id
    _handle_form_data                   to check the token of a form before anything else
    _admin_ref                          to show the dashboard by its place in the menu
"""

from kit.admin.actions import Action
from kit.admin.dashboard import Chart, Dashboard, Table
from kit.admin.filters import ChoiceFilter
from kit.admin.pages import Admin
from kit.admin.views import AdminView

__all__ = ["Action", "Admin", "AdminView", "Chart", "ChoiceFilter", "Dashboard", "Table"]
