"""Networks and tensors as they are, whatever they say of themselves: read past all that a submission can override.

A call that hands tensors to a submission holds them from before: `hold` and `hold_network` give functions that tell,
after the call, what became of them. They run in the submission's own process, which can forge whatever it answers; what
they take away is the cheap way, an object that speaks for itself.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

# Bound before a submission is imported, which may put other functions in their place.
_detach, _clone, _storage = Tensor.detach, Tensor.clone, Tensor.untyped_storage
_offset, _stride, _plainly = Tensor.storage_offset, Tensor.stride, torch._C.DisableTorchFunctionSubclass
_cat, _zeros, _flatten, _equal = torch.cat, torch.zeros, Tensor.flatten, torch.equal
_base: Any = torch._C.TensorBase
_needs, _leaf, _node, _grad = (each.__get__ for each in (_base.requires_grad, _base.is_leaf, _base.grad_fn, _base.grad))
_attributes: Callable[[object], dict[str, Any]] = lambda thing: object.__getattribute__(thing, "__dict__")  # noqa: E731


# ---- networks --------------------------------------------------------------------------------------------------


def modules_of(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """(prefix of its entries, module) of a network and all that is in it, in the order of `nn.Module.modules`."""
    yield prefix, network
    for name, module in _attributes(network)["_modules"].items():
        if module is not None:
            yield from modules_of(module, f"{prefix}{name}.")


def entries_of(network: nn.Module) -> dict[str, Tensor]:
    """The entries of its state_dict, in order."""
    entries = {}
    for prefix, module in modules_of(network):
        own = _attributes(module)
        kept = [pair for pair in own["_buffers"].items() if pair[0] not in own["_non_persistent_buffers_set"]]
        entries.update({prefix + name: each for name, each in (*own_parameters(module), *kept) if each is not None})
    return entries


def own_parameters(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """(name, parameter) of this module, without those of the modules in it."""
    return [(name, each) for name, each in _attributes(module)["_parameters"].items() if each is not None]


def parameters_of(network: nn.Module) -> list[nn.Parameter]:
    """Each once, in the order of `nn.Module.parameters`."""
    found = [each for _, module in modules_of(network) for _, each in own_parameters(module)]
    return list({id(each): each for each in found}.values())


# ---- from before a call ------------------------------------------------------------------------------------------


def _place(tensor: Tensor) -> tuple[object, ...]:
    """Where a tensor lies: another `data`, `set_` or `resize_` moves it."""
    with _plainly():
        storage = _storage(tensor)
        where = storage.data_ptr(), storage.nbytes(), _offset(tensor)
        return *where, tuple(tensor.shape), _stride(tensor), tensor.dtype


def _role(tensor: Tensor) -> tuple[object, ...]:
    """What it is to autograd: whether it needs a gradient, and where it stands in a graph."""
    with _plainly():
        return _needs(tensor), _leaf(tensor), _node(tensor)


def hold(given: Tensor, role: bool = True) -> Callable[[], Tensor]:
    """What lies, after a call, in the memory that this tensor has now; of no entries where it has moved.

    role: nor where it is something else to autograd: its flag, its place in a graph, the gradient that it had. One that
    had no gradient may get one.
    """
    held, place, before = _detach(given), _place(given), _role(given)
    with _plainly():
        gradient = _grad(given) if role and _leaf(given) else None
        numbers = _zeros(0) if gradient is None else _clone(_detach(gradient))

    def as_before() -> bool:
        if not _place(given) == _place(held) == place or (role and _role(given) != before):
            return False
        return gradient is None or (_grad(given) is gradient and _equal(gradient, numbers))

    def after() -> Tensor:
        with _plainly():
            return _clone(held) if as_before() else _zeros(0, dtype=place[-1])  # type: ignore[call-overload]

    return after


def hold_numbers(network: nn.Module) -> Callable[[], Tensor]:
    """The floating entries [n] of a network after a call, as `to_vector` gives them, whatever else became of it; fewer
    where one has moved."""
    entries = [hold(entry, role=False) for entry in entries_of(network).values() if entry.is_floating_point()]
    return lambda: _cat([_flatten(entry()) for entry in entries])


def hold_state(network: nn.Module, roles: bool = False) -> Callable[[], bool]:
    """Whether, after a call, all of a network but its floating numbers is as before: its other entries, its parts, and
    how it computes.

    roles: also the mode of each module, and what each parameter is to autograd, as in `hold`.
    """
    before = [(module, _picture(module, roles)) for _, module in modules_of(network)]
    entries = [(hold(entry, roles), entry.is_floating_point()) for entry in entries_of(network).values()]
    counts = [entry() for entry, floating in entries if not floating]

    def after() -> bool:
        counts_after = [entry() for entry, floating in entries if not floating]
        return (
            all(_same(picture, _picture(module, roles)) for module, picture in before)
            and all(entry().numel() for entry, floating in entries if floating)
            and all(map(_equal, counts, counts_after))
        )

    return after


def hold_network(network: nn.Module, roles: bool = False) -> Callable[[], Tensor]:
    """The floating entries [n] of a network after a call; of no entries where these are as before and its state, as
    above, is not."""
    numbers, as_before = hold_numbers(network), hold_state(network, roles)
    before = numbers()

    def after() -> Tensor:
        found = numbers()
        return found if as_before() or not _equal(found, before) else _zeros(0)

    return after


def _picture(module: nn.Module, modes: bool) -> dict[str, object]:
    """Its class and all that it holds: parameters, buffers, modules and hooks one by one; its mode if asked."""
    own = {name: dict(each) if isinstance(each, dict) else each for name, each in _attributes(module).items()}
    return own | {"class": type(module), "training": own.get("training") if modes else None}


def _same(before: Mapping[str, object], after: Mapping[str, object]) -> bool:
    """Whether all is there that was there, and nothing that takes the place of what the class gives."""
    added = after.keys() - before.keys()
    return not any(hasattr(before["class"], name) for name in added) and all(
        name in after and _alike(value, after[name]) for name, value in before.items()
    )


def _alike(before: object, after: object) -> bool:
    if before is after:
        return True
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(_alike(each, after[name]) for name, each in before.items())
    return type(before) is type(after) and isinstance(before, int | float | str | tuple) and before == after
