"""What is made of grades, for students, teachers and other programs. All of it can be thrown away and made again.

    csv_table, html, gradescope, nbgrader, mail    one exporter each
    common                                         what they share: words, names, points
    similar                                        pairs of submissions that are alike; no exporter of marks

Every exporter has one signature, `export_X(grades, rubric, out) -> Path`, where `grades` holds the current mark of each
student; a grade is taken for a mark about which nobody has decided anything. They read marks and never a submission. A
module is imported when it is asked for: nbgrader is an extra.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from autograder.grades import Grade
from autograder.rubric import Rubric
from hw7 import HW7Error

EXPORTERS = {
    "csv": ("autograder.exports.csv_table", "export_csv"),
    "gradescope": ("autograder.exports.gradescope", "export_gradescope"),
    "nbgrader": ("autograder.exports.nbgrader", "export_nbgrader"),
    "html": ("autograder.exports.html", "export_html"),
    "mail": ("autograder.exports.mail", "export_mail"),
}


def export(to: str, grades: Sequence[Grade], rubric: Rubric, out: Path) -> Path:
    """Makes one kind of export; the path of the file, or of the page to open first. Raises HW7Error."""
    if to not in EXPORTERS:
        raise HW7Error(f"there is no export to {to!r}; there are {', '.join(EXPORTERS)}")
    module, function = EXPORTERS[to]
    exporter: Callable[[Sequence[Grade], Rubric, Path], Path] = getattr(import_module(module), function)
    return exporter(grades, rubric, out)
