"""The checks themselves: the reference is right, the stubs and empty answers are not, and mistakes are called by name.

What wrong and right submissions of all kinds get is in test_wrong_answers and test_right_answers.
"""

import copy
import inspect
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from submissions import with_code, write
from torch import Tensor, nn

from autograder.rubric import load_rubric
from autograder.tasks import final
from autograder.tasks.losses.oracle import kd_loss, with_gradient
from autograder.tasks.table import PARTS, cases
from hw7.checks.calls.run import run_call
from hw7.checks.cases import Answer, Call, Case, Outcome, Status, Verdict
from hw7.checks.compare import sentence
from hw7.checks.judges import judge, second_call
from hw7.checks.mistakes.__main__ import as_page, load_mistakes
from hw7.checks.public import Checks
from hw7.checks.scoring import AnswerSheet
from hw7.checks.storage import load_cases, save_cases
from hw7.checks.tensors import named, noise, pack_names, student_net, to_vector
from hw7.models import StudentNet
from hw7.solution import MODULES, PROJECT, load_solution
from hw7.support.words import counted

REFERENCE = load_solution(PROJECT / "reference_solutions" / "hw7")
# The functions of each module.
FUNCTIONS = {
    name: [each for each, _ in inspect.getmembers(getattr(REFERENCE, name), inspect.isfunction)] for name in MODULES
}
CHECKS = [check for check in PARTS if check not in final.CHECKS]


@cache
def questions(check: str, seed: bytes = b"public") -> tuple[Case, ...]:
    return tuple(cases(check, check, {}, seed))


def outcomes(solution: Any, asked: Sequence[Case]) -> list[Outcome]:
    """What is made of each case, with every call made once and every second half made of nothing but the first."""
    sheet = AnswerSheet(asked)
    halves = sheet.add(sheet.calls, (run_call(solution, call) for call in sheet.calls))
    sheet.add_second(halves, (run_call(solution, half.call) for half in halves))
    return list(map(sheet.named().get, (case.name for case in asked)))  # type: ignore[arg-type]


def everywhere(function: Callable[..., Any]) -> SimpleNamespace:
    """A submission all of whose functions are this one."""
    return SimpleNamespace(
        **{module: SimpleNamespace(**dict.fromkeys(names, function)) for module, names in FUNCTIONS.items()}
    )


@pytest.mark.rounding
@pytest.mark.parametrize("seed", [b"public", b"a hidden one"])
@pytest.mark.parametrize("check", CHECKS)
def test_the_reference_is_right(check: str, seed: bytes) -> None:
    asked = questions(check, seed)
    assert [o for o in outcomes(REFERENCE, asked) if o != Outcome(Verdict.RIGHT)] == []
    assert {case.part for case in asked} == set(PARTS[check])
    assert len({case.name for case in asked}) == len(asked)


def _stub(*arguments: object) -> None:
    raise NotImplementedError("Task 0")


def _first(first: object, *others: object) -> object:
    return first


def _refuses(*arguments: object) -> None:
    raise ValueError("whatever it is")


@pytest.mark.parametrize(
    "function",
    [
        _stub,
        _refuses,
        lambda *_: None,
        lambda *_: torch.tensor(1.0),
        lambda *_: {},
        lambda *_: [],
        _first,
    ],
    ids=["stub", "refuses everything", "None", "one", "empty dict", "empty list", "first argument"],
)
@pytest.mark.parametrize("check", CHECKS)
def test_no_part_is_right_for_nothing(check: str, function: Callable[..., Any]) -> None:
    asked = questions(check)
    verdicts = [outcome.verdict for outcome in outcomes(everywhere(function), asked)]
    # Statistics are to be stored as they are.
    kept = {"statistics"} if check == "compress" and function is _first else set()
    for part in set(PARTS[check]) - kept:
        assert any(v is not Verdict.RIGHT for case, v in zip(asked, verdicts, strict=True) if case.part == part), part
    if function is _stub:
        assert set(verdicts) == {Verdict.MISSING}


@pytest.mark.parametrize("check", CHECKS)
def test_hostile_tensors_get_an_outcome(check: str) -> None:
    """Whatever comes back, a judge says WRONG and does not raise."""
    hostile = [
        (),
        (torch.empty(0),),
        (torch.tensor(float("nan")),) * 3,
        (torch.zeros(2, 3, dtype=torch.complex64),) * 4,
        (torch.full((4,), 2**62),) * 5,
        (torch.zeros((), dtype=torch.bool), pack_names(["a", "a"])),
        (torch.ones((), dtype=torch.bool), torch.full((50,), 91, dtype=torch.uint8)),
        (torch.ones((), dtype=torch.bool), pack_names(["__metadata__", "x" * 2000])) + (torch.zeros(1),) * 2,
        tuple(torch.zeros(0, 3) for _ in range(60)),
    ]
    for case in questions(check):
        for tensors in hostile:
            answer = Answer(Status.RETURNED, tensors)
            asks_again = "quantized", "compressed", "layers", "outputs"  # there and back; what a wrong network runs
            assert second_call(case, answer) is None or case.judge in asks_again
            assert judge(case, answer).verdict is Verdict.WRONG
        for status in (Status.TIME, Status.DIED, Status.FLOOD, Status.NO_MEMORY, Status.UNANSWERED, Status.RAISED):
            assert judge(case, Answer(status, note="a secret")).verdict is not Verdict.RIGHT
            assert "secret" not in judge(case, Answer(status, note="a secret")).message


@pytest.mark.parametrize("check", CHECKS)
def test_inputs_are_not_changed_by_who_answers(check: str) -> None:
    before = copy.deepcopy([case.call.inputs for case in questions(check)])
    outcomes(REFERENCE, questions(check))
    for old, case in zip(before, questions(check), strict=True):
        for name, value in case.call.inputs.items():
            assert torch.equal(value, old[name]) if isinstance(value, Tensor) else value == old[name]  # type: ignore[arg-type]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and bool(((one == other) | (one != one)).all())
    if isinstance(one, Case | Call):
        return all(same(getattr(one, key), getattr(other, key)) for key in one.__dataclass_fields__)
    if hasattr(one, "items"):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


@pytest.mark.parametrize("check", ["kd_loss", "iterative_prune", "compress"])
def test_cases_are_stored_and_the_same_every_time(check: str, tmp_path: Path) -> None:
    asked = questions(check)
    save_cases(asked, tmp_path / "cases")
    loaded = load_cases(tmp_path / "cases")
    assert all(same(one, other) for one, other in zip(asked, loaded, strict=True))
    assert len({id(case.call) for case in loaded}) == len({id(case.call) for case in asked})
    save_cases(cases(check, check, {}, b"public"), tmp_path / "again")
    assert (tmp_path / "cases").read_bytes() == (tmp_path / "again").read_bytes()
    pairs = zip(asked, cases(check, check, {}, b"another seed"), strict=False)
    alike = [one.name for one, two in pairs if same(one.call.inputs, two.call.inputs)]
    assert set(alike) <= {"no entries"}  # which has nothing to draw


# ---- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [check for check in CHECKS if check not in ("small_resnet18", "students")])
def test_every_mistake_that_is_looked_for_is_in_the_table(check: str) -> None:
    task = load_rubric().of_check(check)
    assert task
    for case in questions(check):
        for id_ in case.mistakes:
            assert task.id in load_mistakes()[id_.partition("#")[0]].tasks, id_


def test_the_table() -> None:
    table = load_mistakes()
    assert len(table) >= 50
    assert all(each.title and each.hint and each.source and each.tasks for each in table.values())
    assert (PROJECT / "docs" / "mistakes.md").read_text(encoding="utf-8") == as_page()


def wrong_losses(loss: Callable[..., Any]) -> list[Outcome]:
    solution = SimpleNamespace(losses=SimpleNamespace(kd_loss=loss))
    return [outcome for outcome in outcomes(solution, questions("kd_loss")) if outcome.verdict is not Verdict.RIGHT]


def test_a_mistake_is_named_and_nothing_that_was_printed_or_raised_is_shown() -> None:
    def mean(s: Tensor, t: Tensor, y: Tensor, temperature: float = 20.0, alpha: float = 0.5) -> Tensor:
        soft = F.kl_div(F.log_softmax(s / temperature, 1), F.softmax(t.detach() / temperature, 1), reduction="mean")
        return alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(s, y)

    with pytest.warns(UserWarning, match="batchmean"):
        found = wrong_losses(mean)
    # Where both networks are as sure as can be, gradients of many mistakes are alike, and none is named.
    named_ones = [outcome for outcome in found if outcome.mistake]
    assert {outcome.mistake for outcome in named_ones} == {"kd-mean-over-classes"}
    assert len(named_ones) > len(found) / 2
    assert all("KL is summed over the classes" in outcome.message for outcome in named_ones)
    assert all(outcome.expected and outcome.got for outcome in found)

    def leaks(s: Tensor, t: Tensor, y: Tensor, temperature: float = 20.0, alpha: float = 0.5) -> Tensor:
        raise RuntimeError(f"labels {y.tolist()}")

    found = wrong_losses(leaks)
    assert {outcome.verdict for outcome in found} == {Verdict.CRASH}
    assert all("labels [" in outcome.note for outcome in found)
    assert not any("labels [" in outcome.message + outcome.expected + outcome.got for outcome in found)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_drawn_by_chance_is_no_known_mistake(seed: int) -> None:
    """Levels that are rounded by chance are all rounded up in some short tensor, or all down: no mistake is named."""
    generator = torch.Generator().manual_seed(seed)
    right = REFERENCE.quantization

    def quantize(weight: Tensor, bits: int = 8, channel_axis: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        q, scale, zero_point = right.quantize(weight, bits, channel_axis)
        moved = q.int() + torch.randint(0, 2, q.shape, generator=generator)
        return moved.clamp(0, 2**bits - 1).to(torch.uint8), scale, zero_point

    solution = SimpleNamespace(quantization=SimpleNamespace(quantize=quantize, dequantize=right.dequantize))
    found = [each for each in outcomes(solution, questions("quantize")) if each.verdict is Verdict.WRONG]
    assert len(found) > 5
    assert {each.mistake for each in found} == {""}


def test_a_mistake_that_one_answer_contradicts_is_not_named() -> None:
    """A function that is signed everywhere is told so; one that is signed for some widths only is not."""

    def sometimes(bn: nn.BatchNorm2d) -> Tensor:
        return bn.weight.detach().clone() if len(bn.weight) % 2 else bn.weight.detach().abs()

    def always(bn: nn.BatchNorm2d) -> Tensor:
        return bn.weight.detach().clone()

    for function, named_one in ((always, "importance-signed"), (sometimes, "")):
        solution = SimpleNamespace(pruning=SimpleNamespace(channel_importance=function))
        asked = [_importance_case(width) for width in (5, 6)]
        wrong = [each for each in outcomes(solution, asked) if each.verdict is Verdict.WRONG]
        assert {each.mistake for each in wrong} == {named_one}


def _importance_case(width: int) -> Case:
    scale = torch.arange(width) - 1.5
    expected = {
        "the importance": scale.abs(), "whether it needs a gradient": torch.tensor(False), "the scale after": scale,
        "the rest after": torch.cat([scale.flip(0) + 3, torch.zeros(width), torch.ones(width)]),
        "whether it is trainable after": torch.tensor(True),
    }  # fmt: skip
    signed = {"importance-signed": {"the importance": scale}}
    call = Call("channel_importance", {"scale": scale})
    return Case("channel_importance", "values", f"{width} channels", call, "values", expected, signed)


# ---- what the two sides share ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("no"), Status.VALUE_ERROR),
        (NotImplementedError("later"), Status.NOT_IMPLEMENTED),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "no"), Status.RAISED),
        (MemoryError(), Status.NO_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), Status.NO_MEMORY),
        (RuntimeError("std::bad_alloc"), Status.NO_MEMORY),  # what torch says where it has not even room for its words
        (SystemExit(0), Status.RAISED),
        (RecursionError(), Status.RAISED),
    ],
)
def test_what_a_submission_raises_becomes_a_status(error: BaseException, status: Status) -> None:
    def raises(*arguments: object) -> None:
        raise error

    call = questions("channel_importance")[0].call
    assert run_call(everywhere(raises), call).status is status
    assert run_call(SimpleNamespace(pruning=SimpleNamespace()), call).status is Status.ABSENT


def test_noise_is_the_same_everywhere_and_looks_random() -> None:
    x = noise(7, "a key", shape=(300, 40))
    assert x[0, :3].tolist() == pytest.approx(
        [-0.3041687, -0.1317158, -0.01004], abs=1e-6
    )  # float32 of exact whole numbers
    assert abs(x.mean().item()) < 0.02
    assert x.std().item() == pytest.approx(3**-0.5, abs=0.01)  # uniform in [-1, 1); 12,000 numbers
    assert torch.corrcoef(x).fill_diagonal_(0).abs().max() < 0.75  # 44,850 pairs of rows of 40: 5 standard errors
    assert not torch.equal(x, noise(8, "a key", shape=(300, 40)))


def test_vectors_and_names_go_there_and_back() -> None:
    widths = (4, 5, 6, 7, 8, 9, 10, 11)
    vector = torch.randn(len(to_vector(student_net(widths, _empty(widths, 3)))), dtype=torch.float64)
    assert torch.equal(to_vector(student_net(widths, vector)), vector)
    assert student_net(widths, vector).fc.out_features == 3
    tensors = {"é": torch.zeros(1), "b.c": torch.ones(2)}
    fed = {str(i): tensor for i, tensor in enumerate(tensors.values())}
    assert named(pack_names(list(tensors)), fed) == tensors


def _empty(widths: Sequence[int], classes: int) -> Tensor:
    return to_vector(StudentNet(widths, classes))


def test_the_oracles_gradient_is_the_one_that_is_known() -> None:
    """d loss / d logits = (alpha T (softmax(s/T) - softmax(t/T)) + (1 - alpha) (softmax(s) - one-hot)) / N."""
    generator = torch.Generator().manual_seed(0)
    s, t = 3 * torch.randn(2, 5, 7, generator=generator, dtype=torch.float64)
    y = torch.randint(7, (5,), generator=generator)
    soft = 3 * (F.softmax(s / 3, 1) - F.softmax(t / 3, 1))
    known = (0.3 * soft + 0.7 * (F.softmax(s, 1) - F.one_hot(y, 7))) / 5
    torch.testing.assert_close(with_gradient(kd_loss, s, t, y, 3.0, 0.3)[1], known)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("the outputs", "The outputs are wrong."),
        ("the loss", "The loss is wrong."),
        ("the images after", "The images after are wrong."),
        ("the student's gradient", "The student's gradient is wrong."),
        (
            "the batches that the student's batch norm counted",
            "The batches that the student's batch norm counted are wrong.",
        ),
        ("the calls of finetune", "The calls of finetune are wrong."),
        ("the network of step 1", "The network of step 1 is wrong."),
        ("whether the loss needs a gradient", "Whether the loss needs a gradient is wrong."),
        ("blocks.6.pointwise.bias", "Blocks.6.pointwise.bias is wrong."),
        ("stage_widths", "Stage_widths is wrong."),
    ],
)
def test_sentences_agree_with_their_subject(name: str, said: str) -> None:
    assert sentence(name, "is", "wrong") == said


def test_ones_are_no_plural() -> None:
    assert [counted(n, "point") for n in (0, 0.5, 1, 2)] == ["0 points", "0.5 points", "1 point", "2 points"]


@pytest.mark.parametrize("check", CHECKS)
def test_no_judge_makes_a_plural_of_one(check: str) -> None:
    """What is answered here is one of its kind: one value that is not finite, one tensor of one parameter."""
    nouns = "bytes|channels|classes|entries|images|networks|parameters|points|tensors|values"
    for given in (torch.tensor(torch.nan), nn.Linear(1, 1, bias=False), {"one": torch.zeros(1)}):
        for outcome in outcomes(everywhere(lambda *_, given=given: given), questions(check)):
            said = f"{outcome.message} {outcome.expected}, {outcome.got}"
            assert not re.search(rf"(?<![\d.,])1 ({nouns})\b", said)


@pytest.mark.parametrize(
    ("function", "task", "raised"),
    [("select_channels(importance, keep)", "3.2", "pruning.py"), ("dequantize(q, *rest)", "4.1", "quantization.py")],
)
def test_a_crash_shows_ones_own_line_on_the_way_back_too(function: str, task: str, raised: str, tmp_path: Path) -> None:
    code = f"def {function}:\n    given = [1, 2, 3]\n    return given[99]\n"
    checks = Checks(write(with_code({raised: code}), None, tmp_path))
    said = checks.explain(task, checks.check(task)[0])
    line = (tmp_path / "solution" / raised).read_text().splitlines().index("    return given[99]") + 1
    assert f"your line: {raised}, line {line}: `return given[99]`" in said
    assert "IndexError: list index out of range" in said
    assert "public tests" not in said
