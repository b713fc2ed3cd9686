"""Monotonic rational-quadratic splines (Durkan, Bekasov, Murray and Papamakarios, 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad, softmax, softplus

MIN_BIN = 1e-3  # width and height of a bin, as a share of the interval
MIN_SLOPE = 1e-3  # slope at a knot


def count_parameters(bins: int) -> int:
    """Parameters of one spline: width and height of each bin, and the slope at each inner knot."""
    return 3 * bins - 1


def rational_quadratic(
    x: Tensor, raw: Tensor, *, bound: float, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    r"""Monotonic rational-quadratic spline on [-B, B], the identity outside.

    Neural spline flows (Durkan et al., 2019). In the bin between the knots :math:`(x_k, y_k)` and
    :math:`(x_{k+1}, y_{k+1})`, with :math:`\xi = (x - x_k) / (x_{k+1} - x_k)`, mean slope s and slopes d at
    the knots (eq. 4),

    .. math:: y = y_k + \frac{(y_{k+1} - y_k) [s \xi^2 + d_k \xi (1 - \xi)]}
                             {s + [d_{k+1} + d_k - 2 s] \xi (1 - \xi)}

    The slope is 1 at both ends, so that it is continuous. Raw zeros give the identity.

    Args:
        x: any shape.
        raw: unbounded parameters, the shape of `x` and then `3 bins - 1`: widths, heights, slopes.
        bound: B.
        inverse: apply the inverse map.

    Returns:
        The result and the logarithm of its slope, both of the shape of `x`.

    Examples:
        >>> import torch
        >>> x, raw = torch.linspace(-2, 2, 5), torch.randn(5, count_parameters(bins=4))
        >>> y, log_slope = rational_quadratic(x, raw, bound=3.0)
        >>> torch.allclose(rational_quadratic(y, raw, bound=3.0, inverse=True)[0], x, atol=1e-4)
        True
    """
    bins = (raw.shape[-1] + 1) // 3
    xs = _knots(raw[..., :bins], bound)
    ys = _knots(raw[..., bins : 2 * bins], bound)
    offset = math.log(math.expm1(1 - MIN_SLOPE))  # softplus(offset) = 1 - MIN_SLOPE
    derivatives = pad(MIN_SLOPE + softplus(raw[..., 2 * bins :] + offset), (1, 1), value=1.0)

    inside = x.clamp(-bound, bound)
    knots = ys if inverse else xs
    index = (inside[..., None] >= knots[..., 1:-1]).sum(-1, keepdim=True)
    x0, x1 = _gather(xs, index), _gather(xs, index + 1)
    y0, y1 = _gather(ys, index), _gather(ys, index + 1)
    d0, d1 = _gather(derivatives, index), _gather(derivatives, index + 1)
    width, height = x1 - x0, y1 - y0
    mean = height / width
    bend = d0 + d1 - 2 * mean

    if inverse:
        rise = inside - y0
        a = height * (mean - d0) + rise * bend
        b = height * d0 - rise * bend
        c = -mean * rise
        root = (b.square() - 4 * a * c).clamp(min=0).sqrt()
        xi = (2 * c / (-b - root)).clamp(0, 1)  # the form without cancellation (appendix A.3)
        result = x0 + width * xi
    else:
        xi = ((inside - x0) / width).clamp(0, 1)
        result = y0 + height * (mean * xi.square() + d0 * xi * (1 - xi)) / (mean + bend * xi * (1 - xi))
    numerator = d1 * xi.square() + 2 * mean * xi * (1 - xi) + d0 * (1 - xi).square()
    log_slope = 2 * mean.log() + numerator.log() - 2 * (mean + bend * xi * (1 - xi)).log()  # eq. 5
    outside = x != inside
    result = torch.where(outside, x, result)
    log_slope = log_slope.masked_fill(outside, 0)
    return result, -log_slope if inverse else log_slope


def _knots(raw: Tensor, bound: float) -> Tensor:
    """Knots from -B to B, `bins + 1` of them; both ends are exact."""
    bins = raw.shape[-1]
    shares = MIN_BIN + (1 - MIN_BIN * bins) * softmax(raw, dim=-1)
    inner = -bound + 2 * bound * shares[..., :-1].cumsum(-1)
    return pad(pad(inner, (1, 0), value=-bound), (0, 1), value=bound)


def _gather(values: Tensor, index: Tensor) -> Tensor:
    """Values of the bin at `index`."""
    return values.gather(-1, index).squeeze(-1)
