"""Routes of `/computeruse`, gathered from its parts."""

from toolbox.computeruse.a11y.routes import routes as accessibility_routes
from toolbox.computeruse.clipboard.routes import routes as clipboard_routes
from toolbox.computeruse.desktop.routes import routes as desktop_routes
from toolbox.computeruse.input.routes import routes as input_routes
from toolbox.computeruse.screen.routes import routes as screen_routes
from toolbox.computeruse.windows.routes import routes as windows_routes

routes = (
    *desktop_routes,
    *screen_routes,
    *input_routes,
    *windows_routes,
    *clipboard_routes,
    *accessibility_routes,
)
