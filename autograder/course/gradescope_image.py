"""An autograder zip for Gradescope, and what runs in it: one submission in, results.json out, whatever happens.

The zip has everything but Python packages: this project's source, the rubric, the hidden seed (mode 600) and the two
scripts that Gradescope calls, all with Unix line ends, wherever it is made. Two builds with one seed are the same
bytes. In Gradescope's container no new namespaces may be made, so the jail is there of tier C.
"""

import json
import sys
import traceback
import zipfile
from pathlib import Path
from typing import Any

from autograder.exports.common import aligned
from autograder.exports.gradescope import exact_figures, failed, results
from autograder.grades import Grade
from autograder.rubric import DEFAULT_RUBRIC, TOTAL, Rubric, load_rubric
from autograder.tasks.hidden import new_seed, read_seed, stretched
from hw7 import HW7Error
from hw7.solution import PROJECT
from hw7.support.files import read_json, replacing, write_json

FILES = ("pyproject.toml", "constraints.txt", "README.md", "LICENSE")
PACKAGES = ("hw7", "autograder")
MODES = {"setup.sh": 0o755, "run_autograder": 0o755, "hidden-seed": 0o600, "rubric.toml": 0o600}
SUFFIXES = (".py", ".toml", ".j2", ".js", ".sh")
WHEN = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say: no build has a time of its own
FAILED = (
    "The grader itself failed on this submission, and your code is not to blame yet: tell your teacher, who sees why."
)


def build_image(out: Path, rubric: Path | None = None, data: str = "plates", seed_file: Path | None = None) -> Path:
    """Writes the zip to upload to Gradescope; its path. seed_file: holds the hidden seed; by default a new one
    is drawn.

    Raises HW7Error where the rubric is broken, the seed cannot be read or could be guessed, the data cannot be drawn in
    the container, or this is no clone of the project.
    """
    from autograder.course.files import files_below  # not above: the container does without templates

    rubric = rubric or DEFAULT_RUBRIC
    load_rubric(rubric)  # a broken one is refused here, and not by the first student's submission
    seed = new_seed() if seed_file is None else read_seed(seed_file)
    if data.partition(":")[0] != "plates":
        raise HW7Error(f"the data {data!r} is not in Gradescope's container; only plates can be drawn there")
    missing = [name for name in (*FILES, *PACKAGES) if not (PROJECT / name).exists()]
    if missing:
        raise HW7Error(f"{PROJECT} has no {', '.join(missing)}: build the image from a clone of the project")

    project = {name: (PROJECT / name).read_bytes() for name in FILES}
    for package in PACKAGES:
        project |= files_below(PROJECT / package, PROJECT, SUFFIXES)
    templates = "autograder/course/templates"
    members: dict[str, bytes] = {
        "setup.sh": project[f"{templates}/setup.sh"],
        "run_autograder": project[f"{templates}/run_autograder.sh"],
        "hidden-seed": seed.hex().encode(),
        "config.json": json.dumps({"data": data}).encode(),
        "failed.json": json.dumps(failed(FAILED, TOTAL), indent=1, allow_nan=False).encode(),
        "rubric.toml": rubric.read_bytes(),
        **{f"project/{name}": content for name, content in project.items()},
    }
    with replacing(out, sum(map(len, members.values()))) as temporary:
        temporary.touch(0o600)  # the seed is in it
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, content in members.items():
                entry = zipfile.ZipInfo(name, WHEN)
                entry.create_system, entry.external_attr = 3, (0o100000 | MODES.get(name, 0o644)) << 16  # Unix, a file
                entry.compress_type = zipfile.ZIP_DEFLATED
                # A checkout on Windows may have other line ends, with which no script starts.
                archive.writestr(entry, content.replace(b"\r\n", b"\n"))
    return out


def main(root: Path) -> None:
    """Grades ROOT/submission and writes ROOT/results/results.json, whatever happens on the way."""
    try:
        rubric = load_rubric(root / "source" / "rubric.toml")
        (grade,) = aligned([_grade(root, rubric)], rubric)
        made: dict[str, Any] = results(grade)
        print(*exact_figures(grade), sep="\n")
    except BaseException:  # whatever it is, the teacher has to see it
        made = failed(FAILED, TOTAL, traceback.format_exc())
        traceback.print_exc()
    write_json(root / "results" / "results.json", made)


def _grade(root: Path, rubric: Rubric) -> Grade:
    # Here, and not above: when one of these cannot be imported, the teacher reads why in results.json.
    from autograder.intake.submission import Location, take_in
    from autograder.jail import best_tier
    from autograder.worker import Settings, grade_one

    source = root / "source"
    tier, reasons = best_tier()
    print(f"The jail is of tier {tier}.", *(f"{name}: {reason}" for name, reason in reasons.items()), sep="\n")
    key = stretched(read_seed(source / "hidden-seed"))
    settings = Settings(rubric, key, read_json(source / "config.json")["data"], tier)
    return grade_one(take_in(Location("submission", root / "submission")), settings)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
