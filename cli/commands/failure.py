"""Failures of commands: one sentence on stderr with what may help, or JSON; never a traceback."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence

from common.errors import ServingError

INTERRUPTED = 130


class CommandError(Exception):
    """A command cannot do what it was asked for.

    Args:
        suggestions: what may help.
        code: of the server's error; empty: there is none.
    """

    def __init__(self, message: str, suggestions: Sequence[str] = (), code: str = "") -> None:
        super().__init__(message)
        self.suggestions = suggestions
        self.code = code


def reported(chosen: argparse.Namespace, run: Callable[[argparse.Namespace], int]) -> int:
    """Run the command and return its exit status; 1 for a failure, which is printed."""
    try:
        return run(chosen)
    except (CommandError, ServingError) as error:
        suggestions = [str(suggestion) for suggestion in error.suggestions]
        if chosen.json:
            body = {"error": {"message": str(error), "suggestions": suggestions}}
            sys.stdout.write(json.dumps(body) + "\n")
        else:
            lines = [f"y26hkx {chosen.command}: {error}", *(f"  {one}" for one in suggestions)]
            sys.stderr.write("\n".join(lines) + "\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has enough (`| head`); Python would complain of it once more at the end.
        sys.stdout = None
        return 0
