"""The text of jupyterhub_config.py: pure, from the answers.

Whatever comes from outside stands in it as a literal, never bare.
"""

from __future__ import annotations

from typing import Final

from enforcer.hubconfig.answers import BIND_URLS, PROXY_COMMAND, Allowed, Answers, ServerType

PAGES_TOKEN: Final = "pages.token"  # noqa: S105 - a file's name
PROXY_TOKEN: Final = "proxy.token"  # noqa: S105 - a file's name
TOKENS: Final = (PAGES_TOKEN, PROXY_TOKEN)
"""Names of files below the state's folder."""

_CERTIFICATE: Final = "/etc/letsencrypt/live/lab.example.org/fullchain.pem"
_KEY: Final = "/etc/letsencrypt/live/lab.example.org/privkey.pem"


def render(answers: Answers) -> str:
    """Write the configuration."""
    return "\n".join(
        (
            _head(answers),
            _address(answers),
            _people(answers),
            _servers(answers),
            _appearance(answers),
            _state(answers),
            _own(answers),
            _enforcer(answers),
        )
    )


def _head(answers: Answers) -> str:
    return f"""\
# JupyterHub with the Enforcer. `enforcer hub-config` wrote this; from now on it is yours, and is
# not written over.
#
#   systemctl restart jupyterhub          use what you changed; servers that run go on running
#   systemctl restart jupyterhub-proxy    as well, after a change of address, certificate or token
#   journalctl -u jupyterhub              what the hub says
#
# Who may have what (profiles, images, homes, shared directories) stands in
# /etc/enforcer/enforcer.toml, and the daemon holds everybody to it, whatever is written here.

from pathlib import Path

from spawner.hub import add_culler, add_pages

c = get_config()  # noqa: F821 - JupyterHub knows it

here = Path({_literal(str(answers.folder))})
state = Path({_literal(str(answers.state))})
"""


def _address(answers: Answers) -> str:
    urls = {**BIND_URLS, answers.server_type: answers.bind_url}
    public = "" if answers.public_url else "#"
    example = answers.public_url or "https://lab.example.org/"
    return f"""\
# --- where it is found ------------------------------------------------------------------------

# "local": on this machine only, over http. To open it to your network as it is, unencrypted, write
#     0.0.0.0 in place of 127.0.0.1 below.
# "https": to everybody, over https, with a certificate that lies on this machine.
# "proxy": through another machine, a web server that has the certificate and forwards everything,
#     websockets included, to the address below. Let your firewall admit nobody else to it.
server_type = {_literal(str(answers.server_type))}

if server_type == "local":
    c.JupyterHub.bind_url = {_literal(urls[ServerType.LOCAL])}
elif server_type == "https":
    c.JupyterHub.bind_url = {_literal(urls[ServerType.HTTPS])}
    # The proxy's unit hands them over, so they may stay readable for root alone. After a renewal:
    # systemctl restart jupyterhub-proxy (certbot: --deploy-hook).
    c.JupyterHub.ssl_cert = {_literal(answers.certificate or _CERTIFICATE)}
    c.JupyterHub.ssl_key = {_literal(answers.key or _KEY)}
elif server_type == "proxy":
    c.JupyterHub.bind_url = {_literal(urls[ServerType.PROXY])}
else:
    raise ValueError(f"{{server_type}} is no type of server: write local, https or proxy")

# What people type into their browsers, if that is not the address above.
{public}c.JupyterHub.public_url = {_literal(example)}

# Where servers in containers find the hub: this machine's address on Docker's bridge, docker0. A
# firewall must let them through, for instance: ufw allow from 172.17.0.0/16
c.JupyterHub.hub_ip = {_literal(answers.hub_ip)}
"""


def _people(answers: Answers) -> str:
    return f"""\
# --- who may log in ---------------------------------------------------------------------------

# Accounts of this machine, with their passwords (PAM). The hub runs without root's rights: being in
# the group shadow lets it check a password; a login session is not for it to open.
c.JupyterHub.authenticator_class = "pam"
c.PAMAuthenticator.open_sessions = False

# They see everybody's servers, and stop and resize them.
c.Authenticator.admin_users = {_set(answers.admins)}

# Everybody with an account and a password, or only those named.
{_allowed(answers.allowed)}
c.Authenticator.blocked_users = {{"root"}}
"""


def _allowed(allowed: Allowed) -> str:
    return (
        f"c.Authenticator.allow_all = {allowed.everybody}\n"
        f"c.Authenticator.allowed_users = {_set(allowed.users)}\n"
        f"c.PAMAuthenticator.allowed_groups = {_set(allowed.groups)}"
    )


def _servers(answers: Answers) -> str:
    return f"""\
# --- servers ----------------------------------------------------------------------------------

c.JupyterHub.spawner_class = "enforcer"
# A container goes with its server: kept, it would start again with the numbers of last time.
c.DockerSpawner.remove = True
# Servers go on when the hub is restarted, and the proxy, a unit of its own, keeps people connected.
c.JupyterHub.cleanup_servers = False

# Servers that a user may have besides the default one; what they use together stays the same.
c.JupyterHub.allow_named_servers = {answers.named_servers > 0}
c.JupyterHub.named_server_limit_per_user = {answers.named_servers or 5}
"""


def _appearance(answers: Answers) -> str:
    del answers
    return """\
# --- the lab's own face -----------------------------------------------------------------------

# Templates in templates/ go before the Enforcer's and the hub's. To change the Enforcer's home
# page, write a home.html that begins with {% extends "enforcer/home.html" %}.
templates = here / "templates"

for logo in sorted(here.glob("logo.*")):
    c.JupyterHub.logo_file = str(logo)

# A line on top of every page; of the login page; of the page on which a server is chosen. It may
# be HTML.
c.JupyterHub.template_vars = {
    "announcement": "",
    "announcement_login": "",
    "announcement_spawn": "",
}

# What people read when a start is refused because something of the machine's is missing.
#c.DockerSystemProfileSpawner.down_text = "The resource service is down. Please call 1234."
#c.DockerSystemProfileSpawner.home_missing_text = "You have no home yet. Please call 1234."
"""


def _state(answers: Answers) -> str:
    del answers
    return f"""\
# --- what the hub keeps -----------------------------------------------------------------------

c.JupyterHub.db_url = f"sqlite:///{{state}}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = str(state / "cookie_secret")

# jupyterhub-proxy.service runs the proxy; it reads the address and the certificate from this file.
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:8001"
c.ConfigurableHTTPProxy.auth_token = (state / "{PROXY_TOKEN}").read_text().strip()
# Only if the hub is to start it, with should_start = True:
c.ConfigurableHTTPProxy.command = [{_literal(PROXY_COMMAND)}]
c.ConfigurableHTTPProxy.pid_file = str(state / "proxy.pid")
"""


def _own(answers: Answers) -> str:
    del answers
    return """\
# --- the lab's own settings -------------------------------------------------------------------

# Files in conf.d/ are read in the order of their names; they win over what stands above. Services
# and roles of the lab's own belong there, or here; the Enforcer's are added to them below.
for extra in sorted((here / "conf.d").glob("*.py")):
    load_subconfig(str(extra))  # noqa: F821 - JupyterHub knows it
"""


def _enforcer(answers: Answers) -> str:
    seconds = round(answers.idle_hours * 3600)
    off = "" if seconds else "#"
    shown = seconds or 12 * 3600
    return f"""\
# --- the Enforcer's pages, and the end of idle servers ----------------------------------------

# enforcer-pages.service, its place in the hub, what it may do, and its templates.
add_pages(c, token_file=state / "{PAGES_TOKEN}", templates=templates)

# Stops servers that nobody has used for so long. One that computes counts as used, even with no
# browser open: more than this many cores, on average over a minute.
{off}add_culler(c, idle_seconds={shown}, busy_cores=0.1)
"""


def _set(names: tuple[str, ...]) -> str:
    return f"{{{', '.join(map(_literal, names))}}}" if names else "set()"


def _literal(text: str) -> str:
    """Write a string as Python; in double quotes where ascii() has no reason for others."""
    written = ascii(text)
    plain = written[1:-1]
    return written if "'" in plain or '"' in plain else f'"{plain}"'
