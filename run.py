#!/usr/bin/env python3
"""Y26HKX without set-up: makes .venv, installs what is missing, and runs the command you name.

python3 run.py help lists the commands. Only the standard library is used, here and in bootstrap/.
"""

import sys

OLDEST = (3, 11)


def main() -> int:
    """Run the command line; the exit status."""
    if sys.version_info < OLDEST:
        # This file alone must parse on older versions: nothing newer than 3.6 in it.
        found = ".".join(map(str, sys.version_info[:2]))
        sys.stderr.write(
            f"Y26HKX needs Python 3.11 or newer; this is Python {found} ({sys.executable}).\n"
            "Install a newer one (https://www.python.org/downloads/, or your system's packages)\n"
            "and run it by name, for example: python3.12 run.py serve\n"
        )
        return 1
    from bootstrap.commands import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
