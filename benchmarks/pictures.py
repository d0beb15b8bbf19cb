"""The pictures of README and docs: how Chromium shows the report's page, a made-up class's page, and diagrams.

    hw7 reproduce --out out/quick
    python benchmarks/pictures.py report out/quick/report.html

    python benchmarks/pictures.py hand-in out/class/submissions
    hw7-grade run out/class/submissions --out out/class/grades
    hw7-grade export --to html --out out/class/grades
    python benchmarks/pictures.py class out/class/grades/exports/html/class.html

    npm pack mermaid@11 && tar xf mermaid-11*.tgz package/dist/mermaid.min.js
    python benchmarks/pictures.py diagrams package/dist/mermaid.min.js

The names of the class are invented; its code is the reference's with wrong solutions of tests/answers in it, and is
really graded. A picture is the top of a page without the parts that `SHOTS` hides, in light colours, with 128 of them.

Diagrams are drawn for the site alone, each into a file that is named after its source (docs/hooks.py), so that readers
load nothing from elsewhere. One that was changed and not drawn again is drawn by their browser, by unpkg.com's Mermaid.
"""

import argparse
import html
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "docs"))

from browser import CHROMIUM, QUIET, with_script
from hooks import DIAGRAM, PROJECT, diagram_name
from submissions import WEIGHTS, mutants, reference_files, write

PICTURES = PROJECT / "docs" / "pictures"
SHOTS = {  # width and height in pixels of the page, and what is hidden: a CSS selector
    "report": (1000, 800, "main > dl, nav, #s1, #s2"),
    "class": (1000, 1000, "nav, #tasks"),
}
DIAGRAM_WINDOW = (1000, 600)
SHARPER = 1.4  # pixels of the picture to one of the page
MOST_BYTES = 250_000

# Who made which mistakes; more than one in a module is the last one alone. "none": no weights, "stub": not begun.
CLASS = {
    "Amara Okafor": "",
    "Anton Lindqvist": "2.1-no-temperature-squared",
    "Beatriz Moreira": "3.2-ties-to-the-higher-index",
    "Chidi Nwosu": "",
    "Clara Hoffmann": "2.1-mean-over-classes 4.1-cut-not-rounded none",
    "Dae-jung Seo": "",
    "Elif Kaya": "1.1-no-inner-batch-norm 2.1-mean-over-classes",
    "Farid Haddad": "2.2-teacher-in-train-mode",
    "Giulia Ferraro": "",
    "Hannah Weiss": "stub",
    "Ines Carvalho": "2.1-alpha-swapped 3.1-signed",
    "Jonas Vermeulen": "3.1-signed untrained",
    "Kavya Raman": "",
    "Lars Nygaard": "2.1-mean-over-classes 3.3-running-mean-forgotten",
    "Lucie Marchand": "1.3-cnn-relu",
    "Mateo Ibarra": "1.1-stride-ignored 2.2-gradients-not-zeroed 3.2-first-channels none",
    "Mei-lin Zhao": "",
    "Nadia Petrova": "2.2-teacher-in-train-mode 3.3-depthwise-weight-forgotten",
    "Oluwaseun Bello": "1.2-separable-downsample",
    "Priya Nair": "2.1-mean-over-classes",
    "Samuel Adeyemi": "1.3-cnn-relu 2.1-no-temperature-squared 3.2-ties-to-the-higher-index untrained",
    "Sofia Papadakis": "",
    "Tomasz Zielinski": "2.1-sum-over-batch 3.3-scale-forgotten",
    "Yuki Tanabe": "3.2-least-important",
}


def hand_in(folder: Path) -> None:
    """Writes the class's submissions, a folder for each student."""
    wrong = {entry.id: entry for entry in mutants()}
    reference = reference_files()
    for student, words in CLASS.items():
        files, weights = dict(reference), "reference"
        for word in words.split():
            if word in wrong:  # what it leaves as it is must not undo the student's other mistakes
                files |= {name: data for name, data in wrong[word].files.items() if data != reference.get(name)}
            elif word == "stub":
                stubs, weights = PROJECT / "assignments" / "hw7", "none"
                files = {name: (stubs / name).read_bytes() for name in reference}
            else:
                weights = word
        write(files, WEIGHTS[weights](), folder / student)
        shutil.copy(PROJECT / "reference_solutions" / "hw7" / "hw7.ipynb", folder / student)


def shot(page: Path, width: int, height: int) -> Image.Image:
    """How Chromium shows a page in a window of this size."""
    if CHROMIUM is None:
        raise SystemExit("there is no Chromium to look at the page with")
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "raw.png")
        window = (f"--window-size={width},{height}", f"--force-device-scale-factor={SHARPER}", "--hide-scrollbars")
        command = [CHROMIUM, *QUIET, *window, f"--user-data-dir={folder}/profile", f"--screenshot={raw}"]
        subprocess.run([*command, page.as_uri()], check=True, capture_output=True, env=os.environ | {"HOME": folder})
        return Image.open(raw).convert("RGB")


def take(page: Path, picture: Path, width: int, height: int, hidden: str) -> None:
    """A picture of the page's top, without what is hidden."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(page, folder))
        shown = with_script(copy, f"document.querySelectorAll('{hidden}').forEach((each) => each.remove())")
        save(shot(shown, width, height), picture)


def diagrams(mermaid: Path) -> None:
    """A picture of each of the docs' diagrams, and none of those that they had before."""
    for old in PICTURES.glob("diagram-*.png"):
        old.unlink()
    for page in sorted((PROJECT / "docs").rglob("*.md")):
        for source in DIAGRAM.findall(page.read_text(encoding="utf-8")):
            with tempfile.TemporaryDirectory() as folder:
                drawn = Path(folder, "diagram.html")
                drawn.write_text(
                    f'<meta charset="utf-8"><pre class="mermaid">{html.escape(source)}</pre>'
                    f'<script src="{mermaid.resolve().as_uri()}"></script>'
                    '<script>mermaid.initialize({theme: "neutral"})</script>',
                    encoding="utf-8",
                )
                picture = shot(drawn, *DIAGRAM_WINDOW)
            edges = ImageOps.invert(picture).getbbox()  # what is not white
            save(ImageOps.expand(picture.crop(edges), border=12, fill="white"), PICTURES / diagram_name(source))


def save(picture: Image.Image, path: Path) -> None:
    """Writes it in few colours, and says how large it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path}: {size / 1000:.0f} kB")
    if size > MOST_BYTES:
        raise SystemExit(f"it has more than {MOST_BYTES:,} bytes: show less of the page")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("hand-in", "diagrams", *SHOTS))
    parser.add_argument("path", type=Path, help="the folder to write submissions to, Mermaid, or the page to look at")
    asked = parser.parse_args()
    if asked.what == "hand-in":
        hand_in(asked.path)
    elif asked.what == "diagrams":
        diagrams(asked.path)
    else:
        take(asked.path, PICTURES / f"{asked.what}.png", *SHOTS[asked.what])


if __name__ == "__main__":
    main()
