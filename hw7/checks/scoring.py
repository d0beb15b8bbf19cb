"""Scoring: from answers to the parts of a task. Public tests and grader differ only in how they ask.

An `AnswerSheet` takes a submission's answers to the cases of one task and judges them; `score` makes parts of it. Each
part is all or nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from hw7.checks.bounds import bound_of
from hw7.checks.cases import Answer, Call, Case, Outcome, PartScore, Task, Verdict
from hw7.checks.compare import foretells
from hw7.checks.diagnosis.diagnose import diagnose
from hw7.checks.diagnosis.frame import Asked
from hw7.checks.handed_in import HandedIn
from hw7.checks.judges import judge, leads_on, second_call
from hw7.checks.mistakes import load_mistakes
from hw7.checks.outcomes import EARLIER, NOT_IMPORTED, not_imported
from hw7.checks.worth import part_key, worth

KEPT = 8 * 2**20  # bytes of all answers of a task that are kept until they are explained: small questions


class SecondHalf(NamedTuple):
    """A case whose first answer feeds a second call."""

    case: Case
    first: Answer

    @property
    def call(self) -> Call:
        """Made anew each time, so that nobody holds it but who sends it."""
        call = second_call(self.case, self.first)
        assert call is not None
        return replace(call, most=bound_of([self.case]))

    @property
    def size(self) -> int:
        """Bytes that are held for it."""
        return _size(self.first)


def _size(answer: Answer) -> int:
    """Its bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in answer.tensors)


class AnswerSheet:
    """The answers of one submission to the cases of one task. Of several to one question, the first wrong one stays.

    not_imported: why the module could not be imported, in words, where it could not: what is said of all its crashes.
    """

    not_imported = ""

    def __init__(self, cases: Iterable[Case]) -> None:
        self.cases = tuple(cases)
        self.outcomes: dict[str, Outcome] = {}  # by the case's name
        self._answers: dict[str, tuple[Answer, ...]] = {}  # those that were judged, for a diagnosis: KEPT bytes in all
        self._kept = 0
        self._named: dict[str, Outcome] | None = None
        self._looking: dict[int, list[Case]] = {}  # cases that look at one and the same call, which is asked once
        for case in self.cases:
            self._looking.setdefault(id(case.call), []).append(case)

    @property
    def calls(self) -> list[Call]:
        """What is to be asked, in the order of the cases."""
        return [cases[0].call for cases in self._looking.values()]

    def add(self, calls: Iterable[Call], answers: Iterable[Answer]) -> list[SecondHalf]:
        """Judges the answers to these calls. What a second call may change is returned: to be asked of a process that
        has nothing but these calls, and for `add_second`."""
        halves: list[SecondHalf] = []
        for call, answer in zip(calls, answers, strict=True):
            for case in self._looking[id(call)]:
                outcome = judge(case, answer)
                if leads_on(case, outcome) and second_call(case, answer) is not None:
                    halves.append(SecondHalf(case, answer))
                else:
                    self._note(case, outcome, answer)
        return halves

    def add_second(self, halves: Sequence[SecondHalf], answers: Iterable[Answer]) -> None:
        for half, answer in zip(halves, answers, strict=True):
            self._note(half.case, judge(half.case, half.first, answer), half.first, answer)

    def bounded(self, calls: Iterable[Call]) -> list[Call]:
        """The same calls, with how much may come back."""
        return [replace(call, most=bound_of(self._looking[id(call)])) for call in calls]

    def is_wrong(self, case: Case) -> bool:
        """Whether it is so already: no further answer changes that."""
        return case.name in self.outcomes and self.outcomes[case.name].verdict is not Verdict.RIGHT

    def fill(self, answer: Answer) -> None:
        """The same answer to every question that has none yet."""
        self._named = None
        for case in self.cases:
            self.outcomes.setdefault(case.name, judge(case, answer))

    def _note(self, case: Case, outcome: Outcome, *answers: Answer) -> None:
        known = self.outcomes.get(case.name)
        if known is None or (known.verdict is Verdict.RIGHT and outcome.verdict is not Verdict.RIGHT):
            self.outcomes[case.name], self._named = outcome, None
            self._kept += sum(map(_size, answers))
            if self._kept <= KEPT:
                self._answers[case.name] = answers

    @property
    def verdicts(self) -> set[Verdict]:
        return {outcome.verdict for outcome in self.outcomes.values()}

    def always_shows(self, mistake: str) -> bool:
        """Whether no answer of one kind, of layers or with an axis of channels for example, disagrees with it."""
        shown: dict[tuple[object, ...], bool] = {}
        for case in self.cases:
            if any(_mistake(id_) == mistake and foretells(case, id_) for id_ in case.mistakes):
                kind, outcome = (case.judge, case.call.inputs.get("channel_axis")), self.outcomes[case.name]
                agrees = mistake in _mistakes((*outcome.fits, *outcome.equals))
                shown[kind] = shown.get(kind, True) and agrees
        return any(shown.values())

    def named(self) -> dict[str, Outcome]:
        """What became of each case, with the mistake of each wrong one named, or what its answers tell of it."""
        if self._named is None:
            if self.not_imported and not self.verdicts & {Verdict.RIGHT, Verdict.WRONG}:
                self._named = {name: not_imported(each, self.not_imported) for name, each in self.outcomes.items()}
            else:
                self._named = self._diagnosed(self._known())
        return self._named

    def _known(self) -> dict[str, Outcome]:
        """What became of each case, with the mistake of each wrong one named, if all answers agree with it.

        An answer disagrees with a mistake that would have given other values there: a function that rounds by chance
        may round up wherever one looks first. Only questions of one kind are held against each other: a loss may be
        right whose gradient is not. And layers count by themselves as well: a second mistake hides the first one in
        what a network computes, not in its parameters.
        """
        named = dict(self.outcomes)
        answered = [case for case in self.cases if named[case.name].verdict in (Verdict.RIGHT, Verdict.WRONG)]

        def agreed(id_: str, among: Iterable[Case]) -> bool:
            return all(id_ in self.outcomes[case.name].fits or not foretells(case, id_) for case in among)

        def kind_of(case: Case) -> tuple[object, ...]:
            return case.call.program, case.call.inputs.get("builder")

        for case in answered:
            fits = self.outcomes[case.name].fits
            same = [other for other in answered if kind_of(other) == kind_of(case)]
            layers = [other for other in same if other.judge == case.judge == "layers"]
            found = [id_ for id_ in fits if agreed(id_, same)]
            found = found or [id_ for id_ in fits if layers and agreed(id_, layers)]
            if found:
                mistake = load_mistakes()[_mistake(found[0])]
                message = f"{mistake.title} {mistake.hint}"
                named[case.name] = replace(named[case.name], mistake=mistake.id, message=message)
        return named

    def _diagnosed(self, named: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """The same, with what is found out of wrong answers that show no known mistake."""
        wrong = {name for name, each in named.items() if each.verdict is not Verdict.RIGHT and not each.mistake}
        if not wrong:
            return dict(named)
        kept = [case for case in self.cases if case.name in self._answers]
        found = diagnose([Asked(case, self._answers[case.name], named[case.name]) for case in kept])
        told = {name: found[name] for name in wrong & found.keys()}
        return {
            **named,
            **{name: replace(named[name], mistake=d.mistake, message=d.message) for name, d in told.items()},
        }


def score(
    task: Task, tasks: Sequence[Task], sheet_of: Callable[[Task], AnswerSheet], handed_in: HandedIn
) -> tuple[PartScore, ...]:
    """All parts of a task, in the rubric's order. tasks: all of the rubric. sheet_of: the answers to the cases of a
    task that has some. handed_in: the network, for the tasks that have none.

    Answers that have, in every entry that is judged, the values that a mistake leads to for which an earlier task of
    the chapter lost points, as where `network_slimming` uses a wrong `channel_importance`, are not charged again.
    What only fits a mistake, because it is missing or not finite where any value would do, is.
    """
    if not task.has_cases:
        return handed_in.parts(task, tasks)
    parts = _parts(task, tasks, sheet_of)
    if not any(part.excuses for part in parts):
        return parts
    earlier = _earlier(task, tasks)
    found = {each.id: _parts(each, tasks, sheet_of) for each in earlier}
    return worth([*earlier, task], found | {task.id: parts})[task.id]


def _earlier(task: Task, tasks: Sequence[Task]) -> list[Task]:
    """The tasks of its chapter that stand before it and have cases."""
    before = tasks[: tasks.index(task)]
    return [each for each in before if each.chapter == task.chapter and each.has_cases]


def _parts(task: Task, tasks: Sequence[Task], sheet_of: Callable[[Task], AnswerSheet]) -> tuple[PartScore, ...]:
    """Those of a task that has cases, none excused yet."""
    sheet = sheet_of(task)
    named = sheet.named()
    parts = []
    for part, out_of in task.points.items():
        mine = [(c.name, named[c.name]) for c in sheet.cases if c.part == part and _judged(c, tasks, sheet_of)]
        wrong = [pair for pair in mine if pair[1].verdict is not Verdict.RIGHT]
        excuses: tuple[tuple[str, ...], ...] = ()
        if not mine:
            name, outcome = "", Outcome(Verdict.MISSING, "Nothing was asked.")
        elif not wrong:
            name, outcome = "", Outcome(Verdict.RIGHT)
        else:
            if all(outcome.equals for _, outcome in wrong):
                excuses = tuple(dict.fromkeys(_excuses(outcome, task, tasks, sheet_of) for _, outcome in wrong))
            name, outcome = telling(wrong)
            name = "" if outcome.mistake == NOT_IMPORTED else name  # whatever is asked
        outcome = replace(outcome, fits=(), equals=(), clear=False)
        parts.append(PartScore(part, out_of, outcome, name, excuses if all(excuses) else ()))
    return tuple(parts)


def telling(wrong: Sequence[tuple[str, Outcome]]) -> tuple[str, Outcome]:
    """The one of these (case, outcome) that says most: the first that shows a mistake, else that is clear by itself."""
    named = (pair for pair in wrong if pair[1].mistake)
    clear = (pair for pair in wrong if pair[1].clear)
    return next(named, None) or next(clear, None) or wrong[0]


def _judged(case: Case, tasks: Sequence[Task], sheet_of: Callable[[Task], AnswerSheet]) -> bool:
    """Whether the earlier cases that this one needs, if any, are right."""
    needed = [need.partition(": ") for need in case.needs.split("; ") if need]
    outcomes = [sheet_of(task).outcomes.get(name) for check, _, name in needed for task in tasks if task.check == check]
    return all(outcome is None or outcome.verdict is Verdict.RIGHT for outcome in outcomes)


def _excuses(
    outcome: Outcome, task: Task, tasks: Sequence[Task], sheet_of: Callable[[Task], AnswerSheet]
) -> tuple[str, ...]:
    """The parts of earlier tasks of the chapter from whose mistake this outcome follows, if they lose points for it.

    All answers of the earlier task must show the mistake: what is wrong at one size only would otherwise excuse a
    later function that does the same at every size.
    """
    follows = _mistakes(outcome.equals)
    found: list[str] = []
    for earlier in _earlier(task, tasks):
        sheet = sheet_of(earlier)
        named = sheet.named()
        for part in earlier.points:
            mine = [named[case.name] for case in sheet.cases if case.part == part]
            shown = set().union(*({each.mistake} | _mistakes(each.equals) for each in mine))
            wrong = any(each.verdict is not Verdict.RIGHT for each in mine)
            if wrong and (EARLIER in follows or any(map(sheet.always_shows, follows & shown))):
                found.append(part_key(earlier.id, part))
    return tuple(found)


def _mistake(id_: str) -> str:
    """After a # stands which form of the mistake it is."""
    return id_.partition("#")[0]


def _mistakes(ids: Iterable[str]) -> set[str]:
    return set(map(_mistake, ids))
