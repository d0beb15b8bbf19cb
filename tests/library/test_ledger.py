"""The ledger against a second reading of the report, done by hand, and every way in which a row can be wrong."""

from itertools import pairwise

import pytest

from hw7 import HW7Error
from hw7.report import ledger

# Question 1's table: parameters, state_dict bytes, as printed, validation accuracy, validation loss.
QUESTION_1 = {
    "teacher": (11182155, 44788712, "43 MB", "11.1 M", 0.885, 0.55742),
    "dwpw": (1454603, 5922784, "5.7 MB", "1.4 M", 0.801, 0.807),
    "cnn": (1720107, 5223289, "5.0 MB", "1.7 M", 0.805, 4.0890),
}
QUESTION_2 = {"a": "80.09 %", "b": "88.41 %", "c": "83.10 %", "d": "82.22 %", "e": "85.86 %"}
LADDERS = {
    "0.975": "245444 236066 226868 217850 209012 200354 193422 186324 178146 171606 164916 158621 153567 147234 142362 "
    "136508 131814 127200 122666 118212",
    "0.95": "236066 217850 200354 185091 171606 158621 146136 135204 125940 116996",
    "0.9": "216518 183578 156084 132858 114810",
}
# The numbers that stand outside of the tables and ladders, section by section.
IN_THE_TEXT = {
    "data.training.images": 9866,
    "data.validation.images": 3430,
    "data.testing.images": 3347,
    "data.classes": 11,
    "data.input.channels": 3,
    "data.input.size": 128,
    "data.first_layer.size": 64,
    "data.first_layer.stride": 2,
    "training.learning_rate": 0.001,
    "training.batch": 128,
    "training.epochs": 250,
    "distillation.alpha": 0.5,
    "distillation.temperature": 20,
    "q1.teacher.outputs": 11,
    "q1.dwpw.without_inner_norm.parameters": 1447819,
    "q1.dwpw.stem.kernel": 7,
    "q1.cnn.channels": (32, 64, 128, 128, 256, 256, 256),
    "q1.cnn.strides": (2, 1, 2, 1, 2, 1, 1),
    "q1.cnn.pooled": (1, 2, 3),
    "q1.cnn.layer_outputs": (64, 32, 32, 16, 8, 4, 4, 2, 2, 2),
    "q1.cnn.features": 256,
    "q1.cnn.bytes.least": 6880428,
    "q1.dwpw.times_smaller.bytes": 7.5,
    "q1.cnn.times_smaller.bytes": 8.6,
    "q1.dwpw.times_smaller.parameters": 7.7,
    "q1.cnn.times_smaller.parameters": 6.5,
    "q2.student.parameters": 274763,
    "q2.student.kilobytes": 1107,
    "q2.teacher.parameters": 11182155,
    "q2.teacher.kilobytes": 43738,
    "q2.phase1.learning_rate": 0.001,
    "q2.phase1.batch": 32,
    "q2.phase1.epochs": 250,
    "q2.phase2.learning_rate": 0.001,
    "q2.phase2.batch": 32,
    "q2.phase2.epochs": 50,
    "q2.student.channels": (32, 64, 128, 128, 256, 256, 256, 256),
    "q2.student.strides": (1, 2, 1, 2, 1, 1, 1),
    "q2.standard_error": 0.0064,
    "q3.student.parameters": 256779,
    "q3.student.kilobytes": 1022,
    "q3.teacher.accuracy": 0.884,
    "q3.student.loss": 0.94757,
    "q3.student.accuracy": 0.814,
    "q3.student.channels": (16, 32, 64, 128, 256, 256, 256, 256),
    "q3.pruning.first_layer": 3,
    "q3.pruning.stages": (3, 4, 5, 6),
    "q3.pruning.epochs": 5,
    "q3.pruning.keep_rates": (0.975, 0.95, 0.9),
    "q3.ladder.shared": (236066, 217850, 200354, 171606, 158621),
    "course.model.bytes": 300000,
    "course.model.score_over_limit": 0,
    "course.inference.minutes": 10,
    "course.question.weight": 0.02,
    "course.question4.megabytes": 1,
    "course.quantization.float32.bytes": 1047430,
    "course.quantization.float32.accuracy": 0.81315,
    "course.quantization.float16.bytes": 522958,
    "course.quantization.float16.accuracy": 0.81347,
    "course.quantization.8bit.bytes": 268472,
    "course.quantization.8bit.accuracy": 0.80791,
}
# Both sides of each contradiction, as far as they are figures.
CONTRADICTIONS = {
    1: {"q1.cnn.parameters": 1720107, "q1.cnn.bytes": 5223289},
    2: {"q2.e.accuracy": 0.8586, "q2.e.accuracy.table": 0.8556},
    3: {"q1.teacher.accuracy": 0.885, "q2.b.accuracy": 0.8841, "q3.teacher.accuracy": 0.884},
    4: {"text.linear.outputs": 1, "q1.cnn.outputs": 11, "q2.student.outputs": 11, "q3.student.outputs": 11},
    5: {"q2.student.activation": "ReLU", "q2.student.activation.text": "ReLU6"},
    6: {"q1.dwpw.parameters": 1454603, "q1.dwpw.table.empty_layers": 2},
    7: {"q1.claim.size": 1 / 8, "q1.claim.parameters": 1 / 10},
    8: {"q1.cnn.loss": 4.089},
    9: {"q2.c.accuracy": 0.831, "q2.d.accuracy": 0.8222, "data.validation.images": 3430},
}


@pytest.mark.parametrize("network", QUESTION_1)
def test_the_table_of_question_1(network: str) -> None:
    figures = ledger.load()
    parameters, size, accuracy, loss = (
        figures[f"q1.{network}.{column}"] for column in ("parameters", "bytes", "accuracy", "loss")
    )
    assert QUESTION_1[network] == (
        parameters.value,
        size.value,
        size.printed,
        parameters.printed,
        accuracy.value,
        loss.value,
    )
    assert [figure.obtained for figure in (parameters, size, accuracy, loss)] == ["counting"] * 2 + ["training"] * 2


@pytest.mark.parametrize("row", QUESTION_2)
def test_the_table_of_question_2(row: str) -> None:
    figure = ledger.load()[f"q2.{row}.accuracy"]
    assert figure.printed == QUESTION_2[row]
    assert f"{figure.value:.2%}".replace("%", " %") == QUESTION_2[row]
    assert (figure.question, figure.unit, figure.obtained) == ("2", "accuracy", "training")


@pytest.mark.parametrize(("keep_rate", "steps"), [("0.975", 20), ("0.95", 10), ("0.9", 5)])
def test_the_ladders_of_question_3(keep_rate: str, steps: int) -> None:
    figures = ledger.load()
    ladder = figures[f"q3.ladder.{keep_rate}"].value
    assert ladder == tuple(map(int, LADDERS[keep_rate].split()))
    assert len(ladder) == steps
    assert all(before > after for before, after in pairwise((figures["q3.student.parameters"].value, *ladder)))


def test_the_counts_at_which_two_ladders_meet() -> None:
    figures = ledger.load()
    fine, coarse = (set(figures[f"q3.ladder.{keep_rate}"].value) for keep_rate in ("0.975", "0.95"))
    assert fine & coarse == set(figures["q3.ladder.shared"].value)


@pytest.mark.parametrize("name", IN_THE_TEXT)
def test_the_figures_in_the_text(name: str) -> None:
    assert ledger.load()[name].value == IN_THE_TEXT[name]


def test_the_lists_of_words() -> None:
    figures = ledger.load()
    assert len(figures["data.class_names"].value) == 11
    assert len(figures["training.augmentation"].value) == 5
    assert len(figures["course.methods"].value) == 5
    assert figures["data.files"].value == ("{label}_{id}.jpg", "{id}.jpg")
    assert figures["data.folders"].value == ("training", "validation", "testing", "evaluation")
    optimizers = [figures[f"{part}.optimizer"].value for part in ("training", "q2.phase1", "q2.phase2")]
    assert optimizers == ["AdamW", "AdamW", "SGD"]


def test_contradictions_are_kept_and_noted() -> None:
    figures, contradictions = ledger.load(), ledger.whole().contradictions
    assert [contradiction.number for contradiction in contradictions] == list(CONTRADICTIONS)
    for contradiction in contradictions:
        for name, value in CONTRADICTIONS[contradiction.number].items():
            assert figures[name].value == value
            assert name in contradiction.ids
            assert contradiction.text in figures[name].note
    assert figures["q2.student.parameters"].note == ""


def test_the_conclusions_stand_in_the_report_s_order() -> None:
    conclusions = ledger.whole().conclusions.values()
    assert [conclusion.question for conclusion in conclusions] == [*"112222", "3", "course", "course"]
    assert all(conclusion.text.endswith(".") for conclusion in conclusions)
    assert all(missing.why.endswith(".") for missing in ledger.whole().missing)


# ---- Rows that are wrong ---------------------------------------------------------------------------------

ROW = (
    '{ id = "a.b", value = 1, unit = "bytes", obtained = "given", printed = "1", what = "a figure", '
    "contradictions = [1] }"
)

CONCLUSION = '[[conclusion]]\nid = "c"\nquestion = "1"\ntext = "It is so."\n'
MISSING = '[[missing]]\nwhat = "A picture"\nwhy = "It is a picture."\n'
ENTRIES = CONCLUSION + MISSING


def toml(*rows: str, number: str = "1", section: str = 'question = "1"') -> str:
    head = f'[[contradiction]]\nnumber = {number}\ntext = "It says two things."\n'
    return f"{head}{ENTRIES}[[section]]\n{section}\nfigures = [{', '.join(rows)}]\n"


def test_a_good_ledger_is_read() -> None:
    whole = ledger.parse(toml(ROW))
    assert whole.figures == {
        "a.b": ledger.Figure("a.b", "1", "a figure", 1, "bytes", "given", "1", (1,), "It says two things.")
    }
    assert whole.contradictions == [ledger.Contradiction(1, "It says two things.", ("a.b",))]
    assert whole.conclusions == {"c": ledger.Conclusion("c", "1", "It is so.")}
    assert whole.missing == [ledger.Missing("A picture", "It is a picture.")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (toml(ROW, ROW), "has a.b twice"),
        (toml(ROW.replace("unit", "units")), "a.b: misses unit"),
        (toml(ROW.replace('printed = "1", ', "")), "a.b: misses printed"),
        (toml(ROW.replace("id =", "name =")), "question 1, row 1: misses id"),
        (toml(ROW, '"a row"'), "question 1, row 2: must be a table"),
        (toml(ROW.replace(" }", ", colour = 3 }")), "a.b: does not know colour"),
        (toml(ROW.replace("value = 1", "value = true")), "a.b: value cannot be True"),
        (toml(ROW.replace("value = 1", "value = {}")), "a.b: value cannot be {}"),
        (toml(ROW.replace("value = 1", "value = []")), "a.b: value must hold numbers or words"),
        (toml(ROW.replace("value = 1", "value = [1, [2]]")), "a.b: value must hold numbers or words"),
        (toml(ROW.replace('"bytes"', "3")), "a.b: unit cannot be 3"),
        (
            toml(ROW.replace('"given"', '"guessing"')),
            "a.b: obtained is 'guessing', not one of counting, training, given",
        ),
        (toml(ROW.replace("[1]", "[1, 2]")), "a.b: there is no contradiction 2"),
        (toml(ROW.replace("[1]", "1")), "a.b: contradictions cannot be 1"),
        (toml(ROW.replace("[1]", "[]")), "contradiction 1: no figure names it"),
        (toml(ROW, number="2"), "contradiction 1: its number is 2"),
        (toml(ROW, number="'one'"), "contradiction 1: number cannot be 'one'"),
        (toml(ROW, section="question = 1"), "section 1: question cannot be 1"),
        (toml(ROW, section=""), "section 1: misses question"),
        (toml(ROW) + "[more]", "its top level: does not know more"),
        ("", "its top level: misses conclusion, contradiction, missing, section"),
        (toml(ROW) + CONCLUSION, "a conclusion twice"),
        (toml(ROW) + CONCLUSION.replace("text", "says"), "conclusion 2: misses text"),
        (toml(ROW) + MISSING.replace('"A picture"', "1"), "missing 2: what cannot be 1"),
        (toml(ROW)[:-3], "is not TOML"),
    ],
)
def test_a_wrong_ledger_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(HW7Error) as caught:
        ledger.parse(text)
    assert message in str(caught.value)
