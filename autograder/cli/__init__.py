"""The `hw7-grade` command: a thin layer that turns words into calls, and mistakes of its user into one plain line.

What needs torch is imported inside the commands; what runs the grading here does not, so that it is at work at once.
"""

from autograder.cli.main import app, cli
from autograder.cli.options import LayoutName
from autograder.cli.shared import format_grade, visible

__all__ = ["LayoutName", "app", "cli", "format_grade", "visible"]
