"""The hidden seed: drawn at random, in files alone, slow to guess, and in nothing that students read."""

import re
import secrets
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_grades import RUBRIC, a_class
from typer.testing import CliRunner

from autograder import cli
from autograder.course.gradescope_image import build_image
from autograder.exports import export
from autograder.rubric import load_rubric, rubric_digest
from autograder.tasks.hidden import Hidden, new_seed, read_seed, stretched, write_seed
from autograder.worker import Settings, hidden_seed
from hw7 import HW7Error


def a_file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# ---- the file of OUT ---------------------------------------------------------------------------------------------


def test_a_seed_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    first = hidden_seed(tmp_path / "a")
    kept = tmp_path / "a" / "hidden-seed"
    assert len(bytes.fromhex(kept.read_text())) == 16
    assert hidden_seed(tmp_path / "a") == first
    assert hidden_seed(tmp_path / "b") != first
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["hidden-seed"]


def test_a_seed_of_ones_own_is_kept_in_out(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    for path in (mine, other):
        write_seed(path, new_seed())
    key = hidden_seed(tmp_path / "out", mine)
    assert hidden_seed(tmp_path / "out") == hidden_seed(tmp_path / "out", mine) == key
    assert hidden_seed(tmp_path / "second", mine) == key
    assert stat.S_IMODE((tmp_path / "out" / "hidden-seed").stat().st_mode) == 0o600
    with pytest.raises(HW7Error, match="another seed"):
        hidden_seed(tmp_path / "out", other)
    assert hidden_seed(tmp_path / "out") == key
    assert hidden_seed(tmp_path / "third", a_file(tmp_path / "upper", f" {mine.read_text().upper()}\n\n")) == key


def test_shards_that_start_together_agree_on_a_seed(tmp_path: Path) -> None:
    def start(_: int) -> bytes:
        write_seed(tmp_path / "hidden-seed", new_seed())
        return read_seed(tmp_path / "hidden-seed")

    with ThreadPoolExecutor(16) as executor:
        assert len(set(executor.map(start, range(64)))) == 1


# ---- what may be a seed ------------------------------------------------------------------------------------------

GUESSABLE = {
    "nothing": "",
    "a term": "autumn-2026",
    "a sentence": "This is the hidden seed of homework seven, autumn 2026, and nobody will ever guess it.",
    "letters of base64": "HomeworkSevenHiddenSeedAutumn2026",
    "half of what is asked for": "f3a91c0b7e52d846",
    "one digit short": "9c1f5b07e3a8d2460b7e5f1c93ad826",
    "zeros": "0" * 32,
    "all digits in a row": "0123456789abcdef" * 2,
    "digits up and down": "0123456789abcdeffedcba9876543210",
    "a word of hexadecimal letters": "deadbeef" * 4,
    "one half twice": "f3a91c0b7e52d846" * 2,
    "words as hexadecimal": b"homework 7, autumn 2026".hex(),
    "dates": "20260901202612182027011520270228",
    "letters that are no digits": "g3a91c0b7e52d8465d20be1479c36af8",
}


@pytest.mark.parametrize("name", GUESSABLE)
def test_what_could_be_guessed_is_refused(tmp_path: Path, name: str) -> None:
    """As a file of one's own, in OUT, and for Gradescope; without repeating it."""
    text = GUESSABLE[name]
    file = a_file(tmp_path / "mine", text)
    (tmp_path / "out").mkdir()
    a_file(tmp_path / "out" / "hidden-seed", text)
    for refuses in (
        lambda: hidden_seed(tmp_path / "new", file),
        lambda: hidden_seed(tmp_path / "out"),
        lambda: build_image(tmp_path / "image.zip", seed_file=file),
    ):
        with pytest.raises(HW7Error, match=r"could be guessed.*hw7-grade new-seed") as caught:
            refuses()
        assert not text or text not in str(caught.value)
    assert not (tmp_path / "new" / "hidden-seed").exists()
    assert not (tmp_path / "image.zip").exists()


def test_a_file_that_cannot_be_read_says_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe" * 16)
    for path in (tmp_path / "autumn-2026", tmp_path, tmp_path / "binary"):
        with pytest.raises(HW7Error, match=r"cannot be read.*hw7-grade new-seed"):
            read_seed(path)


def test_what_is_drawn_at_random_is_taken(tmp_path: Path) -> None:
    """Fewer than one in a million is refused by chance; 16 bytes or more, however they were written in hexadecimal."""
    for number in range(300):
        seed = secrets.token_bytes(16 + number % 17)
        assert read_seed(a_file(tmp_path / "seed", seed.hex())) == seed


# ---- a guess is slow ---------------------------------------------------------------------------------------------


def test_all_that_is_asked_follows_from_the_stretched_key(tmp_path: Path) -> None:
    write_seed(tmp_path / "hidden-seed", new_seed())
    seed, key = read_seed(tmp_path / "hidden-seed"), hidden_seed(tmp_path)
    assert key == stretched(seed)
    assert len(key) == 32
    rubric = load_rubric()
    settings = Settings(rubric, key)
    for guess in (seed, seed.hex().encode()):  # what one hash of the seed would give
        assert Hidden(guess).digest() != settings.hidden.digest()
        assert rubric_digest(rubric, Hidden(guess).digest()) != settings.rubric_digest
        assert Hidden(guess).derive("images") != settings.hidden.derive("images")


def test_no_log_shows_it() -> None:
    key = stretched(new_seed())
    for shown in (repr(Settings(load_rubric(), key)), repr(Hidden(key))):
        assert repr(key) not in shown
        assert key.hex() not in shown


# ---- nothing that students read ----------------------------------------------------------------------------------


def test_students_read_nothing_that_depends_on_the_seed(tmp_path: Path) -> None:
    """Two classes whose grades differ in what is made of the seed, the digest, get the same bytes."""
    digests = ["1b5c" * 16, "e7f0" * 16]
    written = []
    for digest in digests:
        grades = [replace(grade, rubric=digest) for grade in a_class(12)]
        for to in ("html", "gradescope", "csv"):
            export(to, grades, RUBRIC, tmp_path / digest / to)
        files = {path.relative_to(tmp_path / digest): path for path in (tmp_path / digest).rglob("*")}
        written.append({name: path.read_bytes() for name, path in files.items() if path.is_file()})
        for path, data in written[-1].items():
            assert not re.search(rf"{digest[:8]}".encode(), data), path
        pages = cli.format_grade(grades[0])
        assert digest[:8] not in pages
    assert written[0] == written[1]
    assert len(written[0]) > 24


# ---- the command -------------------------------------------------------------------------------------------------


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli.cli, [str(word) for word in words])
    return result.exit_code, " ".join(re.findall(r"[\w./`-]+", f"{result.output} {result.exception}"))


def test_a_seed_can_be_made_and_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "autumn.seed"
    code, said = run("new-seed", path)
    assert code == 0
    made = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made.strip() not in said
    code, said = run("new-seed", path)
    assert (code, path.read_text()) == (1, made)
    assert "is there already" in said
    code, said = run("new-seed", tmp_path / "no" / "folder")
    assert code == 1
    assert "cannot be written" in said


@pytest.mark.parametrize("command", [("run", "submissions", "--out", "out"), ("gradescope-image", "image.zip")])
def test_no_seed_is_taken_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """There, every user of the machine could read it."""
    monkeypatch.chdir(tmp_path)
    code, said = run(*command, "--hidden-seed", "5d20be1479c36af8f3a91c0b7e52d846")
    assert code == 2
    assert "--hidden-seed-file" in said
    assert list(tmp_path.iterdir()) == []
