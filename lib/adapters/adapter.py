"""What all adapters share: they stand around a linear map of a model, found by its name.

What an adapter adds is in `lora`, `bottleneck` and `prompt`; how it is kept in `files`.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from lib.checks import is_whole
from lib.lens.hooks import matching


class Adapter(nn.Module):
    """A linear map `base` that stays as it is, and something small that is trained.

    `base` has in_features, out_features, weight (out, in) and bias, as `nn.Linear` does.
    What is trained is kept in float32 at least, also beside a base in half precision.

    Shapes: x (..., in) -> (..., out).
    """

    def __init__(self, base: nn.Module):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.dtype = torch.promote_types(base.weight.dtype, torch.float32)
        self.train(base.training)

    def own(self) -> Iterator[nn.Parameter]:
        """What is trained: all parameters but those of the base."""
        kept = {id(p) for p in self.base.parameters()}
        return (p for p in self.parameters() if id(p) not in kept)


def attach(
    model: nn.Module, pattern: str, make: Callable[[nn.Module], nn.Module]
) -> list[str]:
    """Put `make(base)` in the place of each linear map that `pattern` names, in place.

    `pattern` is a regular expression that matches a module's whole name, as the text
    `target_modules` of `peft` does: `r".*\\.(q|v)_proj"`. Then only adapters are
    trained: all other parameters have their gradients off.

    Returns:
        the names, in the model's order.
    Raises:
        ValueError: the pattern matches nothing, or something that is no linear map or
            has an adapter already; or `make` refuses. The model is as it was then.
    """
    names = matching(model, pattern)
    for name in names:
        found = model.get_submodule(name)
        if isinstance(found, Adapter):
            raise ValueError(f"pattern: {name} has an adapter already: detach it first")
        if not _is_linear(found):
            raise ValueError(
                f"pattern: {pattern!r} also names {name}, a {type(found).__name__}: "
                "wants linear maps alone"
            )
    kept = [p.requires_grad for p in model.parameters()]
    try:
        made = {name: make(model.get_submodule(name)) for name in names}
    except BaseException:
        for p, on in zip(model.parameters(), kept, strict=True):
            p.requires_grad_(on)
        raise
    for name, module in made.items():
        put(model, name, module)
    freeze(model)
    return names


def detach(model: nn.Module) -> None:
    """Take all adapters off, in place. What was merged stays in the weights.

    Parameters keep their gradients off: `model.requires_grad_()` brings them back.
    """
    for name, one in adapters(model).items():
        put(model, name, one.base)


def adapters(model: nn.Module) -> dict[str, Adapter]:
    """All adapters of a model by the name of the map that they stand around."""
    return {n: m for n, m in model.named_modules() if isinstance(m, Adapter)}


def trained(model: nn.Module) -> list[nn.Parameter]:
    """The parameters with gradients: what an optimiser gets. Raises ValueError for none."""
    if not (found := [p for p in model.parameters() if p.requires_grad]):
        raise ValueError("model: no parameter has its gradient on: attach an adapter")
    return found


def freeze(model: nn.Module) -> None:
    """Gradients on for what adapters add, off for everything else."""
    model.requires_grad_(False)
    for one in adapters(model).values():
        for p in one.own():
            p.requires_grad_(True)


def put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Let `module` be what `model` calls `name`."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def check_width(name: str, value: int, base: nn.Module) -> None:
    """A whole number from 1 to the smaller width of `base`; ValueError otherwise."""
    out, into = base.out_features, base.in_features
    if not is_whole(value) or value > min(out, into):
        raise ValueError(
            f"{name}: got {value!r}, wants a whole number from 1 to {min(out, into)}, "
            f"the smaller width of a map of {into} to {out}"
        )


def _is_linear(module: nn.Module) -> bool:
    """Whether it has what an adapter needs; a map in 4 bits has it, too."""
    weight = getattr(module, "weight", None)
    wanted = ("in_features", "out_features", "bias")
    return isinstance(weight, Tensor) and all(hasattr(module, n) for n in wanted)
