"""`hub-config`: words and answers in, a file and two tokens out."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

from enforcer.bootstrap import Console
from enforcer.errors import InvalidError, UnavailableError
from enforcer.hubconfig import found
from enforcer.hubconfig.answers import CONFIG, STATE, Answers, ServerType
from enforcer.hubconfig.ask import Asker, Defaults, collect
from enforcer.hubconfig.text import TOKENS, render
from enforcer.wholefile import Fate, Kept, keep, put

HUB_USER: Final = "jupyterhub"

_FLAGS: Final = (
    ("type", "TYPE", "local (this machine only), https, or proxy (behind another machine's)"),
    ("bind-url", "URL", "the address to listen on"),
    ("certificate", "FILE", "for https: the certificate, with its chain"),
    ("key", "FILE", "for https: its key"),
    ("public-url", "URL", "for proxy: what people type into their browsers"),
    ("hub-ip", "ADDRESS", "this machine's address for containers (docker0's)"),
    ("admins", "NAMES", "admins of the hub, with commas between them (you, or the group sudo)"),
    ("allow", "NAMES", "who may log in: all (the default), or users and @groups"),
    ("named-servers", "N", "how many servers a user may have besides the default one (0)"),
    ("idle-hours", "HOURS", "stop a server that is idle for so long; 0 is never (12)"),
)


def main(words: Sequence[str]) -> int:
    """Write the configuration, or print it; 0, and 1 or 2 where it is not to be."""
    options = _parser().parse_args(words)
    given = {name: value for name, *_ in _FLAGS if (value := _value(options, name)) is not None}
    defaults = Defaults(bridge=found.bridge_address(), admins=found.admins())
    terminal = sys.stdin.isatty() and sys.stderr.isatty()
    asker = _Terminal() if terminal and not options.defaults else None
    try:
        answers = collect(given, defaults, asker)
    except EOFError:
        raise InvalidError(
            "hub-config.no-answer", "there was no answer", "--defaults asks no questions"
        ) from None
    printed = options.output == "-"
    config = CONFIG if printed else PurePosixPath(Path(options.output).absolute())
    answers = replace(answers, config=config, state=PurePosixPath(options.state.absolute()))
    if printed:
        sys.stdout.write(render(answers))
        return 0
    return write(answers, Console(), force=options.force)


def default_answers(config: Path, state: Path, bridge: str | None) -> Answers:
    """Answer all without a question. bridge: the address that containers reach this host by.

    Raises:
        InvalidError: it has none.
    """
    answers = collect({}, Defaults(bridge=bridge, admins=found.admins()), None)
    return replace(answers, config=PurePosixPath(config), state=PurePosixPath(state))


def write(answers: Answers, console: Console, *, force: bool = False) -> int:
    """Write the file, the tokens it names and the folders for what is the lab's own; 0.

    Raises:
        UnavailableError: something cannot be written.
    """
    path = Path(answers.config)
    try:
        for folder in ("templates", "conf.d"):
            (path.parent / folder).mkdir(parents=True, exist_ok=True)
        for token in TOKENS:
            if _ensure_token(Path(answers.state) / token):
                console.say(f"  {answers.state / token}: written")
    except OSError as error:
        raise UnavailableError(
            "file.not-written",
            f"cannot write {error.filename or path}: {error.strerror}",
            "become root, or name other places with --output and --state",
        ) from error
    # An admin may put a secret into it, and the hub has to read it.
    kept = keep(path, render(answers), mode=0o640, group=HUB_USER, force=force)
    console.say(_said(path, kept))
    for file in (answers.certificate, answers.key):
        if answers.server_type is ServerType.HTTPS and not Path(file).exists():
            console.say(f"  {file}: not there yet; the proxy does not start without it")
    return 0


def _said(path: Path, kept: Kept) -> str:
    match kept.fate:
        case Fate.WRITTEN:
            return f"  {path}: written"
        case Fate.SAME:
            return f"  {path}: as it was"
        case Fate.BESIDE:
            return (
                f"  {path}: kept, it is yours; the new one is {kept.path}\n"
                f"  What to do: compare them (diff {path} {kept.path}), or use --force"
            )


def _ensure_token(path: Path) -> bool:
    """Make a token, unless there is one: the hub and the unit it is shared with know that one.

    The file is the hub's, and nobody else but root can read it.
    """
    if path.is_file() and path.read_text(errors="replace").strip():
        return False
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, mode=0o700)
    put(path, f"{secrets.token_hex(32)}\n".encode(), mode=0o600, owner=HUB_USER, group=HUB_USER)
    return True


class _Terminal(Asker):
    """The person in front of it; what is said goes where progress goes."""

    def say(self, line: str) -> None:
        sys.stderr.write(f"{line}\n")

    def read(self, prompt: str) -> str:
        sys.stderr.write(prompt)
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line


def _value(options: argparse.Namespace, name: str) -> str | None:
    value = getattr(options, name.replace("-", "_"))
    return None if value is None else str(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="enforcer hub-config",
        description="Write JupyterHub's configuration, with comments. On a terminal, ask for what"
        " no flag says. One that is there is kept, and the new one put beside it as .new, unless"
        " --force is given.",
        epilog="Tokens that it names are made beside the hub's state, unless they are there.",
        allow_abbrev=False,
    )
    for name, metavar, meaning in _FLAGS:
        parser.add_argument(f"--{name}", metavar=metavar, help=meaning)
    parser.add_argument(
        "-o", "--output", default=str(CONFIG), metavar="FILE", help=f"({CONFIG}); - prints it"
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=Path(STATE),
        metavar="DIR",
        help=f"where the hub keeps its database and secrets ({STATE})",
    )
    parser.add_argument("--defaults", action="store_true", help="ask no questions")
    parser.add_argument("--force", action="store_true", help="write over what is there")
    return parser
