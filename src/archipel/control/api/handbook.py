"""The handbook: the API's schema as a page at /schema, with Swagger UI served from here.

A control plane often stands where the internet is not, and a page whose scripts come from elsewhere would run a
stranger's code beside a person's token. So the browser loads nothing from any other host.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from litestar import Router
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.static_files import create_static_files_router

from archipel import __version__
from archipel.control.api.guard import OPEN, needs

ASSETS = "/schema-assets"
PERSON = "person"
"""The security scheme: a person's bearer token."""
NO_ICON = '<link rel="icon" href="data:,">'


def handbook() -> OpenAPIConfig:
    """Return where the schema is, how it looks, and how one authorises."""
    page = SwaggerRenderPlugin(
        js_url=f"{ASSETS}/swagger-ui-bundle.js",
        css_url=f"{ASSETS}/swagger-ui.css",
        standalone_preset_js_url=f"{ASSETS}/swagger-ui-standalone-preset.js",
        favicon=NO_ICON,
    )
    token = SecurityScheme(
        type="http", scheme="bearer", description="`token` of a log-in (POST /v1/login) or of operator.json."
    )
    return OpenAPIConfig(
        title="Archipel control plane",
        version=__version__,
        openapi_router=Router(path="/schema", route_handlers=[], opt=needs(OPEN), include_in_schema=False),
        render_plugins=[page, JsonRenderPlugin(), YamlRenderPlugin()],
        components=Components(security_schemes={PERSON: token}),
        security=[{PERSON: []}],
    )


def assets() -> Router:
    """Return the addresses of the page's scripts and styles: the files of swagger-ui-py, which is not imported."""
    spec = find_spec("swagger_ui")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "static"
    return create_static_files_router(path=ASSETS, directories=[folder], include_in_schema=False, opt=needs(OPEN))
