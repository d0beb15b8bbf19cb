"""Task 3.3: what is said of slimmed networks: which channels stay, in which stages and tensors, and what was left."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hw7.checks.diagnosis.frame import Asked, Diagnosis
from hw7.checks.diagnosis.pruning.answers import (
    answer_of,
    blocks,
    entries_named,
    in_questions,
    is_wrong,
    listed,
    only_again,
    stages,
    told,
)
from hw7.checks.diagnosis.pruning.results import (
    AS_NEW,
    PRUNED,
    RIGHT,
    Result,
    Side,
    made_of,
    results,
    sides_of,
    wrong_entries,
)

MOST_SIDES = 6  # of the nine that a stage has
_ASKED = "Asked for are those that `select_channels` picks by the importance of the next stage's batch norm."
_CUT = "All tensors of a stage must keep the same channels, those that stay, with the given model's numbers."


class Said(NamedTuple):
    """A statement, the entries that it explains, and whether it is about channels that all tensors of a stage keep."""

    words: str
    entries: frozenset[str]
    whole: bool = False
    unseen: tuple[Result, ...] = ()  # results of stages that have no such ranking: nothing is known of these


def slimmings(asked: Sequence[Asked]) -> Mapping[str, Diagnosis]:
    """What the networks tell: of questions about their entries, and of those about outputs where it is always so."""
    looks = results([each for each in asked if each.case.call.program == "slim" and each.case.judge == "values"])
    wrong = wrong_entries(looks)
    if not wrong:
        return {}
    again = only_again([look.asked for look in looks], "the model")
    if again:
        return again
    said = _channels(looks, wrong)
    explained = frozenset().union(*(each.entries for each in said))
    said += _others(looks, {entry: seen for entry, seen in wrong.items() if entry not in explained})
    rest = wrong.keys() - frozenset().union(*(each.entries for each in said))
    if not said or len(said) > 2:
        return {}
    more = f"Wrong beside that: {entries_named(rest, looks[0].right)}." if rest else ""
    whole = all(each.whole for each in said)
    message = " ".join(filter(None, [*(each.words for each in said), more, _ASKED if whole else _CUT]))
    unseen = [look for each in said for look in each.unseen]
    about = [look.asked for look in looks if look not in unseen]
    if not unseen and all(any(look in found for found in wrong.values()) for look in looks):
        about += [each for each in asked if each.case.call.program == "slim_outputs" or _shows(each, wrong)]
    return told(about, "slim-channels" if whole else "slim-entries", message)


def _shows(asked: Asked, wrong: Mapping[str, Sequence[Result]]) -> bool:
    """Whether a question about what is shared shows an entry that is always wrong."""
    entry, answer = "blocks.6.pointwise.bias", answer_of(asked)
    if entry not in wrong or answer is None or asked.case.call.program != "slim_alone":
        return False
    right = asked.case.expected[entry]
    return is_wrong(asked) and isinstance(right, Tensor) and not torch.equal(right, answer[entry])


# ---- which channels ----------------------------------------------------------------------------------------------


def _channels(looks: Sequence[Result], wrong: Mapping[str, Sequence[Result]]) -> list[Said]:
    """Of the entries that hold rows and columns of the given model's: of which channels."""
    cut = [side for stage in PRUNED for side in sides_of(stage) if all(look.lists[side] for look in looks)]
    off = [side for side in cut if side.entry in wrong and any(RIGHT not in look.rankings(side) for look in looks)]
    if not off:
        return []
    seen = [look for look in looks if any(RIGHT not in look.rankings(side) for side in off)]
    where = "" if len(seen) == len(looks) else f" (only {in_questions([look.asked for look in seen])})"
    whole = _whole(off, cut)
    tied = _tied(seen, off, where)
    return tied or _ranked(looks, off, cut, "") or _ranked(seen, off, cut, where) or _agreed(seen, off, where) * whole


def _ranked(looks: Sequence[Result], off: Sequence[Side], cut: Sequence[Side], where: str) -> list[Said]:
    """One ranking for all sides that are off, or one for each kind of side, or for each stage."""

    def names(sides: Sequence[Side]) -> frozenset[str]:
        fitting = frozenset.intersection(*(look.rankings(side) for look in looks for side in sides)) - {RIGHT}
        return frozenset(
            name for name in fitting if all(any(look.kept(name, s.stage) for look in looks) for s in sides)
        )

    for key in (_all, _kind, _stage):
        groups: dict[object, list[Side]] = {}
        for side in off:
            groups.setdefault(key(side), []).append(side)
        found = {group: _named(names(sides), sides) for group, sides in groups.items()}
        if all(len(each) == 1 for each in found.values()):
            by_ranking: dict[str, list[Side]] = {}
            for group, (ranking,) in found.items():
                by_ranking.setdefault(ranking, []).extend(groups[group])
            if len(by_ranking) <= 2:
                return [_kept(looks, ranking, sides, cut, where) for ranking, sides in by_ranking.items()]
    return []


def _named(fitting: frozenset[str], sides: Sequence[Side]) -> frozenset[str]:
    """Of one stage alone nobody can say that one batch norm decides about every stage."""
    plain = frozenset(name for name in fitting if not name.endswith("for every stage"))
    return plain if plain and len({side.stage for side in sides}) == 1 else fitting


def _all(side: Side) -> object:
    return ()


def _kind(side: Side) -> object:
    return side.field, side.side


def _stage(side: Side) -> object:
    return side.stage


def _kept(looks: Sequence[Result], ranking: str, sides: Sequence[Side], cut: Sequence[Side], where: str) -> Said:
    entries = frozenset(side.entry for side in sides)
    unseen = tuple(look for look in looks if not all(look.kept(ranking, side.stage) for side in sides))
    if unseen:
        where = f" (seen {in_questions([look.asked for look in looks if look not in unseen])})"
    if _whole(sides, cut):
        words = f"In {stages(side.stage for side in sides)}, the channels that stay are {ranking}{where}."
        return Said(words, entries, True, unseen)
    return Said(f"For {_names(sides)}, the channels that are kept are {ranking}{where}.", entries, unseen=unseen)


def _whole(sides: Sequence[Side], cut: Sequence[Side]) -> bool:
    """Whether these are all sides of their stages that are cut from the given model's, and most of them are."""
    of_stages = [set(sides_of(stage)).intersection(cut) for stage in {side.stage for side in sides}]
    return all(each <= set(sides) and len(each) >= MOST_SIDES for each in of_stages)


def _names(sides: Sequence[Side]) -> str:
    """ "the columns of `pointwise.weight` of blocks 3 to 6"."""
    kinds: dict[tuple[str, str], list[int]] = {}
    for side in sides:
        kinds.setdefault((side.field, side.side), []).append(side.block)
    parts = []
    for (field, axis), places in kinds.items():
        of = f"the {axis} of " if field == "pointwise.weight" else ""
        parts.append(f"{of}`{field}` of {blocks(places)}")
    return listed(parts)


def _tied(looks: Sequence[Result], off: Sequence[Side], where: str) -> list[Said]:
    """Where channels stay that are as important as the right ones, or nearly so, and nothing else is wrong."""
    apart = 0.0
    for look in looks:
        for stage in {side.stage for side in off}:
            kept, right = _one_list(look, stage), look.kept(RIGHT, stage)
            importance = look.asked.case.evidence["the importance"][str(stage)]
            if kept is None or not isinstance(importance, Tensor):
                return []
            ours, theirs = (importance.double()[sorted(each)].sort().values for each in (kept, right))
            apart = max(apart, ((theirs - ours).abs() / theirs.abs()).max().item())
    if apart > 1e-6:
        return []
    equal = "equally important" if apart == 0 else f"almost equally important (by {apart:.1g} of it)"
    words = (
        f"Only among channels that are {equal} do the wrong ones stay{' (ties)' * (apart == 0)}; all tensors agree on "
        f"them{where}."
    )
    return [Said(words, frozenset(side.entry for side in off), True)]


def _one_list(look: Result, stage: int) -> tuple[int, ...] | None:
    """The channels that all tensors of a stage keep, if they do."""
    lists = [look.lists[side] for side in sides_of(stage)]
    if not all(lists):
        return None
    common = frozenset.intersection(*filter(None, lists))
    return next(iter(common)) if len(common) == 1 else None


def _agreed(looks: Sequence[Result], off: Sequence[Side], where: str) -> list[Said]:
    """No ranking that is known; but all tensors of a stage keep the same channels."""
    numbers = sorted({side.stage for side in off})
    if any(_one_list(look, stage) is None for look in looks for stage in numbers):
        return []
    look = looks[0]
    others = [stage for stage in numbers if _one_list(look, stage) != look.kept(RIGHT, stage)]
    if not others:
        return []
    stage = others[0]
    kept, right = (", ".join(map(str, each or ())) for each in (_one_list(look, stage), look.kept(RIGHT, stage)))
    words = (
        f"All tensors of a stage keep the same channels, but in {stages(numbers)} others than asked for{where}. In the "
        f"question '{look.asked.case.name}' stage {stage} keeps {kept}, where {right} belong."
    )
    return [Said(words, frozenset(side.entry for side in off), True)]


# ---- what else ---------------------------------------------------------------------------------------------------


def _others(looks: Sequence[Result], wrong: Mapping[str, Sequence[Result]]) -> list[Said]:
    """Of the entries that hold anything else: what, and in which of them."""
    found: dict[tuple[str, str], list[str]] = {}
    for entry, seen in wrong.items():
        words = {id(look): made_of(look, entry) for look in looks if look.got[entry].numel() > 1}
        found_there = [words[id(look)] for look in seen if id(look) in words]
        fitting = (
            [each for each in found_there[0] if all(each in others for others in found_there)] if found_there else []
        )
        if fitting:
            always = all(fitting[0] in each for each in words.values())
            where = "" if always else f" (only {in_questions([look.asked for look in seen])})"
            found.setdefault((fitting[0], where), []).append(entry)
    new = [(words, where) for words, where in found if words.endswith(AS_NEW)]
    if len(new) > 1 and len({where for _, where in new}) == 1:  # said once
        names = [name for each in new for name in found.pop(each)]
        found["what a new network has", new[0][1]] = names
    return [
        Said(f"In {entries_named(names, looks[0].right)} the result has {words}{where}.", frozenset(names))
        for (words, where), names in found.items()
    ]
