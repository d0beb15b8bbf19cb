"""The site's hooks, and the pictures of README: links lead to the same place on GitHub and on the site."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT / "docs"), str(PROJECT / "benchmarks")]

import hooks  # noqa: E402
import pictures  # noqa: E402


def on_site(page: str, markdown: str, *there: str) -> str:
    """What becomes of a text of this page of the site, where the site has these files."""
    files = SimpleNamespace(get_file_from_path={name: name for name in there}.get)
    of_site = SimpleNamespace(file=SimpleNamespace(src_uri=page), meta={})
    return hooks.on_page_markdown(markdown, of_site, None, files)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("page", "link", "leads_to"),
    [
        ("index.md", "docs/jail.md#tiers", "jail.md#tiers"),
        ("index.md", "docs/results", "results/README.md"),
        ("index.md", "CONTRIBUTING.md", "contributing.md"),
        ("index.md", "docs/pictures/report.png", "pictures/report.png"),
        ("grading.md", "../autograder/rubric.toml", "files/autograder/rubric.toml.md"),
        ("grading.md", "jail.md#limits", "jail.md#limits"),
        ("results/gpu.md", "../../benchmarks/gpu.sh", "../files/benchmarks/gpu.sh.md"),
        ("results/quick.md", "../../README.md#grade-a-class", "../index.md#grade-a-class"),
        ("contributing.md", "docs/architecture.md", "architecture.md"),
        ("grading.md", "nowhere.md", "nowhere.md"),  # MkDocs finds it, and fails
        ("grading.md", "#names", "#names"),
        ("grading.md", "https://example.org/docs/jail.md", "https://example.org/docs/jail.md"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(page: str, link: str, leads_to: str) -> None:
    assert on_site(page, f"See [this]({link}), f(x)[0](y).") == f"See [this]({leads_to}), f(x)[0](y)."


def test_a_picture_that_is_a_link_is_turned_twice() -> None:
    turned = on_site("index.md", "[![the page](docs/pictures/report.png)](docs/reproducing.md)")
    assert turned == "[![the page](pictures/report.png)](reproducing.md)"


def test_a_diagram_becomes_its_picture_and_one_that_was_changed_does_not() -> None:
    source = "flowchart LR\n    a --> b\n"
    text = f"Before.\n\n```mermaid\n{source}```\n\nBehind.\n"
    picture = f"pictures/{hooks.diagram_name(source)}"
    assert on_site("results/gpu.md", text, picture) == f"Before.\n\n![Diagram](../{picture})\n\nBehind.\n"
    assert on_site("results/gpu.md", text, f"pictures/{hooks.diagram_name(source + ' ')}") == text


def test_a_file_is_shown_as_it_is_and_not_searched() -> None:
    shown = hooks._shown("autograder/rubric.toml")
    assert (PROJECT / "autograder" / "rubric.toml").read_text() in shown
    assert shown.startswith("---\nsearch:\n  exclude: true\n---\n")


def test_pictures_of_the_readme_are_small_and_show_a_page() -> None:
    names = re.findall(r"!\[[^]]+\]\((docs/\S+?)\)", (PROJECT / "README.md").read_text())
    assert len(names) >= 2
    for name in names:
        assert (PROJECT / name).stat().st_size <= pictures.MOST_BYTES, name
        assert Image.open(PROJECT / name).width <= 1400, name


def test_the_class_of_the_picture_hands_in_what_its_table_says(tmp_path: Path) -> None:
    pictures.hand_in(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(pictures.CLASS)
    reference = PROJECT / "reference_solutions" / "hw7"
    for student, words in pictures.CLASS.items():
        modules = ("losses", "models", "pruning", "quantization")
        written = {name: (tmp_path / student / "solution" / f"{name}.py").read_text() for name in modules}
        changed = {name for name, text in written.items() if text != (reference / f"solution/{name}.py").read_text()}
        chapters = {"1": "models", "2": "losses", "3": "pruning", "4": "quantization"}
        mistaken = {chapters[word[0]] for word in words.split() if word[0] in chapters}
        assert changed == (set(modules) if words == "stub" else mistaken), student
        assert (tmp_path / student / "weights.safetensors").exists() != ({"none", "stub"} & set(words.split()) != set())
