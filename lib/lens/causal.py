"""What a state does: patched place by place, along one path, steered, taken out.

Built on `hooks`; the functions that give an edit go into its `replacing`. What can be
*read* from a state lives in `probes`.
"""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lib.lens import hooks
from lib.lens.hooks import Edit, Saved

Measure = Callable[[Tensor], Tensor]  # what the model gives for (B, T) -> (B,)
Run = Callable[[Tensor], Tensor]  # ids (B, T) -> what the measure reads


def patch_map(
    model: nn.Module, run: Run, ids: Tensor, saved: Saved, measure: Measure
) -> Tensor:
    """The measure after one output at one place comes from another run: (L, T).

    Args:
        run: passes ids (B, T) through `model`.
        ids: (1, T), the run into which is patched.
        saved: what `hooks.reading` found in the other run: name -> (1, T, D), in the
            order of the map's rows; the two texts have one token for one token.
        measure: a number for each item of the batch.

    Each row of the map is one pass of T copies, copy t patched at place t.

    Raises ValueError for ids and outputs that do not fit.
    Source: Meng et al. (2022), arXiv:2202.05262; Heimersheim and Nanda (2024),
    arXiv:2404.15255.
    """
    if ids.ndim != 2 or len(ids) != 1:
        raise ValueError(f"ids: got shape {tuple(ids.shape)}, wants (1, T)")
    T, rows = ids.shape[1], []
    copies, here = ids.expand(T, -1), torch.eye(T, dtype=torch.bool)[..., None]
    for name, value in saved.items():
        if value.ndim != 3 or value.shape[:2] != ids.shape:
            raise ValueError(
                f"saved: {name} is {tuple(value.shape)}, wants (1, {T}, D): as many "
                "tokens as the run that is patched"
            )
        edit = lambda x, value=value: torch.where(here, value.to(x), x)  # noqa: E731
        with hooks.replacing(model, {re.escape(name): edit}):
            rows.append(measure(run(copies)))
    return torch.stack(rows)  # (L, T)


def along(vector: Tensor, strength: float = 1.0, places: Tensor | None = None) -> Edit:
    """Steering: an edit that adds `strength` · `vector` (D,), at all places or some.

    `places`: bool, (T,) or (B, T). Source: Turner et al. (2023), arXiv:2308.10248.
    """
    _is_vector("vector", vector)

    def edit(x: Tensor) -> Tensor:  # (B, T, D)
        return _at(places, x + strength * vector.to(x), x)

    return edit


def without(
    directions: Tensor, centre: Tensor | None = None, places: Tensor | None = None
) -> Edit:
    """Ablation: an edit that sets what a state has along some directions to `centre`'s.

    `directions` (D,) or (n, D), which need be neither unit nor orthogonal; `centre` (D,)
    is 0 unless given, and the mean of the states where their mean is to stay.

    Raises ValueError for directions that are zero or depend on each other.
    """
    rows = directions[None] if directions.ndim == 1 else directions  # (n, D)
    basis, triangle = torch.linalg.qr(rows.mT.double())  # (D, n)
    least = triangle.diagonal().abs().min()
    if not least > 1e-6 * rows.double().norm(dim=1).max():
        raise ValueError("directions: one is zero, or a mixture of the others")

    def edit(x: Tensor) -> Tensor:
        axes = basis.to(x)
        off = x if centre is None else x - centre.to(x)
        return _at(places, x - off @ axes @ axes.mT, x)

    return edit


def direct(
    saved: Saved, others: Saved, names: Sequence[str], places: Tensor | None = None
) -> Edit:
    """Path patching, from parts of the model straight to its readout.

    An edit of the *last* layer's output: what the named parts wrote in the other run
    comes in the place of what they wrote in this one (`saved`), while everything
    between them and the readout stays as it was in this run.

    Raises ValueError for a name that one of the two runs does not have.
    Source: Wang et al. (2022), arXiv:2211.00593, section 3.1.
    """
    for name in names:
        if name not in saved or name not in others:
            raise ValueError(f"names: {name} was not read in both runs")
    change = sum(others[name] - saved[name] for name in names)
    return lambda x: _at(places, x + change.to(x), x)


def _at(places: Tensor | None, new: Tensor, x: Tensor) -> Tensor:
    return new if places is None else torch.where(places[..., None], new, x)


def _is_vector(name: str, value: Tensor) -> None:
    if value.ndim != 1:
        raise ValueError(f"{name}: got shape {tuple(value.shape)}, wants (D,)")
