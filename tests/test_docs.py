"""What README and docs say can be typed, and CI types what the README says."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from hw7.cli import cli
from hw7.experiments import EXPERIMENTS, PROFILES

PROJECT = Path(__file__).resolve().parent.parent
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def commands() -> list[str]:
    """Every line of a shell block, continued lines joined."""
    blocks = [block for page in PAGES for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)]
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def hw7_calls() -> list[str]:
    """The parts of those lines that call `hw7`."""
    parts = [part.strip() for line in commands() for part in line.split("&&")]
    return [part for part in parts if re.search(r"(^|[/ ])hw7 \w", part)]


@pytest.mark.parametrize("call", hw7_calls())
def test_every_hw7_command_in_the_docs_is_understood(call: str) -> None:
    words = shlex.split(call)
    words = words[next(i for i, word in enumerate(words) if word.split("/")[-1] == "hw7") + 1 :]
    group = typer.main.get_command(cli)
    command = group.commands[words[0]]  # type: ignore[attr-defined]
    command.make_context(words[0], words[1:])  # raises a usage error for an unknown option or a missing argument


def test_there_are_commands_in_the_docs() -> None:
    assert len(hw7_calls()) >= 5


def test_ci_runs_the_test_command_of_the_readme() -> None:
    (test_command,) = [line for line in commands() if "tox" in line]
    assert test_command in (PROJECT / ".ci" / "run").read_text()


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_tables_of_the_docs_are_those_of_the_code() -> None:
    text = (PROJECT / "docs" / "reproducing.md").read_text()
    for name in PROFILES:
        assert f"| `{name}` |" in text
    for name in EXPERIMENTS:
        # `student-c`, `-d`, `-e` stand for three
        stem, _, end = name.rpartition("-")
        assert f"`{name}`" in text or (f"`{stem}-" in text and f"`-{end}`" in text), name
