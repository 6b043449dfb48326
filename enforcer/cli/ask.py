"""`plan`, `explain` and `reload`: one question to the daemon, one answer."""

from __future__ import annotations

from collections.abc import Sequence

from enforcer.api.types import PlanReply, ReloadReply
from enforcer.cli.check import read_text
from enforcer.cli.output import print_json, show
from enforcer.cli.words import CONFIG, add_socket, parser
from enforcer.client import Client
from enforcer.show.answers import explain_view, plan_view, reload_view

EXIT_RISK = 3


def plan(words: Sequence[str]) -> int:
    """Ask what a configuration would do; 3 if it would put somebody at risk."""
    made = parser(
        "plan",
        "Say what a configuration would change for the slices and leases there are now, and whom it"
        " would throttle, put at risk or guarantee less. It changes nothing. Only root may.",
        f"Exit code: 0 nobody is at risk, {EXIT_RISK} somebody is, 1 the file has mistakes.",
    )
    made.add_argument("file", nargs="?", default=str(CONFIG), metavar="FILE", help=f"({CONFIG})")
    add_socket(made)
    options = made.parse_args(words)
    text = read_text(options.file)
    with Client(options.socket) as client:
        changes = client.plan(text)
    if options.json:
        print_json(PlanReply(changes=list(changes)))
    else:
        show(plan_view(changes))
    return EXIT_RISK if any(one.risk for one in changes) else 0


def explain(words: Sequence[str]) -> int:
    """Ask what binds a server now."""
    made = parser(
        "explain",
        "Say which limit holds a server back now, level by level, and where each right of its user"
        " comes from. Anybody may ask about themselves; root and the hub about all.",
        "A user whose name has a slash: give the server with --server, even an empty one.",
    )
    made.add_argument("who", nargs="?", metavar="USER[/SERVER]", help="(yourself)")
    made.add_argument(
        "--server", metavar="NAME", help="the named server; then all of USER is a user"
    )
    made.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="NAME",
        help="a group the hub has the user in, as often as there are some; without any, those that"
        " the server was started with; for root and the hub",
    )
    add_socket(made)
    options = made.parse_args(words)
    with Client(options.socket) as client:
        user, server = split_name(options.who, options.server)
        explained = client.explain(user, server, options.group)
    if options.json:
        print_json(explained)
    else:
        show(explain_view(explained))
    return 0


def reload(words: Sequence[str]) -> int:
    """Have the daemon read its configuration again."""
    made = parser(
        "reload",
        "Have the daemon read its configuration again; a file with a mistake changes nothing. Only"
        " root may. `enforcer plan` says beforehand what it would do.",
    )
    add_socket(made)
    options = made.parse_args(words)
    with Client(options.socket) as client:
        changes = client.reload()
    if options.json:
        print_json(ReloadReply(changes=list(changes)))
    else:
        show(reload_view(changes))
    return 0


def split_name(who: str | None, server: str | None) -> tuple[str | None, str]:
    """Split USER/SERVER at the first slash, unless the server is named by itself; None: oneself."""
    if who is None or server is not None:
        return who, server or ""
    user, _, named = who.partition("/")
    return user, named
