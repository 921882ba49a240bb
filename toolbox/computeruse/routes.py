"""Routes of `/computeruse`, gathered from its parts."""

from toolbox.computeruse.desktop.routes import routes as desktop_routes

routes = (*desktop_routes,)
