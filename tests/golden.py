"""`python -m tests.golden`: write the loss curve of tests/recognition/test_rank_invariance.py anew, after a change that
is meant to move it; prints by how much it moved.
"""

import json
from pathlib import Path

import torch

from tests import ranks

PATH = Path(__file__).parent / "recognition" / "golden_losses.json"
NAMES = ("total", "classification", "contrastive", "hq_share", "lq_pairs")
STEPS = 50


def main() -> None:
    torch.set_num_threads(1)
    losses = ranks.train_real_steps(STEPS, [])["losses"]
    if PATH.exists():
        old, new = torch.tensor(read()), torch.tensor(losses)
        change = ((new - old).abs() / old.abs().clamp_min(1e-3)).amax(0).tolist() if old.shape == new.shape else []
        print(
            "largest relative change:", ", ".join(f"{n} {c:.2g}" for n, c in zip(NAMES, change, strict=False)) or "all"
        )
    lines = ",\n".join(json.dumps([float(f"{value:.7g}") for value in step]) for step in losses)
    PATH.write_text(f'{{"names": {json.dumps(NAMES)}, "losses": [\n{lines}\n]}}\n')
    print(f"wrote {PATH}")


def read() -> list[list[float]]:
    """The losses of every step, in the order of `NAMES`."""
    return json.loads(PATH.read_text())["losses"]


if __name__ == "__main__":
    main()
