"""`python3 -m tests`: every check there is, and one summary.

Itself only the standard library until its virtual environment exists.
"""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def main() -> int:
    """0 if all is well, 1 if not, 130 after Ctrl-C."""
    if sys.version_info < (3, 11):
        print("tests: Python 3.11 or later is needed (Debian 12, Ubuntu 24.04)", file=sys.stderr)
        return 1
    sys.path.insert(0, str(CHECKOUT))
    from enforcer.bootstrap import guarded

    return guarded(_main, "tests")


def _main() -> int:
    from enforcer.bootstrap import ensure_venv, reexec_in
    from enforcer.bootstrap.venv import inside
    from tests.run import parse, run

    # First, so that --help and wrong words need no installing.
    request = parse(sys.argv[1:])
    venv = ensure_venv(CHECKOUT / "tests" / "requirements.lock", "to run the tests")
    if not inside(venv):
        reexec_in(venv, "tests", sys.argv[1:], CHECKOUT)
    return run(request, CHECKOUT)


if __name__ == "__main__":
    sys.exit(main())
