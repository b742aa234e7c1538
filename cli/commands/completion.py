"""`y26hkx completion SHELL`: what makes the shell complete commands and options."""

import argparse

from cli.commands.failure import CommandError
from cli.commands.printing import write


def completion(chosen: argparse.Namespace) -> int:
    """Print the script that the shell has to read."""
    try:
        import shtab
    except ImportError as error:
        raise CommandError(
            "shtab is not installed, which writes the script", ["pip install shtab"]
        ) from error
    from cli.__main__ import command_parser

    write(shtab.complete(command_parser(), shell=chosen.shell))
    return 0
