"""The side that runs a submission: each program calls one of its functions on inputs and answers with tensors.

A program is a generator: it yields tensors, in an order that its judge knows. It holds no answer and draws no
conclusion; whoever reads what it yields believes nothing but the values. Numbers that are too many to be sent (the
weights of a whole network) are made on both sides by `noise`.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from types import ModuleType
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.overrides import TorchFunctionMode

from hw7.checks.cases import Answer, Call, Status
from hw7.models import StudentNet

ROLES = (
    "conv weight", "conv bias", "batch-norm scale", "batch-norm shift", "linear weight", "linear bias",
    "other parameter",
)  # fmt: skip
NOTE_LENGTH = 2000


class Unfit(Exception):
    """A function returned something of another kind than the contract says."""


class LazySolution:
    """The submission that is importable as `solution`; each of its modules is imported when it is first asked for."""

    def __getattr__(self, name: str) -> ModuleType:
        return importlib.import_module(f"solution.{name}" if name else "solution")


# ---- numbers that both sides make ---------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def noise(seed: int, *key: object, shape: tuple[int, ...]) -> Tensor:
    """Numbers in [-1, 1) that look random, float32: whole-number arithmetic, so the same on every machine and version.

    Kept, and not to be changed.
    """
    start = int.from_bytes(hashlib.sha256(repr((seed, *key, shape)).encode()).digest()[:4], "big") >> 1
    x = torch.arange(math.prod(shape)) + start
    for factor in (1103515245, 1597334677, 747796405):  # odd, and so small that no product leaves int64
        x = (x ^ (x >> 15)) * factor & 0x7FFFFFFF
    x = x ^ (x >> 16)
    return (x.double() / 2**30 - 1).reshape(shape).float()


def images(seed: int, shape: Sequence[int]) -> Tensor:
    """Images [N, C, H, W] in [0, 1)."""
    return (noise(seed, "images", shape=tuple(shape)) + 1) / 2


def tensor_for(seed: int, role: str, shape: Sequence[int]) -> Tensor:
    """The values of every tensor of this role and shape. Activations stay alive, pass 6 now and then, and no scale,
    shift, mean or variance is a default."""
    x = noise(seed, role, shape=tuple(shape))
    match role:
        case "conv weight" | "linear weight":
            return x * math.sqrt(3 / math.prod(shape[1:]))
        case "batch-norm scale":
            return 2.5 * x + torch.sign(x)  # both signs, up to 3.5
        case "batch-norm shift":
            return x + 1
        case "running mean":
            return x / 2
        case "running var":
            return (x + 1.02) / 2  # down to 0.01, where another eps shows
    return x


def layers_of(network: nn.Module) -> list[tuple[str, Tensor]]:
    """(role, tensor) of all parameters of a network, each once."""
    names: dict[type[nn.Module], tuple[str, str]] = {
        nn.Conv2d: ("conv weight", "conv bias"),
        nn.BatchNorm2d: ("batch-norm scale", "batch-norm shift"),
        nn.Linear: ("linear weight", "linear bias"),
    }
    found: dict[int, tuple[str, Tensor]] = {}
    for module in network.modules():
        roles = next((roles for kind, roles in names.items() if isinstance(module, kind)), ("", ""))
        for name, parameter in module.named_parameters(recurse=False):
            role = dict(zip(("weight", "bias"), roles, strict=True)).get(name) or "other parameter"
            found.setdefault(id(parameter), (role, parameter))
    return list(found.values())


@torch.no_grad()
def set_by_role(network: nn.Module, seed: int) -> None:
    """Gives all tensors of one role and shape the same values, wherever the network keeps them."""
    for role, parameter in layers_of(network):
        parameter.copy_(tensor_for(seed, role, parameter.shape))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name, buffer in (("running mean", module.running_mean), ("running var", module.running_var)):
                if buffer is not None:
                    buffer.copy_(tensor_for(seed, name, buffer.shape))


def to_vector(network: nn.Module) -> Tensor:
    """All floating entries of a state_dict, one after the other."""
    return torch.cat(
        [tensor.detach().flatten() for tensor in network.state_dict().values() if tensor.is_floating_point()]
    )


class _Unfilled(TorchFunctionMode):
    """Random numbers are not drawn: a network that is filled anew needs none, and they took most of the time."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


_DRAWING = {Tensor.uniform_, Tensor.normal_, nn.init.kaiming_uniform_}


def student_net(widths: Sequence[int], vector: Tensor) -> StudentNet:
    """The StudentNet of these widths whose floating entries are this vector: the inverse of `to_vector`."""
    # Stem: 3x3x3 weights, a bias and four of batch norm; block: 3x3 weights, a bias and four more, then the pointwise.
    body = 32 * widths[0] + sum(14 * inputs + inputs * outputs + outputs for inputs, outputs in pairwise(widths))
    with _Unfilled():
        network = StudentNet(widths, (len(vector) - body) // (widths[-1] + 1)).to(vector.dtype)
    position = 0
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(vector[position : position + tensor.numel()].reshape(tensor.shape))
                position += tensor.numel()
    return network


def _is_free(name: str) -> bool:
    return not name.endswith(("num_batches_tracked", "stage_widths"))


@torch.no_grad()
def useless(network: StudentNet, step: int) -> StudentNet:
    """What `finetune` returns: a network of the same widths that is of no use to anybody."""
    result = StudentNet(network.widths, network.fc.out_features).to(network.fc.weight.dtype)
    for parameter in result.parameters():
        parameter.fill_(step / 8)
    return result


@torch.no_grad()
def perturb(network: nn.Module, step: int) -> None:
    """What stands for fine-tuning: moves every parameter in place, so far that channels change their rank."""
    for number, parameter in enumerate(network.parameters()):
        parameter.add_(noise(step, "perturb", number, shape=tuple(parameter.shape)).to(parameter.dtype))


# ---- reading what a submission has and returns --------------------------------------------------------------


class _Absent(Exception):
    pass


def find(solution: Any, module: str, function: str) -> Callable[..., Any]:
    """A function of the submission. Raises _Absent where there is none."""
    try:
        found = getattr(getattr(solution, module), function, None)
    except ModuleNotFoundError as error:
        if error.name in ("solution", f"solution.{module}"):
            raise _Absent(str(error)) from error
        raise
    if not callable(found):
        raise _Absent(f"solution.{module}.{function}")
    return found


def plain(value: Any) -> Tensor:
    """A copy of a value as a plain tensor. Raises Unfit where it is none."""
    try:
        tensor = torch.as_tensor(value).detach()
        return tensor.as_subclass(Tensor).cpu().clone(memory_format=torch.contiguous_format)
    except (TypeError, ValueError, RuntimeError) as error:
        raise Unfit(f"{type(value).__name__} where a tensor belongs") from error


def a(kind: type, value: Any) -> Any:
    """The value, if it is of this kind. Raises Unfit where it is not."""
    if not isinstance(value, kind):
        raise Unfit(f"{type(value).__name__} where {kind.__name__} belongs")
    return value


def pack_names(names: Sequence[str]) -> Tensor:
    """Names as a tensor: the bytes of a JSON list, uint8."""
    return torch.frombuffer(bytearray(json.dumps(list(names)).encode()), dtype=torch.uint8).clone()


def named(names: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """{names[0]: tensors["0"], …}."""
    return {name: tensors[str(i)] for i, name in enumerate(json.loads(bytes(names.tolist())))}


# ---- programs ------------------------------------------------------------------------------------------------


def network(
    solution: Any,
    builder: str,
    arguments: tuple[int, ...],
    seed: int = 0,
    eval_shape: tuple[int, ...] | None = None,
    train_shape: tuple[int, ...] | None = None,
) -> Iterator[Any]:
    """Tasks 1.1 to 1.3: the roles [n] of a network's parameters and the n parameters; then, its tensors set by role
    and shape, the outputs in eval mode, in train mode, and in eval mode again."""
    with _Unfilled():
        built = a(nn.Module, find(solution, "models", builder)(*arguments))
    if eval_shape and any(isinstance(parameter, UninitializedParameter) for parameter in built.parameters()):
        built.eval()(images(seed, eval_shape))  # lazy layers find their sizes
    layers = layers_of(built)
    yield torch.tensor([ROLES.index(role) for role, _ in layers], dtype=torch.int64)
    yield from (parameter for _, parameter in layers)
    if eval_shape and train_shape:
        set_by_role(built, seed)
        with torch.no_grad():
            yield built.eval()(images(seed, eval_shape))
            yield built.train()(images(seed, train_shape))
            yield built.eval()(images(seed, eval_shape))


def _options(temperature: float | None, alpha: float | None) -> tuple[float, ...]:
    return () if temperature is None or alpha is None else (temperature, alpha)


def kd_value(
    solution: Any, student: Tensor, teacher: Tensor, labels: Tensor, temperature: Any = None, alpha: Any = None
) -> Iterator[Any]:
    """Task 2.1: the loss []."""
    yield find(solution, "losses", "kd_loss")(student, teacher, labels, *_options(temperature, alpha))


def kd_gradient(
    solution: Any, student: Tensor, teacher: Tensor, labels: Tensor, temperature: Any = None, alpha: Any = None
) -> Iterator[Any]:
    """Task 2.1: the gradient [N, C] of the loss to the student's logits, [0] where there is none."""
    student.requires_grad_()
    loss = a(Tensor, find(solution, "losses", "kd_loss")(student, teacher, labels, *_options(temperature, alpha)))
    if loss.numel() != 1:
        raise Unfit("a tensor of several losses")
    if loss.requires_grad:
        loss.backward()
    yield torch.zeros(0) if student.grad is None else student.grad


def kd_shift(
    solution: Any, student: Tensor, teacher: Tensor, labels: Tensor, shift: Tensor, temperature: float, alpha: float
) -> Iterator[Any]:
    """Task 2.1: the loss, the loss with all logits of a sample shifted, and the loss of other logits."""
    loss = find(solution, "losses", "kd_loss")
    yield loss(student, teacher, labels, temperature, alpha)
    yield loss(student + shift, teacher - 2 * shift, labels, temperature, alpha)
    yield loss(student.flip(1), teacher, labels, temperature, alpha)


def kd_teacher(
    solution: Any, student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, alpha: float
) -> Iterator[Any]:
    """Task 2.1: the gradients [N, C] to the student's and to the teacher's logits, and the three arguments after."""
    student.requires_grad_()
    teacher.requires_grad_()
    loss = a(Tensor, find(solution, "losses", "kd_loss")(student, teacher, labels, temperature, alpha))
    if loss.numel() != 1:
        raise Unfit("a tensor of several losses")
    if loss.requires_grad:
        loss.backward()
    for logits in (student, teacher):
        yield torch.zeros_like(logits) if logits.grad is None else logits.grad
    yield from (student, teacher, labels)


class _Holder(nn.Module):
    """A student that holds its teacher."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher

    def forward(self, x: Tensor) -> Any:
        return self.student(x)


def distillation_step(
    solution: Any,
    student_widths: tuple[int, ...],
    student: Tensor,
    teacher_widths: tuple[int, ...],
    teacher: Tensor,
    images: Tensor,
    labels: Tensor,
    rate: float,
    inside: bool,
    training: bool,
    temperature: Any = None,
    alpha: Any = None,
) -> Iterator[Any]:
    """Task 2.2: the loss, whether it hangs on a graph, the student after, how often its batch norm counted, the teacher
    after, whether the teacher ran for gradients, and the images after.

    Each of the student's parameters has a gradient left over from another step.
    """
    pupil, master = student_net(student_widths, student), student_net(teacher_widths, teacher)
    optimizer = torch.optim.SGD(pupil.parameters(), lr=rate)
    for parameter in pupil.parameters():
        parameter.grad = torch.ones_like(parameter)
    given = _Holder(pupil, master) if inside else pupil
    given.train(not training)
    master.train(training)
    graphs: list[bool] = []
    master.register_forward_hook(lambda module, inputs, output: graphs.append(output.requires_grad))
    step = find(solution, "losses", "distillation_step")
    loss = step(given, master, images, labels, optimizer, *_options(temperature, alpha))
    yield loss
    yield torch.tensor(isinstance(loss, Tensor) and loss.requires_grad)
    yield to_vector(pupil)
    yield pupil.stem.bn.num_batches_tracked
    yield to_vector(master)
    gradients = [parameter.grad for parameter in master.parameters() if parameter.grad is not None]
    yield torch.tensor(any(graphs) or any(bool(gradient.any()) for gradient in gradients))
    yield images


def channel_importance(solution: Any, scale: Tensor) -> Iterator[Any]:
    """Task 3.1: the importance [C], whether it hangs on a graph, and the batch norm's scale after."""
    bn = nn.BatchNorm2d(len(scale))
    with torch.no_grad():
        bn.weight.copy_(scale)
        bn.bias.copy_(scale.flip(0) + 3)
    importance = find(solution, "pruning", "channel_importance")(bn)
    yield importance
    yield torch.tensor(isinstance(importance, Tensor) and importance.requires_grad)
    yield bn.weight


def select_channels(solution: Any, importance: Tensor, keep: int) -> Iterator[Any]:
    """Task 3.2: the channels [keep], and the importance after."""
    yield find(solution, "pruning", "select_channels")(importance, keep)
    yield importance


def _slimmed(solution: Any, model: StudentNet, to: tuple[int, ...]) -> StudentNet:
    return a(StudentNet, find(solution, "pruning", "network_slimming")(model, to))


def slim(solution: Any, widths: tuple[int, ...], model: Tensor, to: tuple[int, ...]) -> Iterator[Any]:
    """Task 3.3: the widths [8] that the result says it has, those that are saved with it, and its floating entries."""
    result = _slimmed(solution, student_net(widths, model), to)
    yield result.widths
    state = result.state_dict()
    yield state["stage_widths"]
    yield from (tensor for name, tensor in state.items() if _is_free(name))


def slim_outputs(
    solution: Any, widths: tuple[int, ...], model: Tensor, to: tuple[int, ...], images: Tensor
) -> Iterator[Any]:
    """Task 3.3: the parameters of the result, counted, and its outputs in eval mode."""
    result = _slimmed(solution, student_net(widths, model), to)
    yield torch.tensor(sum(parameter.numel() for parameter in result.parameters()))
    with torch.no_grad():
        yield result.eval()(images)


def slim_alone(solution: Any, widths: tuple[int, ...], model: Tensor, to: tuple[int, ...]) -> Iterator[Any]:
    """Task 3.3: the result's last pointwise bias and whether all its parameters are trainable; the model after
    slimming, and the model after all of the result was set to 0."""
    given = student_net(widths, model)
    result = _slimmed(solution, given, to)
    yield result.blocks[6].pointwise.bias
    yield torch.tensor(all(parameter.requires_grad for parameter in result.parameters()))
    yield to_vector(given)
    with torch.no_grad():
        for tensor in result.state_dict().values():
            tensor.zero_()
    yield to_vector(given)


def width_schedule(solution: Any, widths: tuple[int, ...], keep_rate: float, steps: int) -> Iterator[Any]:
    """Task 3.4: the widths [steps, stages]."""
    schedule = find(solution, "pruning", "width_schedule")(widths, keep_rate, steps)
    yield [list(row) for row in a(Sequence, schedule)]


def iterative_prune(
    solution: Any, widths: tuple[int, ...], model: Tensor, keep_rate: float, steps: int
) -> Iterator[Any]:
    """Task 3.5: how often `finetune` was called, the widths [steps, 8] and parameters [steps] of the networks, each
    network, and the model after. `finetune` moves its network in place and returns another one that is of no use."""
    calls = 0

    def finetune(net: StudentNet) -> StudentNet:
        nonlocal calls
        calls += 1
        perturb(net, calls)
        return useless(net, calls)

    given = student_net(widths, model)
    networks = list(a(Sequence, find(solution, "pruning", "iterative_prune")(given, keep_rate, steps, finetune)))
    yield torch.tensor(calls)
    yield [a(StudentNet, net).widths for net in networks]
    yield [sum(parameter.numel() for parameter in net.parameters()) for net in networks]
    yield from (to_vector(net) for net in networks)
    yield to_vector(given)


def quantize(solution: Any, weight: Tensor, bits: int | None = None, channel_axis: int | None = None) -> Iterator[Any]:
    """Task 4.1: q, scale, zero_point, and the weight after."""
    options = () if bits is None else (bits, channel_axis)
    made = a(Sequence, find(solution, "quantization", "quantize")(weight, *options))
    if len(made) != 3:
        raise Unfit(f"{len(made)} values where (q, scale, zero_point) belong")
    yield from (a(Tensor, value) for value in made)
    yield weight


def dequantize(
    solution: Any, q: Tensor, scale: Tensor, zero_point: Tensor, channel_axis: int | None = None
) -> Iterator[Any]:
    """Task 4.1: the weight, back."""
    yield find(solution, "quantization", "dequantize")(q, scale, zero_point, channel_axis)


def compress(solution: Any, names: Tensor, channels_last: bool = False, **tensors: Tensor) -> Iterator[Any]:
    """Task 4.2: whether safetensors could save the result, its names and tensors, and the state_dict after."""
    state_dict = named(names, tensors)
    if channels_last:
        for name, tensor in state_dict.items():
            if tensor.ndim == 4:
                state_dict[name] = tensor.to(memory_format=torch.channels_last)
    given = list(state_dict)
    made = a(Mapping, find(solution, "quantization", "compress")(state_dict))
    values = [a(Tensor, value) for value in made.values()]
    places = [value.untyped_storage().data_ptr() for value in values if value.numel()]
    yield torch.tensor(len(set(places)) == len(places) and all(value.is_contiguous() for value in values))
    yield pack_names([a(str, name) for name in made])
    yield from values
    yield from (state_dict.get(name, torch.zeros(0)) for name in given)


def decompress(solution: Any, names: Tensor, **tensors: Tensor) -> Iterator[Any]:
    """Task 4.2: the names of the state_dict, in order, and its tensors."""
    state_dict = a(Mapping, find(solution, "quantization", "decompress")(named(names, tensors)))
    yield pack_names([a(str, name) for name in state_dict])
    yield from (a(Tensor, value) for value in state_dict.values())


def import_module(solution: Any, module: str) -> Iterator[Any]:
    """Imports solution.MODULE, or the package itself for "", and answers nothing."""
    getattr(solution, module)
    yield from ()


_handed_in: list[nn.Module] = []  # of this process: images come batch by batch


def final_model(solution: Any, weights: Tensor) -> Iterator[Any]:
    """Task 5.2: makes the network that was handed in, from the bytes of weights.safetensors; answers nothing."""
    tensors = safetensors.torch.load(bytes(weights.numpy()))
    built = a(nn.Module, find(solution, "models", "final_model")())
    built.load_state_dict(find(solution, "quantization", "decompress")(tensors))
    _handed_in[:] = [built.eval()]
    yield from ()


def final_logits(solution: Any, images: Tensor) -> Iterator[Any]:
    """Task 5.2: the logits [N, 11] of that network."""
    with torch.no_grad():
        yield _handed_in[0](images)


PROGRAMS: dict[str, Callable[..., Iterator[Any]]] = {
    program.__name__: program
    for program in (
        network, kd_value, kd_gradient, kd_shift, kd_teacher, distillation_step, channel_importance, select_channels,
        slim, slim_outputs, slim_alone, width_schedule, iterative_prune, quantize, dequantize, compress, decompress,
        import_module, final_model, final_logits,
    )
}  # fmt: skip


def run_call(solution: Any, call: Call) -> Answer:
    """Runs one call; whatever the submission raises becomes a Status. The inputs are copied first."""
    inputs = {name: value.clone() if isinstance(value, Tensor) else value for name, value in call.inputs.items()}
    tensors: list[Tensor] = []
    note = ""
    try:
        for value in PROGRAMS[call.program](solution, **inputs):
            tensors.append(plain(value))
        status = Status.RETURNED
    except Unfit as error:
        status, note = Status.RETURNED, _note(error)
    except (Exception, SystemExit) as error:
        status, note = _status(error), _note(error)
    return Answer(status, tuple(tensors), note)


def _status(error: BaseException) -> Status:
    if isinstance(error, _Absent):
        return Status.ABSENT
    if isinstance(error, NotImplementedError):
        return Status.NOT_IMPLEMENTED
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        return Status.VALUE_ERROR
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate memory" in _text(error)):
        return Status.NO_MEMORY
    return Status.RAISED


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # the submission's own exception, with a __str__ of its own
        return "(no text)"


def _note(error: BaseException) -> str:
    trace = traceback.extract_tb(error.__traceback__)
    place = f" at {trace[-1].filename}, line {trace[-1].lineno}" if trace else ""
    return f"{type(error).__name__}{place}: {_text(error)}"[:NOTE_LENGTH]
