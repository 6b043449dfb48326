"""`python3 -m tests.bench`: what the enforcer costs, as ratios measured in one run.

Itself only the standard library until its virtual environment exists. No test: it judges nothing,
and its seconds are those of this machine. The ratios are what is promised.
"""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def main() -> int:
    """0 when all was measured, 130 after Ctrl-C."""
    if sys.version_info < (3, 11):
        print("bench: Python 3.11 or later is needed (Debian 12, Ubuntu 24.04)", file=sys.stderr)
        return 1
    sys.path.insert(0, str(CHECKOUT))
    from enforcer.bootstrap import guarded

    return guarded(_main, "bench")


def _main() -> int:
    from enforcer.bootstrap import ensure_packages, ensure_venv, reexec_in
    from enforcer.bootstrap.venv import inside

    venv = ensure_venv(CHECKOUT / "tests" / "requirements.lock", "to run the benchmark")
    if not inside(venv):
        reexec_in(venv, "tests.bench", sys.argv[1:], CHECKOUT)
    from enforcer import machine
    from tests.bench.run import parse, run

    request = parse(sys.argv[1:])
    if machine.missing_programs():
        ensure_packages(machine.HOST_PACKAGES, "to boot the virtual machine")
    return run(request)


if __name__ == "__main__":
    sys.exit(main())
