"""Learning rates and loss weights as pure functions of the step."""

from collections.abc import Sequence


def _warm(step: int, warmup: int) -> float | None:
    return (step + 1) / warmup if step < warmup else None


def polynomial(step: int, base: float, warmup: int, total: int, power: float = 1.0) -> float:
    """arcface_torch's schedule: linear warm-up over `warmup` steps, then base (1 - t)^power down to 0 at `total`; steps
    count from 0.
    """
    warmup = max(warmup, 0)  # configs of arcface_torch have warmup_epoch=-1
    warm = _warm(step, warmup)
    return base * (warm if warm is not None else (1 - (step - warmup) / max(total - warmup, 1)) ** power)


def steps(step: int, base: float, warmup: int, milestones: Sequence[int], gamma: float = 0.1) -> float:
    """The paper's schedule (Sec. IV-A): `base` times `gamma` for every milestone (a step number) that has been
    reached.
    """
    warm = _warm(step, warmup)
    return base * (warm if warm is not None else gamma ** sum(step >= milestone for milestone in milestones))


def ramp(step: int, full: float, start: int, stop: int) -> float:
    """0 before the step `start`, `full` from `stop` on, a straight line between them; steps count from 0."""
    if start < step < stop:
        return full * (step - start) / (stop - start)
    return full if step >= stop else 0.0
