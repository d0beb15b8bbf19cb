"""What `benchmarks/justice.py` counts: named, clear, named wrongly, with a solution's own entry and without it."""

import sys
from dataclasses import replace
from pathlib import Path

from submissions import Entry, alternatives, mutants

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import justice


def mutant(id_: str) -> Entry:
    return next(each for each in mutants() if each.id == id_)


def test_a_known_mistake_and_what_is_said_without_it() -> None:
    look = justice.look(mutant("3.2-least-important"))
    assert justice.standing(look.told) == "named"
    assert {each.outcome.mistake for each in look.told} == {"select-least-important"}
    assert look.without is not None
    assert {each.outcome.mistake for each in look.without} == {"select-rule"}
    assert justice.standing(look.without) == "named"


def test_a_name_that_the_corpus_does_not_know_is_wrong() -> None:
    right = mutant("3.2-least-important")
    assert justice.standing(justice.look(replace(right, mistakes=("select-first",))).told) == "named wrongly"
    # Of a diagnosis the very words count.
    look = justice.look(replace(right, says=("something else",)))
    assert justice.standing(look.told) == "named"
    assert justice.standing(look.without or ()) == "named wrongly"


def test_what_is_clear_and_what_is_not_found() -> None:
    assert justice.standing(justice.look(mutant("3.2-assertion")).told) == "clear"
    reference = replace(mutant("3.2-assertion"), files=next(e for e in alternatives() if e.id == "3.2-right").files)
    assert justice.standing(justice.look(reference).told) == "not found"


def test_no_right_solution_is_accused_here_and_a_wrong_one_is() -> None:
    assert justice.accused(mutant("3.2-assertion")) == ("3.2",)


def test_the_tables() -> None:
    looks = [justice.look(mutant(id_)) for id_ in ("3.2-least-important", "3.2-assertion")]
    rows = justice.naming(looks).splitlines()
    assert [cell.strip() for cell in rows[2].split("|")[1:7]] == ["3.2", "2", "1 (50%)", "1 (50%)", "0 (0%)", "0 (0%)"]
    found = justice.confusion(looks, {"a": (), "b": ("2.1",)}).splitlines()[2:]
    assert [[cell.strip() for cell in row.split("|")[1:5]] for row in found] == [
        ["wrong", "2", "2", "0"],
        ["right", "2", "1", "1"],
    ]
