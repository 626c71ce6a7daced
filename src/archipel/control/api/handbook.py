"""The handbook: the API's schema as a page at /schema, with Swagger UI served from here.

A control plane often stands where the internet is not, and a page whose scripts come from elsewhere would run a
stranger's code beside an operator's token. So the browser loads nothing from any other host.
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

ASSETS = "/schema-assets"
OPERATOR = "operator"
"""The security scheme: an operator's bearer token."""
NO_ICON = '<link rel="icon" href="data:,">'


def handbook() -> OpenAPIConfig:
    """Return where the schema is, how it looks, and how one authorises."""
    page = SwaggerRenderPlugin(
        js_url=f"{ASSETS}/swagger-ui-bundle.js",
        css_url=f"{ASSETS}/swagger-ui.css",
        standalone_preset_js_url=f"{ASSETS}/swagger-ui-standalone-preset.js",
        favicon=NO_ICON,
    )
    token = SecurityScheme(type="http", scheme="bearer", description="`token` in operator.json of the state's folder.")
    return OpenAPIConfig(
        title="Archipel control plane",
        version=__version__,
        path="/schema",
        render_plugins=[page, JsonRenderPlugin(), YamlRenderPlugin()],
        components=Components(security_schemes={OPERATOR: token}),
        security=[{OPERATOR: []}],
    )


def assets() -> Router:
    """Return the addresses of the page's scripts and styles: the files of swagger-ui-py, which is not imported."""
    spec = find_spec("swagger_ui")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "static"
    return create_static_files_router(path=ASSETS, directories=[folder], include_in_schema=False)
