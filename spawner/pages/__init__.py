"""What users see: the options form, the hub's pages with live numbers, and the service behind them.

The hub's side, in jupyterhub_config.py (`enforcer hub-config` writes it)::

    from spawner.pages import TEMPLATES

    # The lab's own templates go before ours; theirs may extend "enforcer/home.html" (ours) or
    # "templates/home.html" (the hub's).
    c.JupyterHub.template_paths = ["/etc/jupyterhub/templates", TEMPLATES]

    c.JupyterHub.services = [{
        "name": "enforcer",                              # the URL: /services/enforcer/
        "url": "http://127.0.0.1:9754",                  # where the service listens
        "api_token": open("/etc/jupyterhub/pages.token").read().strip(),   # a root-only file
        "oauth_client_id": "service-enforcer",
        "oauth_no_confirm": True,
        "oauth_client_allowed_scopes": ["admin-ui", "delete:servers"],
        "display": False,                                # our page.html links to it already
    }]
    # What "self" is to the hub, and the use of the service. Nothing else: the service has no role,
    # and stops a server with the token of the admin who pressed the button.
    c.JupyterHub.load_roles = [{
        "name": "user", "scopes": ["self", "access:services!service=enforcer"],
    }]

An admin, to these pages, is whoever holds the hub's scope ``admin-ui``. A token gets the scopes
above only as far as its owner holds them: a user's can delete none but the user's own servers.

The service, in its unit::

    User=enforcer-pages                     # listed in enforcer.toml's [daemon] hub_users
    LoadCredential=token:/etc/jupyterhub/pages.token
    Environment=JUPYTERHUB_API_URL=http://127.0.0.1:8081/hub/api JUPYTERHUB_BASE_URL=/
    ExecStart=/opt/enforcer/hub/bin/python -m spawner.pages

``python -m spawner.pages --help`` lists the flags; each has a default. It listens on 127.0.0.1:9754
or with ``--listen unix:/run/…`` on a Unix socket, and reads its token from ``--token-file``, then
``$CREDENTIALS_DIRECTORY/token``, then ``$JUPYTERHUB_API_TOKEN``.

Hub and service have to be one origin to a browser, as they are unless ``subdomain_host`` is set.

uPlot is fetched at build time: ``python3 spawner/pages/build.py`` puts it into ``static/vendor``,
as building a wheel does. Without it the pages show numbers in place of charts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

SERVICE_NAME: Final = "enforcer"
"""The service's name in the hub; its URL is ``/services/enforcer/`` below the hub's base URL."""

ADMIN_SCOPE: Final = "admin-ui"
"""Whoever holds it in the hub sees everyone."""

OAUTH_SCOPES: Final = (ADMIN_SCOPE, "delete:servers")
"""``oauth_client_allowed_scopes`` of the service."""

DEFAULT_PORT: Final = 9754

TEMPLATES: Final = str(Path(__file__).with_name("templates"))
"""For ``c.JupyterHub.template_paths``."""
