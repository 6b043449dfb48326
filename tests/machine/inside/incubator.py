"""`enforcer run`, started anew as often as it is killed, without the seconds its imports take.

The unit's program for a test of many crashes: it imports the daemon once, and each daemon is a fork
of that, with the unit's socket, sandbox and environment. What a daemon did is gone with it; the
incubator itself never runs one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from enforcer import daemon

PID_FILE = Path("/run/enforcer/daemon.pid")


def main() -> None:
    """Have a daemon, always."""
    while True:
        pid = os.fork()
        if pid == 0:
            os.environ["LISTEN_PID"] = str(os.getpid())
            sys.exit(daemon.main(daemon.Options()))
        new = PID_FILE.with_suffix(".new")
        new.write_text(f"{pid}\n")
        new.replace(PID_FILE)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
