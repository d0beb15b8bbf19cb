"""HW7: compress an image classifier. The course library: everything that is given, and no answer to any task.

    models, measure          the given networks, and how large and how fast any network is
    data, plates, augment    pictures: where they come from, how they are drawn, how they are varied
    training, solution       the one training loop, and the solution directory it takes losses and networks from
    ledger, experiments      the report's figures, and the runs that measure them again
    report, cli, doctor      the pages, the `hw7` command, and what may be wrong with an installation

Importing `hw7` itself imports nothing else, so that `hw7 doctor` can speak where torch is missing.
"""

__version__ = "0.1.0"
