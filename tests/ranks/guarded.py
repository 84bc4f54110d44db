"""Steps whose numbers are not finite."""

import torch
from torch import nn

from recognition.guard import Guard
from recognition.outcome import Losses, NotFiniteError
from tests.ranks.objective import make_objective
from utils import parallel


def bad_feature(case: dict, bad: list[tuple[int, int, float]]) -> dict:
    """A step of the objective after a good one, with numbers that are not finite; what it raised, what it changed.

    `case`: as for `objective_steps`, with two batches; `bad`: (pair of the global batch, view, its first number), the
    view after the last one being the momentum encoder's feature.
    """
    objective = make_objective(case)

    def state() -> dict:
        values = {name: value.clone() for name, value in objective.state_dict().items()}
        values |= objective.pool.state()
        return values | {"next_sequence": torch.tensor(objective.pool.next_sequence)}

    before, error = {}, None
    for batch, (h_PVD, y_P, key_h_PD) in enumerate(case["batches"]):
        before, everything = state(), torch.cat([h_PVD, key_h_PD[:, None]], 1)
        for pair, view, value in bad if batch == 1 else []:
            everything[pair, view, 0] = value
        start, stop = parallel.share(len(y_P), parallel.rank(), parallel.world_size())
        h_pVD, key_h_pD = everything[start:stop, :-1].clone(), everything[start:stop, -1]
        key_h_pD = key_h_pD if case["pool"] == "momentum" else None
        try:
            objective(h_pVD.requires_grad_(), y_P[start:stop], key_h_pD, len(y_P))
        except NotFiniteError as raised:
            error = raised
    after = state()
    return {
        "what": error and error.what,
        "is_bad": error and error.is_bad.tolist(),
        "changed": [name for name, value in before.items() if not torch.equal(value, after[name])],
    }


def checked_step(case: dict) -> dict | None:
    """What `Guard.check` says of a step of two micro-batches, and what `Guard.skip` then tells.

    `case`: per_pair, gradients (of the features of pairs): two lists of the global batch, total (two losses), norm.
    """
    said: list[str] = []
    guard = Guard([], str, say=said.append)
    start, stop = parallel.share(len(case["per_pair"][0]), parallel.rank(), parallel.world_size())
    features, parts, nothing = [], [], torch.zeros(())
    for total, per_pair, gradients in zip(case["total"], case["per_pair"], case["gradients"], strict=True):
        h_pVD = torch.zeros(stop - start, 2, 3)
        h_pVD.grad = torch.tensor(gradients[start:stop])[:, None, None].expand(-1, 2, 3).clone()
        features.append(h_pVD)
        parts.append(Losses(torch.tensor(total), *[nothing] * 4, torch.tensor(per_pair)))
    try:
        guard.check(parts, features, torch.tensor(case["norm"]))
    except NotFiniteError as error:
        numbers = torch.arange(len(case["per_pair"][0]))[start:stop]
        guard.skip(7, error, [numbers, 100 + numbers])
        return {"is_bad": error.is_bad.tolist(), "said": said}
    return None


def skipped_steps(case: dict) -> dict:
    """Skip steps ("bad", or "expected" for an overflow) and take others ("good") while a BatchNorm sees features.

    `case`: steps, pairs (of each rank), bad (pairs of each rank), options (of Guard).
    """
    norm, said, error = nn.BatchNorm1d(2), [], None
    guard = Guard([norm], lambda i: f"face {i}", say=said.append, **case.get("options", {}))
    rank, pairs = parallel.rank(), case.get("pairs", 3)
    numbers, kept = 10 * rank + torch.arange(pairs), []
    is_bad = torch.isin(torch.arange(pairs), torch.tensor(case["bad"][rank]))
    for step, kind in enumerate(case["steps"], 1):
        guard.remember()
        before = [buffer.clone() for buffer in norm.buffers()]
        norm(torch.full((2, 2), float(step)) if kind == "good" else torch.full((2, 2), torch.nan))
        if kind == "good":
            guard.check([Losses(*[torch.zeros(())] * 5, torch.zeros(0))], [], torch.ones(()))
        else:
            try:
                guard.skip(step, NotFiniteError("the loss", is_bad), [numbers], kind == "expected")
            except ValueError as raised:
                error = str(raised)
        kept.append(all(torch.equal(*both) for both in zip(before, norm.buffers(), strict=True)))
        if error:
            break
    return {"kept": kept, "said": said, "error": error, "skipped": guard.skipped, "in_a_row": guard.in_a_row}
