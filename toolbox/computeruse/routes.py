"""Routes of `/computeruse`, gathered from its parts."""

from toolbox.computeruse.a11y.routes import routes as accessibility_routes
from toolbox.computeruse.desktop.routes import routes as desktop_routes

routes = (*desktop_routes, *accessibility_routes)
