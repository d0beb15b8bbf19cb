"""HW7: compress an image classifier. The course library: everything that is given, and no answer to any task.

    solution            what a submission is: file names, limits, loading
    models, measure     the given networks; how large and how fast any network is
    data                pictures: where they come from, how they are drawn, how they are varied
    training            the one training loop, and the steps that it takes
    checks              the public tests: cases, calls, judges, known mistakes
    report              the report's figures, the runs that measure them again, and the page that shows both
    notebook            the report notebook's Lab
    handin              the zip that is handed in, and the repair of the notebook in it
    doctor              what is wrong with an installation
    cli                 the `hw7` command
    support             what any program needs: whole files, workers, what differs between systems

Importing `hw7` itself imports nothing else, so that `hw7 doctor` can speak where torch is missing.
"""

__version__ = "0.1.0"


class HW7Error(ValueError):
    """Something that the user can fix: commands print its message, which says what was wrong, where, and what to do."""
