"""The one exception that a command prints as a plain message: the user's input, not our code, is what must change."""


class HW7Error(ValueError):
    """Something a user can mend. The message says what was wrong, where, and what to do."""
