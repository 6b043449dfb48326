"""`python3 -m enforcer`, or `enforcer` where installed: finds the code of a command and runs it.

Itself only the standard library, and readable by Pythons too old to run the rest, to tell them so.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

OLDEST_PYTHON = (3, 11)

COMMANDS = {
    "run": "the daemon, in the foreground (systemd starts it so)",
    "check": "check FILE: is this configuration right?",
    "plan": "plan [FILE]: what would change, and whom would it touch?",
    "status": "the slices, their usage, limits and guarantees",
    "explain": "explain USER[/SERVER]: which limit binds now, and where it comes from",
    "reload": "read the configuration again",
    "install": "put the daemon on this host, as root; --hub: JupyterHub too",
    "uninstall": "take it off again, as root",
    "hub-config": "write JupyterHub's configuration from a few answers",
    "import": "import OLD_CONFIG.py: make an enforcer.toml of the ancestor's dictionaries",
    "demo": "watch it at work in a throw-away virtual machine; --check proves its promises",
}

STDLIB_COMMANDS = ("install", "uninstall", "hub-config")
"""They make the venv that the others run in, or are run while it is made, so they need none."""

NEEDS = ("aiohttp", "docker", "prometheus_client", "psutil", "pydantic", "rich")
"""What the other commands import; `run` needs pystemd too and says so itself."""

_CHECKOUT = Path(__file__).resolve().parent.parent
_LOCK = _CHECKOUT / "enforcer" / "requirements.lock"


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code: 0, 1 for a failure, 2 for wrong words, 130 for Ctrl-C."""
    words = sys.argv[1:] if argv is None else argv
    if sys.version_info < OLDEST_PYTHON:
        print(
            "enforcer: Python 3.11 or later is needed, this is",
            sys.version.split()[0],
            file=sys.stderr,
        )
        return 1

    from enforcer.bootstrap import answered, guarded

    return guarded(lambda: answered(lambda: _run(words)), " ".join(["enforcer", *words[:1]]))


def usage() -> str:
    """The help text."""
    width = max(map(len, COMMANDS))
    lines = ["usage: enforcer COMMAND [...]    (COMMAND --help tells more)", ""]
    lines += [f"  {name:<{width}}  {meaning}" for name, meaning in COMMANDS.items()]
    return "\n".join(lines)


def _unknown(word: str) -> int:
    import difflib

    near = difflib.get_close_matches(word, COMMANDS, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    print(f"enforcer: there is no command {word!r}{meant}\n\n{usage()}", file=sys.stderr)
    return 2


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    command = words[0]
    if command == "--version":
        from enforcer import __version__

        print(__version__)
        return 0
    if command not in COMMANDS:
        return _unknown(command)
    if command == "hub-config":
        from enforcer import hubconfig

        return hubconfig.main(words[1:])
    if command in STDLIB_COMMANDS:
        from enforcer import install

        return install.main(words)
    if _must_bootstrap(command):
        _bootstrap(words)
    from enforcer import cli

    return cli.main(words)


def _must_bootstrap(command: str) -> bool:
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if command == "demo" and _is_checkout():
        # Outside a venv, what there is comes from the distribution: versions never tested with us.
        return bool(missing) or sys.prefix == sys.base_prefix
    if not missing:
        return False
    if command == "run" or not _is_checkout():
        from enforcer.errors import UnavailableError

        # A daemon that fetches software when it starts would be a surprise.
        raise UnavailableError(
            "dependencies.missing",
            "these Python packages are missing: {}".format(" ".join(missing)),
            "install the daemon with: sudo python3 -m enforcer install",
        )
    return True


def _is_checkout() -> bool:
    return _LOCK.is_file() and (_CHECKOUT / "pyproject.toml").is_file()


def _bootstrap(words: list[str]) -> None:
    """Come back in a venv that has what we need: does not return."""
    from enforcer.bootstrap import DAEMON_ONLY, ensure_venv, reexec_in

    venv = ensure_venv(_LOCK, "to run enforcer", without=DAEMON_ONLY)
    reexec_in(venv, "enforcer", words, _CHECKOUT)


if __name__ == "__main__":
    sys.exit(main())
