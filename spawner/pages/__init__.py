"""What users see: the options form, the hub's pages with live numbers, and the service behind them.

The hub's side is `spawner.hub.add_pages`, which the file that `enforcer hub-config` writes calls::

    add_pages(c, token_file=Path("/var/lib/jupyterhub/pages.token"), templates=templates)

It makes the service known (URL /services/enforcer/), puts our templates after the lab's own, which
may extend "enforcer/home.html" (ours) or "templates/home.html" (the hub's), and gives every user
the use of the service. The service itself has no role: it stops a server with the token of the
admin who pressed the button.

An admin, to these pages, is whoever holds the hub's scope ``admin-ui``. A token gets the service's
scopes only as far as its owner holds them: a user's can delete none but the user's own servers.

The service runs as systemd/hub/enforcer-pages.service, as a user of its own, who is listed in
enforcer.toml's ``[daemon] hub_users``; systemd hands it the token.

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
