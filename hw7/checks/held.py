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
_cat, _zeros, _flatten = torch.cat, torch.zeros, Tensor.flatten
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


def hold(given: Tensor) -> Callable[[], Tensor]:
    """What lies, after a call, in the memory that this tensor has now; of no entries where it has moved."""
    held, place = _detach(given), _place(given)

    def after() -> Tensor:
        with _plainly():
            return _clone(held) if _place(given) == _place(held) == place else _zeros(0, dtype=place[-1])  # type: ignore[call-overload]

    return after


def hold_network(network: nn.Module) -> Callable[[], Tensor]:
    """The floating entries [n] of a network after a call, as `to_vector` gives them; of no entries where a part of it
    is another object than before, or computes in another way. Modes are left open."""
    before = [(module, _picture(module)) for _, module in modules_of(network)]
    entries = [hold(entry) for entry in entries_of(network).values() if entry.is_floating_point()]

    def after() -> Tensor:
        untouched = all(_same(picture, _picture(module)) for module, picture in before)
        return _cat([_flatten(entry()) for entry in entries]) if untouched else _zeros(0)

    return after


def _picture(module: nn.Module) -> dict[str, object]:
    """Its class and all that it holds: parameters, buffers, modules and hooks one by one."""
    own = {name: dict(each) if isinstance(each, dict) else each for name, each in _attributes(module).items()}
    return own | {"class": type(module), "training": None}


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
