"""Adapters that are small networks after a linear map, the first of their kind."""

from torch import Tensor, nn
from torch.nn import functional as F

from lib.adapters.adapter import Adapter, check_width


class Bottleneck(Adapter):
    """y + up(GELU(down(y))) for the output y of a linear map: down to `width` and up again.

    `up` starts at zero: at first nothing changes. It is no matrix, so it cannot be merged,
    and stays as a step of its own. Put it behind the last map of a sublayer.

    Shapes: x (..., in) -> (..., out). Raises ValueError: a width below 1 or above that of
    the map.
    Source: Houlsby et al. (2019), arXiv:1902.00751; `XmodAdapter` of `transformers`.
    """

    def __init__(self, base: nn.Module, width: int = 16):
        check_width("width", width, base)
        super().__init__(base)
        out, like = (
            base.out_features,
            {"dtype": self.dtype, "device": base.weight.device},
        )
        self.down = nn.Linear(out, width, **like)
        self.up = nn.Linear(width, out, **like)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.base(x)  # (..., out)
        small = F.gelu(self.down(y.to(self.dtype)))  # (..., width)
        return (y + self.up(small)).to(y.dtype)
