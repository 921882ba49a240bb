"""Routes of `/computeruse`, gathered from its parts."""

from toolbox.computeruse.clipboard.routes import routes as clipboard_routes
from toolbox.computeruse.desktop.routes import routes as desktop_routes
from toolbox.computeruse.windows.routes import routes as windows_routes

routes = (*desktop_routes, *windows_routes, *clipboard_routes)
