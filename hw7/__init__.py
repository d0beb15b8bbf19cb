"""HW7: compress an image classifier. The course library: everything that is given, and no answer to any task.

    models, measure          the given networks, and how large and how fast any network is
    data, plates, augment    pictures: where they come from, how they are drawn, how they are varied
    training, solution       the one training loop, and the solution directory it takes losses and networks from
    ledger, experiments      the report's figures, and the runs that measure them again
    verdicts, report         printed beside measured, and the page that shows it
    checking, packing        the public tests on a student's machine, and the zip that is handed in
    cli, doctor              the `hw7` command, and what may be wrong with an installation
    jobs                     processes and clusters that work side by side
    terminal, account        streams and Ctrl-C, names and homes, as they are on any system
    vision, files, errors    the door to torchvision, whole files or none, the error that is a plain message

Importing `hw7` itself imports nothing else, so that `hw7 doctor` can speak where torch is missing.
"""

__version__ = "0.1.0"


class HW7Error(ValueError):
    """Something that the user can fix: commands print its message, which says what was wrong, where, and what to do."""
