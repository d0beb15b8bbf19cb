"""The `hw7` command: a thin layer that turns words into calls, and mistakes of its user into one plain line.

Heavy imports stand inside the commands: `hw7 --help` is quick, and `hw7 doctor` works where torch does not.
"""

from hw7.cli.main import app, cli

__all__ = ["app", "cli"]
