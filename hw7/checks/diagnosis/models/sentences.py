"""What the edits of a network say, in sentences: the first departure first, alike ones together."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from hw7.checks.diagnosis.models.clauses import article, bare, clause, family_word, name, over_all, plainly, size
from hw7.checks.diagnosis.models.edits import Delta, Edit, Pairs
from hw7.checks.diagnosis.models.layers import Network
from hw7.checks.diagnosis.models.places import Places, runs_of
from hw7.support.words import joined

OPAQUE = ("other", "multiply", "product", "sum", "mean", "maximum", "shift", "scale", "slice", "concatenate")
SHOWN = 10  # changed convolutions that are looked at for pairs


class Fact(NamedTuple):
    """at: the first right layer that it is about. mistake: a row of `hw7.checks.mistakes`."""

    at: int
    mistake: str
    text: str
    size: int = 1  # how many layers it is about


@dataclass
class Words:
    """The sentences about one comparison."""

    right: Network
    other: Network
    pairs: Pairs
    places: Places

    def facts(self) -> list[Fact]:
        """The first departure first."""
        edits = self._plain()
        facts = [*self._exchanged(edits), *self._strides(edits)]  # each takes what it tells away
        for look in (self._set, self._separable, self._moved, self._lacks, self._has):
            facts += look(edits)
        return sorted(facts, key=lambda fact: fact.at)

    def _plain(self) -> list[Edit]:
        """All edits but layers that lack, or are too many, where operations may be that layer, written by hand."""
        edits = self.pairs.edits
        extra = [edit for edit in edits if edit.kind == "has"]
        hidden = {edit.at for edit in extra if self.other.layers[edit.here].family in OPAQUE}
        gaps = {edit.at for edit in edits if edit.kind == "lacks"} & {at + n for at in hidden for n in (0, 1, 2)}
        beside = {at - n for at in gaps for n in (0, 1, 2)}
        return [
            edit
            for edit in edits
            if not (edit.kind == "lacks" and edit.at in gaps) and not (edit.kind == "has" and edit.at in beside)
        ]

    # ---- layers that are set otherwise ---------------------------------------------------------------------

    def _exchanged(self, edits: list[Edit]) -> list[Fact]:
        """Two convolutions that stand in each other's place; these edits are done with."""
        changed = [e for e in edits if e.kind == "set" and self.right.layers[e.at].family == "convolution"]
        for first, second in combinations(changed[:SHOWN], 2):
            wanted = [self.right.layers[edit.at].key for edit in (first, second)]
            got = [self.other.layers[edit.here].key for edit in (second, first)]
            if wanted == got and any(delta[0] == "kernel" for delta in first.deltas):
                edits.remove(first)
                edits.remove(second)
                text = f"{_capital(self.places.of([first.at, second.at]))} stand in each other's place."
                return [Fact(first.at, "layers-in-another-order", text, 2)]
        return []

    def _separable(self, edits: Sequence[Edit]) -> list[Fact]:
        """One convolution for a depthwise and a pointwise one, and the other way round."""
        facts = []
        for kind in ("merged", "split"):
            at = [edit.at for edit in edits if edit.kind == kind]
            if not at:
                continue
            here = self.other.layers[next(edit.here for edit in edits if edit.kind == kind)]
            window, where = size(here.facets["kernel"]), self.places.of(at)
            if kind == "merged":
                place = f": {where}" if self.places.noun else ""
                text = f"One full {window} convolution stands in place of a depthwise and a pointwise one{place}."
            else:
                text = f"A depthwise {window} and a pointwise convolution stand in place of {where}."
            facts.append(Fact(at[0], "layer-set-otherwise", text, len(at)))
        return facts

    def _strides(self, edits: list[Edit]) -> list[Fact]:
        """Strides that stand at other convolutions than they should; these edits are done with."""
        found = {}
        for edit in edits:
            layer = self.right.layers[edit.at]
            for facet, wanted, got in edit.deltas if layer.family == "convolution" else ():
                if facet == "stride":
                    found[edit.at] = wanted, got
        gone = {wanted for wanted, got in found.values() if got == (1.0, 1.0)}
        come = {got for wanted, got in found.values() if wanted == (1.0, 1.0)}
        if len(gone) != 1 or gone != come:
            return []
        (stride,) = gone
        there = [at for at, (wanted, got) in found.items() if got == stride]
        lost = [at for at, (wanted, got) in found.items() if wanted == stride]
        if len(there) != len(lost) or len(there) + len(lost) != len(found):
            return []
        self._drop(edits, "stride")
        text = f"The stride of {plainly(stride)} is on {self.places.of(there)}; it belongs on {self.places.of(lost)}."
        return [Fact(min(found), "layer-set-otherwise", text, len(found))]

    @staticmethod
    def _drop(edits: list[Edit], facet: str) -> None:
        """Takes the deltas of a facet out of all edits."""
        for n, edit in enumerate(edits):
            edits[n] = edit._replace(deltas=tuple(delta for delta in edit.deltas if delta[0] != facet))
        edits[:] = [edit for edit in edits if edit.kind != "set" or edit.deltas]

    def _set(self, edits: Sequence[Edit]) -> list[Fact]:
        groups: dict[tuple[str, tuple[Delta, ...]], list[int]] = {}
        for edit in edits:
            if edit.kind == "set":
                groups.setdefault((self.right.layers[edit.at].family, edit.deltas), []).append(edit.at)
        return [self._set_alike(family, found, at) for (family, found), at in groups.items()]

    def _set_alike(self, family: str, found: tuple[Delta, ...], at: list[int]) -> Fact:
        layer = self.right.layers[at[0]]
        where, which = self.places.of(at), next((delta for delta in found if delta[0] == "which"), None)
        alike = [n for n, each in enumerate(self.right.layers) if each.key == layer.key]
        if family == "activation" and at == alike and len(at) > 2:
            where = "everywhere"
        elif family not in ("convolution", "linear", "global", "add"):
            where = f"after {where}"
        if which is not None:
            got = article(str(which[2]) if family != "global" else over_all(which[2]))
            wanted = str(which[1]) if family != "global" else over_all(which[1])
            place = "" if family == "global" else f", {where}"
            verb = f"{_capital(got)} stands where {article(wanted)} belongs{place}"
            rest = [clause(layer, delta) for delta in found if delta[0] != "which"]
            return Fact(at[0], "layer-set-otherwise", f"{verb}{', with ' + joined(rest) if rest else ''}.", len(at))
        if family in ("batch norm", "pool") and at == alike and len(at) > 2:
            subject = f"every {name(layer)}"
        else:
            subject = where if family in ("convolution", "linear", "add") else f"the {name(layer)} {where}"
        verb = "have" if subject.startswith(("both", "convolutions")) or " and the " in subject else "has"
        rest = [clause(layer, delta) for delta in found[:3]]
        mistake = (
            "weights-not-registered"
            if any(delta[0] == "own" and delta[2] == 0 for delta in found)
            else "layer-set-otherwise"
        )
        return Fact(at[0], mistake, f"{_capital(subject)} {verb} {joined(rest)}.", len(at))

    # ---- layers that stand elsewhere, lack or are too many -----------------------------------------------------

    def _moved(self, edits: Sequence[Edit]) -> list[Fact]:
        """Layers that stand a little before or after their place."""
        groups: dict[tuple[str, str, str], list[int]] = {}
        for edit in edits:
            if edit.kind == "moved":
                layers = [self.right.layers[at] if at >= 0 else None for at in (edit.here, edit.at - 1)]
                names = ["beginning" if layer is None else family_word(layer) for layer in layers]
                groups.setdefault((bare(self.right.layers[edit.at]), names[0], names[1]), []).append(edit.at)
        facts = []
        for (what, here, there), at in groups.items():
            ends = [index - (self.right.layers[index].family in ("global", "add")) for index in at]
            where = f"After {self.places.of(ends)}, the {what} stands directly after the {here}"
            text = f"{where}; it belongs directly after the {there}."
            facts.append(Fact(min(at), "layers-in-another-order", text, 2 * len(at)))
        return facts

    def _lacks(self, edits: Sequence[Edit]) -> list[Fact]:
        runs = runs_of(edit.at for edit in edits if edit.kind == "lacks")
        groups: dict[tuple[str, ...], list[int]] = {}
        facts = []
        for run in runs:
            layers = [self.right.layers[at] for at in run]
            if any(layer.family in ("convolution", "linear") for layer in layers):
                facts.append(self._whole(self._slid(run)))
            else:
                groups.setdefault(tuple(bare(layer) for layer in layers), []).append(run[0])
        for names, at in groups.items():
            what = f"The {joined(names)} {'is' if len(names) == 1 else 'are'} missing"
            where = f" after {self.places.of(at)}"
            layer = self.right.layers[at[0]]
            if layer.family in ("global", "add"):
                where = f" in {self.places.named([layer.place % 1000])}" if layer.family == "add" else ""
            facts.append(Fact(at[0], "layer-missing", f"{what}{where}.", len(at) * len(names)))
        return facts

    def _slid(self, run: list[int]) -> list[int]:
        """The same gap, further to the left, where a block begins: what lacks of alike ones is nobody's question."""
        layers, moved = self.right.layers, run
        for _ in range(len(run)):
            first = layers[moved[0]]
            if first.family == "convolution" and (moved[0] == 0 or layers[moved[0] - 1].place != first.place):
                return moved
            if moved[0] == 0 or layers[moved[0] - 1].key != layers[moved[-1]].key:
                break
            moved = [at - 1 for at in moved]
        return run

    def _whole(self, run: list[int]) -> Fact:
        """Convolutions, or whole blocks, that lack."""
        layers = [self.right.layers[at] for at in run]
        convolutions = [at for at in run if self.right.layers[at].family in ("convolution", "linear")]
        rest = [bare(layer) for layer in layers if layer.family not in ("convolution", "linear")]
        places = {layer.place for layer in layers}
        whole = len(places) == 1 and [n for n, each in enumerate(self.right.layers) if {each.place} == places] == run
        if whole and self.places.noun == "block" and len(convolutions) > 1:
            text = f"A block is missing: block {layers[0].place}, or one like it."
        else:
            beside = f", with its {joined(list(dict.fromkeys(rest)))}" if rest and len(convolutions) == 1 else ""
            verb = "is" if len(convolutions) == 1 else "are"
            text = f"{_capital(self.places.of(convolutions))} {verb} missing{beside}."
        return Fact(run[0], "layer-missing", text, len(run))

    def _has(self, edits: Sequence[Edit]) -> list[Fact]:
        groups: dict[tuple[tuple[str, ...], str], list[tuple[int, int]]] = {}
        for run in self._extra_runs([edit for edit in edits if edit.kind == "has"]):
            names = tuple(self._extra(edit.here) for edit in run)
            before = family_word(self.right.layers[run[0].at]) if run[0].at >= 0 else ""
            groups.setdefault((names, before), []).append((run[0].at, len(run)))
        facts = []
        for (names, after), found in groups.items():
            at = [each for each, _ in found]
            some = joined(names) if len(names) <= 3 else f"{joined(names[:2])} and {len(names) - 2} more layers"
            where = self._where(at, after)
            verb = "stand" if len(names) > 1 else "stands"
            text = f"{_capital(some)} {verb} {where}, where {'nothing' if after == '' else 'none'} belongs."
            facts.append(Fact(max(at[0], 0), "layer-too-many", text, sum(size for _, size in found)))
        return facts

    def _extra(self, here: int) -> str:
        """A layer too many; of a sum, what is added."""
        layer = self.other.layers[here]
        others = [source for source in layer.sources if source != here - 1]
        if layer.family != "add" or not others:
            return name(layer, article=True)
        return f"an addition of {'the input' if others[0] < 0 else 'what an earlier layer put out'}"

    def _where(self, at: list[int], after: str) -> str:
        if at[0] < 0:
            return "before the first layer"
        if self.right.layers[at[0]].family in ("convolution", "linear", "global", "add"):
            return f"directly after {self.places.of(at)}"
        if self.places.anchors[at[0]][0] in ("linear layer", "global average"):
            return f"after {self.places.of(at)}"
        return f"after the {after} of {self.places.of(at)}"

    def _extra_runs(self, extra: Sequence[Edit]) -> list[list[Edit]]:
        """Layers too many that stand side by side; where it could be others, as far to the left as that goes."""
        runs: list[list[Edit]] = []
        for edit in extra:
            if runs and edit.here == runs[-1][-1].here + 1 and edit.at == runs[-1][-1].at:
                runs[-1].append(edit)
            else:
                runs.append([edit])
        return [self._leftmost(run) for run in runs]

    def _leftmost(self, run: list[Edit]) -> list[Edit]:
        layers, best = self.other.layers, run
        convolutions = any(layers[edit.here].family == "convolution" for edit in run)
        while run[0].at >= 0 and self.pairs.matched.get(run[0].at) == run[0].here - 1:
            if layers[run[0].here - 1].key != layers[run[-1].here].key:
                break
            run = [edit._replace(at=edit.at - 1, here=edit.here - 1) for edit in run]
            if not convolutions or layers[run[0].here].family == "convolution":
                best = run
        return best


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
