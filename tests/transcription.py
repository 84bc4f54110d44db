"""A step of training written down with loops in float64, from the paper and the description of its released code."""

import math

import torch

N, D, P, V, T = 7, 5, 5, 2, 6


def make_case(**changes) -> dict:
    """Random global batches of a few identities, norms of both kinds, and a W that drifts from step to step."""
    generator = torch.Generator().manual_seed(changes.pop("seed", 0))

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    n = changes.get("N", N)
    W = draw(n, D)
    case = {"N": n, "D": D, "Q": 13, "pool": "proxy", "threshold": 0.45, "batches": [], "W_steps": []}
    for _ in range(T):
        norms = torch.rand(P, V, 1, generator=generator, dtype=torch.float64) * 4
        y_P = torch.randint(0, changes.get("identities", n), (P,), generator=generator)
        case["batches"].append((draw(P, V, D) * norms, y_P, draw(P, D)))
        W = W + 0.3 * draw(n, D)
        case["W_steps"].append(W.clone())
    return case | changes


def unit(x):
    return x / x.norm()


def owners(pairs: int, ranks: int) -> list[range]:
    """The pairs of each rank: contiguous, the first ranks one more."""
    sizes = [pairs // ranks + (rank < pairs % ranks) for rank in range(ranks)]
    return [range(sum(sizes[:rank]), sum(sizes[: rank + 1])) for rank in range(ranks)]


def transcription(case: dict, ranks: int = 1) -> list[dict]:
    """The paper with loops: one scalar at a time, every proxy and feature of the queue kept whole.

    `case`: see `ranks.make_objective`; what departs from the paper as the authors' released code does is written down
    from its description. `ranks`: how many share the batch, for quality_statistics="rank".
    """
    s, b, m = case.get("s", 16.0), case["threshold"], 0.4
    options = case.get("variant", {})
    both, kept = options.get("contrast_queries") == "both", options.get("positive_gradient") == "kept"
    soft = options.get("quality_gate") == "sigmoid" and b is not None
    mean, std, queue, report = torch.tensor(2.0).double(), torch.tensor(1.0).double(), [], []
    direction = torch.zeros(case["D"]).double() if case.get("source") == "direction" else None
    mean = mean if direction is None else torch.tensor(0.0).double()
    loss, t = case.get("loss", "adaface"), 0.0  # t of CurricularFace
    for (h_PVD, y_P, key_h_PD), W in zip(case["batches"], case["W_steps"], strict=True):
        h = h_PVD.clone().requires_grad_()
        W = W.clone().requires_grad_()
        z = torch.stack([h[p, v].norm() for p in range(len(y_P)) for v in range(V)]).detach().clamp(0.001, 100)
        ema, parts = case.get("ema", 0.3), [list(range(len(z)))]
        if direction is not None:
            apart = sum(h_PVD[p, 0] - h_PVD[p, 1] for p in range(len(y_P))) / len(y_P)
            direction = direction + ema * (apart - direction)
            z = torch.stack([torch.dot(h_PVD[p, v], unit(direction)) for p in range(len(y_P)) for v in range(V)])
        if case.get("statistics") == "rank":
            parts = [[i for p in owned for i in range(p * V, p * V + V)] for owned in owners(len(y_P), ranks)]
        z_hat, before = [], (mean, std)
        for number, part in enumerate(parts):
            its_mean = before[0] + ema * (z[part].mean() - before[0])
            its_std = before[1] + ema * (z[part].std() - before[1])
            z_hat += [max(-1.0, min(1.0, float(0.333 * (value - its_mean) / (its_std + 0.001)))) for value in z[part]]
            if number == 0:
                mean, std = its_mean, its_std
        if case.get("lq_share") is not None:
            scaled = sorted((value + 1) / 2 for value in z_hat)
            at = case["lq_share"] * (len(scaled) - 1)
            low, more = int(at), at - int(at)
            b = b + ema * (scaled[low] + more * (scaled[min(low + 1, len(scaled) - 1)] - scaled[low]) - b)
        indicator = [[(z_hat[p * V + v] + 1) / 2 for v in range(V)] for p in range(len(y_P))]
        if "known" in case:
            indicator = case["known"][len(report)].tolist()

        rows = [(p, v) for p in range(len(y_P)) for v in range(V)]
        cosine = {(p, v, j): torch.dot(unit(h[p, v]), unit(W[j])) for p, v in rows for j in range(case["N"])}
        t = t + 0.01 * (sum(float(cosine[p, v, int(y_P[p])].detach()) for p, v in rows) / len(rows) - t)
        classification = torch.zeros((), dtype=torch.float64)
        classified = [(p, v) for p, v in rows if v == 0 or options.get("classified_views") != "originals"]
        for p, v in classified:
            if b is not None and indicator[p][v] <= b and not soft:
                continue
            gate = 1 / (1 + math.exp(-s * (z_hat[p * V + v] + 2 * (0.5 - b)))) if soft else 1.0
            target = cosine[p, v, int(y_P[p])]
            theta = torch.acos(target.clamp(-0.999, 0.999))
            penalty = 0.0
            if loss == "adaface":
                g_angle, g_add = -m * z_hat[p * V + v], m * z_hat[p * V + v] + m
                f = torch.cos((theta + g_angle).clamp(0.001, math.pi - 0.001)) - g_add
            elif loss == "curricularface":
                f = torch.cos(theta + m)
            elif loss == "magface":
                a = h[p, v].norm().clamp(1.0, 5.0)
                f = torch.cos(theta + (a - 1.0) / 4.0 * (0.8 - 0.45) + 0.45)
                penalty = 3.0 * (1 / a + a / 25.0)
            else:
                m1, m2, m3 = case["margin_list"]
                f = (torch.cos(m1 * theta + m2) if (m1, m2) != (1, 0) else target) - m3
            below = torch.exp(gate * s * f)
            for j in range(case["N"]):
                if j != y_P[p]:
                    c = cosine[p, v, j]
                    below = below + torch.exp(gate * s * (c * (t + c) if loss == "curricularface" and c > f else c))
            classification = classification - torch.log(torch.exp(gate * s * f) / below) + penalty
        classification = classification / len(classified)

        momentum = case["pool"] == "momentum"
        if case["pool"] == "batch":
            queue = []
        for v in range(1 if momentum else V):
            for p in range(len(y_P)):
                feature = key_h_PD[p] if momentum else h[p, v].detach()
                queue.append((int(y_P[p]), unit(feature), W[y_P[p]].detach().clone()))
        if case["pool"] != "batch":
            queue = queue[len(queue) - case["Q"] :] if len(queue) > case["Q"] else queue

        infonce, sides = case.get("denominator", "infonce") == "infonce", ((1, 0), (0, 1)) if both else ((1, 0),)
        contrastive = torch.zeros((), dtype=torch.float64)
        for p, (query, key) in [(p, side) for p in range(len(y_P)) for side in sides if case["pool"] != "none"]:
            if b is not None and min(indicator[p]) > b:
                if options.get("contrast_gate") == "constant" and queue:
                    contrastive = contrastive + math.log(len(queue) + infonce)
                continue
            q = unit(h[p, query])
            positive = unit(key_h_PD[p] if momentum else h[p, key] if kept else h[p, key].detach())
            positive = torch.exp(s * torch.dot(q, positive))
            negatives = []
            for label, u, W_then in queue:
                if label == int(y_P[p]):
                    if case.get("same_identity") == "zero":
                        negatives.append(torch.ones((), dtype=torch.float64))
                    continue
                if case["pool"] == "proxy":
                    ratio = 1.0 if case.get("delta") == "plain" else u.norm() / W_then.norm()
                    u = u + ratio * (W[label].detach() - W_then)
                    u = u if case.get("keys") == "clamped" else unit(u)
                negatives.append(torch.exp(s * torch.dot(q, u).clamp(-1, 1)))
            if not negatives:
                continue
            below = sum(negatives) + (positive if infonce else 0)
            contrastive = contrastive - torch.log(positive / below)
        contrastive = contrastive / len(y_P) / len(sides)
        weight = case.get("weight", 0.7)
        if options.get("contrast_rescale") and queue:
            weight = weight * math.log(129) / math.log(1 + len(queue))

        total = classification + weight * contrastive
        for p in range(len(y_P)) if "consistency_weight" in options else []:
            cosine_p = torch.dot(unit(h[p, 1]), unit(h[p, 0].detach()))
            total = total + options["consistency_weight"] / len(y_P) * (1 - cosine_p)
        grads = torch.autograd.grad(total, (h, W), allow_unused=True) if total.requires_grad else (None, None)
        grads = [torch.zeros_like(x) if g is None else g for g, x in zip(grads, (h, W), strict=True)]
        report.append(
            {"losses": [float(x.detach()) for x in (total, classification, contrastive)], "grads": grads,
             "statistics": (float(mean), float(std))}
        )  # fmt: skip
    return report
