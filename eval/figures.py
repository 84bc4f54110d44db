"""Charts as data: what is shown, for `eval.svg` to draw."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

Curve = tuple[np.ndarray, np.ndarray]


class Axis(NamedTuple):
    """From `low` to `high`, with marks at `ticks`; `format` makes words of a value."""

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    format: Callable[[float], str]
    log: bool = False


class Series(NamedTuple):
    """A curve. `x`, `y` (m,). `look`: number of its colour, None: a grey reference. `shape`: "line", "steps" (y holds
    up to the next x), "bars" (the same, filled, from 0 up). `band`: (m,) each, below and above.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    look: int | None = 0
    shape: str = "line"
    band: Curve | None = None


class Chart(NamedTuple):
    """What is shown; axes have words, every series that is not a repetition has a name."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]


def checked(curves: Mapping[str, tuple[np.ndarray, ...]], needed: str = "a point") -> dict[str, tuple]:
    """Curves as tuples of arrays.

    Raises:
        ValueError: no curve, an empty one, arrays of different lengths, numbers that are not finite.
    """
    if not curves:
        raise ValueError("nothing to plot: expected one curve or more")
    curves = {name: tuple(np.asarray(array) for array in arrays) for name, arrays in curves.items()}
    for name, arrays in curves.items():
        shapes = ", ".join(str(array.shape) for array in arrays)
        if not arrays[0].size:
            raise ValueError(f"curve {name!r} is empty: expected {needed} or more")
        if any(array.shape[:1] != arrays[0].shape or not array.size for array in arrays):
            raise ValueError(f"curve {name!r} has arrays of shapes {shapes}: expected as many points in each")
        if not all(np.isfinite(array).all() for array in arrays):
            raise ValueError(f"curve {name!r} holds NaN or infinity: expected finite numbers")
    return curves


def percent(value: float) -> str:
    return f"{100 * value:.5g} %"


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def linear(label: str, low: float, high: float, format: Callable[[float], str] = number) -> Axis:
    """An axis with four to eight round marks; one value alone stands in its middle."""
    if not high > low:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    power = 10 ** math.floor(math.log10((high - low) / 4))
    step = next(factor * power for factor in (10, 5, 2.5, 2, 1) if (high - low) / (factor * power) >= 3 or factor == 1)
    ticks = np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1) * step
    return Axis(label, low, high, ticks.clip(low, high).tolist(), format)


def _scientific(value: float) -> str:
    """1e-3, 2.5e-2, 1"""
    return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-").replace("e+00", "")


def rates(label: str, values: Sequence[np.ndarray]) -> Axis:
    """An axis from below the lowest rate to 100 %, at least 5 points high."""
    height = max(1 - min(float(rate.min()) for rate in values), 0.05)
    return linear(label, 1 - 1.08 * height, 1 + 0.03 * height, percent)


def logarithmic(label: str, low: float, high: float, ticks: Sequence[float] | None = None) -> Axis:
    """A logarithmic axis with marks at powers of ten, or where they are given."""
    if ticks is not None:
        return Axis(label, low, high, ticks, lambda value: f"{value:g}", log=True)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if high / low > 50 else (1, 2, 5)
    ticks = [factor * 10.0**power for power in powers for factor in factors]
    return Axis(label, low, high, [tick for tick in ticks if low <= tick <= high], _scientific, log=True)


def histograms(samples: Mapping[str, np.ndarray], bins: int = 40) -> tuple[list[Series], float, float, float]:
    """The share of each sample in common bins; the ends of the bins and the largest share."""
    low, high = min(x.min() for x in samples.values()), max(x.max() for x in samples.values())
    edges = np.linspace(low, high, bins + 1) if high > low else np.linspace(low - 0.5, high + 0.5, bins + 1)
    shares = {name: np.histogram(x, edges)[0] / len(x) for name, x in samples.items()}
    series = [Series(name, edges, np.append(y, y[-1]), row, "bars") for row, (name, y) in enumerate(shares.items())]
    return series, float(edges[0]), float(edges[-1]), max(float(y.max()) for y in shares.values())
