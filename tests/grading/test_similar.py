"""Pairs of submissions that are alike: copies in disguise are found, independent work is not, and nothing is run."""

import random
import re
from html.parser import HTMLParser
from inspect import signature
from pathlib import Path

import pytest
import typer.testing
from alike import GIVEN, copied, independent_pair, stubs
from hypothesis import given, settings
from hypothesis import strategies as st
from submissions import reference_files, write

from autograder.cli import cli
from autograder.cli import similar as similar_command
from autograder.exports.similar import blocks_of, export_similar, format_similar, remarks, similar_page
from autograder.intake.layouts import FoundSubmissions
from autograder.intake.lexing import lex
from autograder.intake.similar import (
    AT_LEAST,
    LEAST,
    MOST_TOKENS,
    PASSAGE,
    Similar,
    find_similar,
    given_by,
    handed_out,
    passages_of,
    read_all,
    read_given,
)
from autograder.intake.submission import Location, Submission
from hw7 import HW7Error

Files = dict[str, bytes]
NOTHING = given_by([])
LOSSES = "solution/losses.py"


def found(*files: Files, least: int = LEAST, at_least: float = AT_LEAST) -> Similar:
    """The pairs among these submissions, whose students are "0", "1" and so on."""
    return find_similar([Submission(str(n), each) for n, each in enumerate(files)], GIVEN, at_least, least)


def students(similar: Similar) -> list[tuple[str, str]]:
    return [(pair.documents[0].student, pair.documents[1].student) for pair in similar.pairs]


def made_up(seed: int, statements: int = 30) -> str:
    """A function that no two seeds have in common."""
    chance = random.Random(seed)
    words = [f"{chance.choice('abcdefgh')}{chance.randrange(99)}" for _ in range(6 * statements)]
    lines = [f"    v = v.{a}(v.{b}, v.{c})" for a, b, c in zip(words[::3], words[1::3], words[2::3], strict=True)]
    return "\n".join([f"def made_up_{seed}(v):", *lines, "    return v", "", ""])


def kinds(text: str) -> list[str]:
    return [token.kind for token in lex(text.encode(), 10_000).tokens]


# ---- tokens --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        "def other(p, q):\n    return p.sum(dim=0) + q * 20.0",
        "def mean(a, b):\n    # how it is done\n    return a.sum(dim=0) + b * 20.0  # like this",
        'def mean(a, b):\n    """Another\n    docstring."""\n    return a.sum(dim=0) + b * 20.0',
        "def mean(a, b):\n    return a.sum(dim=0) + b * 2_0e0",
        "def mean(\n    a,\n    b,\n):\n    return a.sum(\n        dim=0,\n    ) \\\n + b*20.0;",
        "\ufeffimport torch\r\nfrom a import (b,\r\n  c)\r\ndef mean(a, b):\r\n\treturn a.sum(dim=0) + b * 20.0\r\n",
    ],
)
def test_what_is_changed_without_thought_is_not_looked_at(other: str) -> None:
    assert kinds(other) == kinds("def mean(a, b):\n    return a.sum(dim=0) + b * 20.0")


def test_texts_are_one_token_and_what_a_library_names_is_kept() -> None:
    assert kinds("x = f'a{b}' \"c\" + r'''d\n'''") == ["name", "=", "string", "+", "string"]
    assert kinds("self.mine = x.softmax(1)") == ["name", ".", "name", "=", "name", ".", "softmax", "(", "number", ")"]
    assert kinds("yield from x") == ["yield", "from", "name"]


HOSTILE = [
    b"\0" * 1000, b"\xff\xfe\xff", b"(" * 100_000, b'"""' * 33_333, b'"' + b"\\" * 99_999, b"  \n" * 33_000,
    b"9" * 100_000, b"f'{" * 30_000, b"\\\n" * 50_000, b"import a," * 10_000, b"def f(:\n return ]]]", b"",
    "\n".join(" " * depth + "if x:" for depth in range(500)).encode(), "ſ = \u2028 1".encode(),
]  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: repr(data[:8]))
def test_hostile_files_are_tokens_like_others(data: bytes) -> None:
    good = reference_files()
    similar = found(
        {"solution/_.py": data, **{f"solution/a{n}.py": each for n, each in enumerate(good.values())}}, dict(good)
    )
    assert students(similar) == [("0", "1")]
    assert similar_page(similar)


@given(st.binary(max_size=200) | st.text(st.sampled_from("'\"\\\n#(){}[]f.=,;a1 é"), max_size=200).map(str.encode))
def test_any_bytes_are_tokens_in_order(data: bytes) -> None:
    source = lex(data, 50)
    assert len(source.tokens) <= 50
    end = 0
    for token in source.tokens:
        assert end <= token.start < token.end <= len(source.text)
        end = token.end


# ---- pairs -----------------------------------------------------------------------------------------------------


def test_copies_are_told_from_independent_work() -> None:
    """docs/similar.md has the figures of more pairs; the threshold is far from both."""
    for seed in range(4):
        first, second = independent_pair(seed)
        assert found(first, second).pairs == ()
        (pair,) = found(first, second, at_least=0.0, least=1).pairs
        assert max(pair.shares) < AT_LEAST / 2
        for every in (0, 2):
            (pair,) = found(first, second, copied(first, seed, every)).pairs
            assert (pair.documents[0].student, pair.documents[1].student) == ("0", "2")
            assert max(pair.shares) > 2 * AT_LEAST


def test_the_default_of_the_command_is_the_measured_one() -> None:
    assert signature(similar_command.similar).parameters["at_least"].default == AT_LEAST


def test_the_stubs_and_what_was_given_do_not_count(tmp_path: Path) -> None:
    similar = found(dict(stubs()), dict(stubs()))
    assert similar.pairs == ()
    assert similar.left_out.keys() == {"0", "1"}
    (tmp_path / "lecture.py").write_text(made_up(1))
    files = [{LOSSES: (made_up(1) + made_up(n)).encode()} for n in (2, 3)]
    submissions = [Submission(str(n), each) for n, each in enumerate(files)]
    assert len(find_similar(submissions, GIVEN).pairs) == 1
    assert find_similar(submissions, read_given([*handed_out(()), tmp_path])).pairs == ()
    (tmp_path / "empty").mkdir()
    with pytest.raises(HW7Error, match="no Python files"):
        read_given([tmp_path / "empty"])


@pytest.mark.parametrize(("number", "pairs"), [(9, 36), (10, 0)])
def test_what_a_third_of_a_class_has_is_common(number: int, pairs: int) -> None:
    files = [{LOSSES: (made_up(1000) + made_up(n)).encode()} for n in range(number)]
    assert len(found(*files).pairs) == pairs


def test_many_copies_of_one_do_not_make_it_common() -> None:
    others = [{LOSSES: made_up(n).encode()} for n in range(10)]
    copies = [{LOSSES: made_up(1000).encode()}] * 8
    similar = found(*others, *copies)
    assert len(similar.pairs) == 8 * 7 // 2
    assert all(pair.same_bytes and pair.shares == (1.0, 1.0) for pair in similar.pairs)


def test_a_part_of_a_submission_is_found_in_whole_ones_and_in_other_files() -> None:
    part, rest = made_up(1), "".join(map(made_up, range(2, 8)))
    similar = found({LOSSES: part.encode()}, {"solution/helpers/own.py": (rest + part).encode()})
    (pair,) = similar.pairs
    assert pair.shares[0] > 0.95
    assert pair.shares[1] < 0.2
    (passage,) = passages_of(pair)
    assert passage.paths == (LOSSES, "solution/helpers/own.py")


def test_files_of_the_same_bytes_are_told_whatever_the_share() -> None:
    mine, others = "".join(map(made_up, range(1, 9))), "".join(map(made_up, range(11, 19)))
    same = {"solution/small.py": made_up(50).encode()}
    first, second = same | {LOSSES: mine.encode()}, same | {LOSSES: others.encode()}
    submissions = [Submission("0", first, b"weights"), Submission("1", second, b"weights")]
    (pair,) = find_similar(submissions, GIVEN).pairs
    assert max(pair.shares) < AT_LEAST
    assert not pair.same_bytes
    assert remarks(pair) == ["the same bytes: solution/small.py", "the weights have the same bytes"]
    (pair,) = found(first, dict(first)).pairs
    assert remarks(pair) == ["all files have the same bytes"]


def test_most_suspicious_first() -> None:
    texts = [made_up(n) for n in range(6)]
    files = [texts[0] + texts[1] + texts[2], texts[0] + texts[1] + texts[3], texts[0] + texts[4] + texts[5]]
    similar = found(*({LOSSES: text.encode()} for text in (*files, files[2])))
    assert students(similar)[:2] == [("2", "3"), ("0", "1")]


def test_what_is_too_much_or_too_little_is_told() -> None:
    large = {LOSSES: (made_up(1) + "x.a = [1, 2, 3]\n" * 6000).encode()}
    similar = find_similar(
        [
            Submission("large", large),
            Submission("small", {LOSSES: b"x = 1"}),
            Submission("none", problem="It is empty."),
        ],
        NOTHING,
    )
    assert (similar.compared, similar.cut) == (1, ("large",))
    assert similar.left_out["none"] == "It is empty."
    assert "small" in similar.left_out
    page = similar_page(similar)
    assert f"{MOST_TOKENS:,} tokens" in page
    assert "It is empty." in page


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 60), st.integers(1, 4))
def test_shares_are_those_of_the_definition(seed: int, shared: int, changes: int) -> None:
    chance = random.Random(seed)
    one = chance.choices("+-*/%@&|^<>", k=80)
    two = chance.choices("+-*/%@&|^<>", k=30) + one[:shared]
    for _ in range(changes):
        two[chance.randrange(len(two))] = "~"
    files = [" ".join(words).encode() for words in (one, two)]
    submissions = [Submission(str(n), {LOSSES: data}) for n, data in enumerate(files)]
    pairs = find_similar(submissions, NOTHING, 0.0, 1).pairs

    def grams(words: list[str]) -> list[tuple[str, ...]]:
        return [tuple(words[at : at + PASSAGE]) for at in range(len(words) - PASSAGE + 1)]

    def share(words: list[str], others: list[str]) -> float:
        known = set(grams(others))
        covered = {at + n for at, gram in enumerate(grams(words)) if gram in known for n in range(PASSAGE)}
        return len(covered) / len(words)

    expected = (share(one, two), share(two, one))
    assert (pairs[0].shares if pairs else (0.0, 0.0)) == pytest.approx(expected)


# ---- what is shown -----------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """A page's elements, and the text of its marks."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.marked: list[str] = []
        self.mark = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.mark = f"{dict(attrs)['class']}:" if tag == "mark" else ""

    def handle_data(self, data: str) -> None:
        if self.mark:
            self.marked.append(self.mark + data)
            self.mark = ""


def test_the_page_shows_both_sides_and_runs_nothing(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>"
    text = 'def f(v):\n    v = "<script>alert(2)</script>"\n' + made_up(1).partition("\n")[2]
    submissions = [
        Submission(name, {LOSSES: text.encode()}),
        Submission("b", {LOSSES: text.replace("v", "w").encode()}),
    ]
    path = export_similar(find_similar(submissions, NOTHING), tmp_path / "similar.html")
    page = Page(path.read_text())
    assert not page.elements & {"script", "img", "iframe", "link", "form"}
    assert 'own:v = "<script>alert(2)</script>"' in page.marked
    assert 'own:w = "<script>alert(2)</script>"' in page.marked
    assert "talk to both students" in path.read_text()
    assert "http" not in re.sub(r"http-equiv", "", path.read_text())


def test_evidence_stands_side_by_side_and_what_was_given_is_pale() -> None:
    first = {
        LOSSES: stubs()[LOSSES].replace(
            b"raise NotImplementedError", b"return labels.a(labels.b, labels.c).d(labels.e)"
        )
    }
    first[LOSSES] += b"\n\n" + made_up(1).encode()
    similar = found(first, copied(first, 1))
    (pair,) = similar.pairs
    blocks, left_out = blocks_of(pair)
    assert left_out == 0
    assert "def made_up_1(v)" in "".join(piece.text for _, line in blocks[0].sides[0].lines for piece in line)
    texts = [[piece for _, line in block.sides[side].lines for piece in line] for block in blocks for side in (0, 1)]
    own = ["".join(piece.text for piece in side if piece.mark == "own") for side in texts]
    known = ["".join(piece.text for piece in side if piece.mark == "known") for side in texts]
    assert any(re.search(r"v = v\.\w+", text) for text in own)
    assert not any("teacher_logits: Tensor" in text for text in own)
    assert any("teacher_logits: Tensor" in text for text in known)
    for number, line in blocks[0].sides[0].lines:
        assert "".join(piece.text for piece in line) == first[LOSSES].decode().split("\n")[number - 1]


def test_the_page_of_a_large_class_is_bounded() -> None:
    long = "v.a(" + "v.b, " * 500 + "v)\n"
    files = [{LOSSES: (long + made_up(1)).encode()}] * 60
    similar = found(*files)
    page = similar_page(similar)
    assert len(page) < 3_000_000
    assert "770 further pairs" in page  # of 60 * 59 / 2
    assert "1750 further pairs" in format_similar(similar).replace(",", "")


# ---- the command -------------------------------------------------------------------------------------------------


def call(*words: object) -> typer.testing.Result:
    return typer.testing.CliRunner().invoke(cli, ["similar", *map(str, words)])


def test_the_command(tmp_path: Path) -> None:
    first, second = independent_pair(1)
    for name, files in {"ada": first, "ben": copied(first, 1), "cleo": second}.items():
        write(files, None, tmp_path / "class" / name)
    result = call(tmp_path / "class", "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert re.search(r"ada +\d\d % +ben +\d\d %", result.output)
    assert "1 pair among 3 submissions" in result.output
    assert "ben" in (tmp_path / "out" / "similar.html").read_text()
    page = tmp_path / "pairs.html"
    result = call(tmp_path / "class", "--out", page, "--at-least", "0.99", "--given", tmp_path / "class")
    assert (result.exit_code, "no two submissions are alike" in result.output) == (0, True)
    assert page.is_file()
    assert call(tmp_path / "class", "--out", tmp_path, "--at-least", "2").exit_code == 2


def test_what_a_group_handed_in_together_is_one_submission(tmp_path: Path) -> None:
    write(dict(reference_files()), None, tmp_path / "a")
    write(dict(reference_files()), None, tmp_path / "b")
    there = [Location("ada", tmp_path / "a"), Location("ben", tmp_path / "a"), Location("cleo", tmp_path / "b")]
    submissions = list(read_all(FoundSubmissions(tuple(there), "gradescope")))
    assert [submission.student for submission in submissions] == ["ada + ben", "cleo"]
    assert students(find_similar(submissions, GIVEN)) == [("ada + ben", "cleo")]
