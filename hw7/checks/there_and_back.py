"""The judges of chapter 4: what comes back when the answer to a first call is fed into a second one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from hw7.checks.cases import Answer, Case, Outcome, Status, Value, Verdict
from hw7.checks.compare import kind, words
from hw7.checks.outcomes import outcome_of_status, with_sign, wrong_answer
from hw7.checks.renamed import listed, renamed
from hw7.checks.savable import Obstacle, in_words
from hw7.checks.tensors import bytes_of, pack_names
from hw7.support.words import counted

MOST = 2 / 3  # of the numbers of a quantized tensor: enough to know how it was rounded, if all tensors say the same
MAX_NAMES, MAX_TEXT = 10_000, 10**7  # of a compressed state_dict: entries, bytes of all their names
STATISTICS = "running_mean", "running_var"  # ends of their names
HEADER = 600  # bytes of a file's header that are allowed for one entry of a state_dict


def feed(case: Case, answer: Answer) -> dict[str, Value] | None:
    """The inputs that the second call gets of the first answer; None where it cannot be fed."""
    if case.judge == "quantized":
        fed: dict[str, Value] = dict(zip(("q", "scale", "zero_point"), answer.tensors, strict=False))
        return fed if len(answer.tensors) == 4 else None
    if (parts := parts_of(case, answer)) is None:
        return None
    loaded = safetensors.torch.load(parts[0])  # what a file keeps, in the order of a file
    return {"names": pack_names(list(loaded)), **{str(i): t for i, t in enumerate(loaded.values())}}


def names_in(tensor: Tensor, again: bool = False) -> list[str] | None:
    """again: whether a name may be there more than once."""
    if tensor.dtype != torch.uint8 or tensor.numel() > MAX_TEXT:
        return None
    try:
        names = json.loads(tensor.contiguous().numpy().tobytes())
    except (ValueError, RecursionError):
        return None
    fine = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if fine and len(names) <= MAX_NAMES and (again or len(names) == len(set(names))) else None


def parts_of(case: Case, answer: Answer) -> tuple[bytes, Sequence[Tensor]] | None:
    """The file of a compressed state_dict, and the state_dict's tensors after; None where it can be no file."""
    if len(answer.tensors) < 2 or _obstacle(answer)[0] is not Obstacle.NONE:
        return None
    _, packed, *tensors = answer.tensors
    names = names_in(packed)
    left = len(tensors) - len(state_dict_of(case))
    if names is None or len(names) != left or "__metadata__" in names:
        return None
    try:
        return safetensors.torch.save(dict(zip(names, tensors, strict=False))), tensors[left:]
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError, UnicodeError):
        return None


def _obstacle(answer: Answer) -> tuple[Obstacle, list[int]]:
    """What the other side says of why no file can be made of this; OTHER where that is nothing that it may say."""
    said = answer.tensors[0] if answer.tensors else torch.zeros(0)
    if said.dtype != torch.int64 or said.shape != (3,) or not 0 <= int(said[0]) < len(Obstacle):
        return Obstacle.OTHER, []
    return Obstacle(int(said[0])), said[1:].tolist()


def _no_file(case: Case, answer: Answer) -> Outcome:
    """Which entry cannot be saved, and why: by its place, and by the case's own name for it where it has that."""
    obstacle, places = _obstacle(answer)
    names = (names_in(answer.tensors[1], again=True) if len(answer.tensors) > 1 else None) or []
    own = state_dict_of(case)
    called = [f" ({names[place]})" if names[place:] and names[place] in own else " of the dict" for place in places]
    entries = [f"entry {place + 1}{name}" for place, name in zip(places, called, strict=True)]
    if obstacle is Obstacle.NONE or len(entries) != 2:
        obstacle = Obstacle.OTHER
    return wrong_answer(*in_words(obstacle, entries), note=answer.note, clear=obstacle is not Obstacle.OTHER)


def state_dict_of(case: Case) -> dict[str, Tensor]:
    return {name: value for name, value in case.expected.items() if isinstance(value, Tensor) and ":" not in name}


def _back(case: Case, wanted: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> Outcome:
    """Each entry within `allowed:NAME`, a tensor of one bound an entry. 0 means bit for bit."""
    wrong: dict[str, tuple[str, str, str]] = {}
    for name in _judged(case, wanted):
        right, bounds = wanted[name], case.expected[f"allowed:{name}"]
        assert isinstance(bounds, Tensor)
        off = (right.double() - got[name].double()).abs().nan_to_num(torch.inf)
        if not bounds.any():  # float64 cannot hold all of int64, and -0.0 equals 0.0
            off += (right != got[name]) | (right.signbit() != got[name].signbit())
        if bool((off <= bounds).all()):
            continue
        if got[name].is_floating_point() and not got[name].isfinite().all():
            wrong[name] = ("What comes back is not finite.", words(right), words(got[name]))
        else:
            place = int((off - bounds).argmax())
            bound = float(bounds.expand(right.shape).flatten()[place])
            wanted_entry, got_entry = (float(tensor.double().flatten()[place]) for tensor in (right, got[name]))
            bound_words = f"within {bound:.3g}" if bound else "bit for bit"
            what = "What comes back is too far from what was given."
            called = f"{name}: " if case.judge == "compressed" else ""
            wrong[name] = (what, f"{called}{wanted_entry:.8g} {bound_words}", f"{got_entry:.8g}")
    if not wrong:
        return Outcome(Verdict.RIGHT)
    fits, equals = (
        [id_ for id_, change in case.mistakes.items() if all(gives(change, name, got[name]) for name in wrong)]
        for gives in (_gives, _is)
    )
    return wrong_answer(*next(iter(wrong.values())), fits, equals=equals)


def _gives(change: Mapping[str, Value], name: str, got: Tensor) -> bool:
    """Whether a mistake gives this entry: most of its numbers, up to float32's rounding. Where a number lies on the
    edge of two levels, as the largest of a tensor does, two ways to compute the same give either."""
    if change.get("not_finite") and got.is_floating_point() and not got.isfinite().all():
        return True
    if _is(change, name, got):
        return True
    value = change.get(name)
    if isinstance(value, Tensor) and value.shape == got.shape and value.isfinite().all() and got.isfinite().all():
        close = 1e-5 * max(1e-6, value.abs().max().item())
        same = (value.double() - got.double()).abs() <= close
        return same.double().mean().item() >= MOST
    return name in change and value is None


def _is(change: Mapping[str, Value], name: str, got: Tensor) -> bool:
    """Whether every number of an entry is the one that a mistake gives, up to float32's rounding; NaN where it gives
    NaN, and there only. On the edge of two levels either is: `edge:NAME`."""
    value = change.get(name)
    if not isinstance(value, Tensor) or value.shape != got.shape:
        return False
    close = 1e-5 * max(1e-6, value.double().abs().nan_to_num().max().item())
    either = (value, change.get(f"edge:{name}", value))
    off = torch.stack([(each.double() - got.double()).abs() for each in either]).amin(dim=0)  # type: ignore[union-attr]
    return bool(((off <= close) | (value.isnan() & got.isnan())).all())


def quantized(case: Case, answer: Answer, back: Answer | None = None) -> Outcome:
    """Task 4.1. expected: `weight`; `levels` 2^bits; `channels` C, or 0 for one scale; `allowed:weight` [as weight]."""
    weight, levels, channels = case.expected["weight"], int(case.expected["levels"]), int(case.expected["channels"])  # type: ignore[arg-type]
    assert isinstance(weight, Tensor)
    if len(answer.tensors) != 4:
        message = "quantize must return (q, scale, zero_point): tensors, all three of them, not numbers or arrays."
        others = {1: "a scale that is no tensor", 2: "a zero_point that is no tensor"}
        got = others.get(len(answer.tensors), "something else")
        return wrong_answer(message, "3 tensors", got, note=answer.note, clear=True)
    q, scale, zero_point, after = answer.tensors
    if q.dtype != torch.uint8 or q.shape != weight.shape:
        what = "dtype" if q.shape == weight.shape else "shape"
        return wrong_answer(f"q has another {what}.", f"uint8 {list(weight.shape)}", kind(q), clear=True)
    shape = [channels] if channels else []
    for name, tensor in (("scale", scale), ("zero_point", zero_point)):
        if list(tensor.shape) != shape:
            signs = [] if tensor.ndim else with_sign(case, "shapes")
            return wrong_answer(_other_shape(case, name), str(shape), str(list(tensor.shape)), signs, clear=True)
        if tensor.is_floating_point() and not tensor.isfinite().all():
            return wrong_answer(
                f"{name} is not finite.", "finite numbers", words(tensor), with_sign(case, "not_finite")
            )
    if int(q.max()) >= levels:
        signs = with_sign(case, "range") if int(q.max()) >= 2 * levels else []
        return wrong_answer("q is out of range.", f"0..{levels - 1}", f"up to {int(q.max())}", signs)
    if not torch.equal(after, weight):
        message = "quantize changed the weight that it was given."
        return wrong_answer(message, words(weight), words(after), ["changes-its-input"], clear=True)
    if back is None:
        return Outcome(Verdict.RIGHT)  # so far
    if back.status is not Status.RETURNED:
        return _not_back(back)
    if len(back.tensors) != 4 or back.tensors[0].dtype != torch.float32 or back.tensors[0].shape != weight.shape:
        got = kind(back.tensors[0]) if len(back.tensors) == 4 else "no tensor: an array, a list, or nothing"
        signs = with_sign(case, "dtype") if "float" in got else []
        message = "dequantize must give back float32 of the weight's shape."
        return wrong_answer(message, kind(weight.float()), got, signs, back.note, clear=True)
    for name, tensor, left in zip(("q", "scale", "zero_point"), answer.tensors, back.tensors[1:], strict=False):
        if tensor.dtype != left.dtype or not torch.equal(tensor, left):
            message = f"dequantize changed the {name} that it was given."
            return wrong_answer(message, words(tensor), words(left), ["changes-its-input"], clear=True)
    return _back(case, {"weight": weight}, {"weight": back.tensors[0]})


def _other_shape(case: Case, name: str) -> str:
    axis = case.call.inputs.get("channel_axis")
    if axis is None:
        return f"{name} has another shape: without channel_axis it is one number, of no dimensions."
    return (
        f"{name} has another shape: channel_axis is {axis}, and it holds one number for each channel along that axis."
    )


def _not_back(back: Answer) -> Outcome:
    """The second half failed, in a process that has nothing but what the first half returned."""
    outcome = outcome_of_status(back)
    if outcome.verdict is Verdict.CRASH:
        message = "The way back failed in a new process that has nothing but what came out of the first half."
        outcome = replace(outcome, message=message)
    return outcome


def compressed(case: Case, answer: Answer, back: Answer | None = None) -> Outcome:
    """Task 4.2. expected: the state_dict by name; `allowed:NAME` of the entries whose values are judged; `in_order`
    where names, order, shapes and dtypes are; `most_bytes` of the file, where that is asked."""
    wanted = state_dict_of(case)
    parts = parts_of(case, answer)
    if parts is None:
        return _no_file(case, answer)
    file, after = parts
    for tensor, left in zip(wanted.values(), after, strict=True):
        if tensor.dtype != left.dtype or not torch.equal(tensor, left):
            message = "compress changed the state_dict that it was given."
            return wrong_answer(message, words(tensor), words(left), ["changes-its-input"], clear=True)
    if back is None:
        return Outcome(Verdict.RIGHT)  # so far
    if back.status is not Status.RETURNED:
        return _not_back(back)
    held = case.then is not None and case.then.inputs.get("held")
    loaded = [bytes_of(tensor) for _, tensor in sorted(safetensors.torch.load(file).items())] if held else []
    names = names_in(back.tensors[0]) if back.tensors else None
    if names is None or len(names) != len(back.tensors) - 1 - len(loaded):
        message = "decompress must return a dict of tensors."
        return wrong_answer(message, counted(len(wanted), "tensor"), "something else", note=back.note, clear=True)
    got = dict(zip(names, back.tensors[1:], strict=False))
    if not all(map(torch.equal, loaded, back.tensors[1 + len(names) :])):
        message = "decompress changed the tensors that it was given."
        return wrong_answer(message, "the tensors of the file", "others", ["changes-its-input"], clear=True)
    outcome = _same_entries(case, wanted, got)
    if outcome.verdict is Verdict.RIGHT:
        outcome = _back(case, wanted, {name: got[name].reshape(wanted[name].shape) for name in _judged(case, wanted)})
    most = case.expected.get("most_bytes")
    if outcome.verdict is Verdict.RIGHT and isinstance(most, int) and len(file) > most:
        message = "The file is too large."
        got_words = f"{len(file):,} bytes: {_bytes(wanted, safetensors.torch.load(file))}"
        return wrong_answer(message, f"at most {most:,} bytes", got_words, ["not-compressed"], clear=True)
    return outcome


def _same_entries(case: Case, wanted: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> Outcome:
    """Names, order, shapes and dtypes of all entries, where `in_order` asks for them. Otherwise an entry whose value is
    judged must be there, with as many numbers and, if it is judged bit for bit, with its dtype."""
    everything = bool(case.expected.get("in_order"))
    entries = list(wanted) if everything else list(_judged(case, wanted))
    if list(got) != entries if everything else not set(entries) <= set(got):
        mistake = "order-lost" if sorted(got) == sorted(wanted) else "names-lost"
        how = renamed(list(wanted), list(got))
        message = f"The names or their order did not come back: they come back {how}."
        want = listed(list(wanted))
        return wrong_answer(message, want, f"the names {how}", [mistake], clear=True)
    for name in entries:
        right, back = wanted[name], got[name]
        same_shape = right.shape == back.shape if everything else right.numel() == back.numel()
        same_dtype = right.dtype == back.dtype or not (everything or _bit_for_bit(case, name))
        if not same_shape or not same_dtype:
            mistake = "dtype-lost" if same_shape else "shape-lost"
            message = f"{name} came back with another {'dtype' if same_shape else 'shape'}."
            pair = [f"{name}: {kind(tensor)}" for tensor in (right, back)]
            return wrong_answer(message, pair[0], pair[1], [mistake], clear=True)
    return Outcome(Verdict.RIGHT)


def _bytes(wanted: Mapping[str, Tensor], file: Mapping[str, Tensor]) -> str:
    """What takes them: the first weight of which the file holds more than a byte a number, or what lies beside."""
    big = {name: t.numel() for name, t in wanted.items() if t.is_floating_point() and t.numel() >= 1024}
    wide = {tensor.numel(): tensor for tensor in file.values() if tensor.element_size() > 1}
    for name, count in big.items():
        if count in wide and not name.endswith(STATISTICS):
            return f"{count:,} numbers of {str(wide[count].dtype).removeprefix('torch.')} for {name}"
    beside = [t for t in file.values() if t.numel() not in big.values()]
    return f"{sum(t.numel() * t.element_size() for t in beside):,} of them beside the levels"


def _judged(case: Case, wanted: Mapping[str, Tensor]) -> list[str]:
    """The entries whose values are judged."""
    return [name for name in wanted if f"allowed:{name}" in case.expected]


def _bit_for_bit(case: Case, name: str) -> bool:
    bounds = case.expected.get(f"allowed:{name}")
    return isinstance(bounds, Tensor) and not bounds.any()
