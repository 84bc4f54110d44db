"""Original and augmented images as a run trains on them, those pairs that its model finds LQ in red (Fig. 4).

    python -m tools.figures pairs work_dirs/vgg2_r34_qgface --data /data/vggface2 --output pairs.png

Pairs come from the run's own augmentation, seed and threshold (config.json). A pair is LQ where the lower of its two
indicators, (z_hat + 1) / 2 by the model's norm statistics (model.pt), is not above the threshold (Eq. 1-2).
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from recognition.data.augment import Augment
from recognition.data.loader import ViewBatches
from recognition.data.sources import open_source
from recognition.embedder import Embedder
from recognition.models import open_model, run_config
from recognition.quality import NormStatistics, partition
from tools import recorded
from tools.figures import page
from tools.inspect.augment import different_people
from tools.inspect.sheet import GREEN, RED
from utils import parallel
from utils.cli import Parser

DEMO = Path(__file__).resolve().parents[2] / "data" / "demo"  # of rec="synthetic"
VIEWS = ("original", "augmented")
ACROSS = 2  # pairs of a kind side by side
SEAM, GAP, CAPTION = 3, 14, 26  # pixels between the views of a pair, between pairs, and below each for its norms
CHUNK = 64  # images that are embedded at a time


class Pairs(NamedTuple):
    """Views (n, 2, S, S, 3) uint8; of each its norm `z`, its `score` (z_hat + 1) / 2 in [0, 1] and whether it `is_hq`,
    (n, 2); `is_lq` (n,), of pairs.
    """

    images: torch.Tensor
    z: torch.Tensor
    score: torch.Tensor
    is_hq: torch.Tensor
    is_lq: torch.Tensor

    def take(self, rows: torch.Tensor) -> "Pairs":
        """Some of them."""
        return Pairs(*(part[rows] for part in self))


def main(words: list[str]) -> None:
    """Write the figure."""
    options = _options(words)
    config = _config(options.run)
    source = open_source(options.data or (DEMO if config["rec"] == "synthetic" else config["rec"]))
    if source.side != 112:
        raise ValueError(f"{source.name} has faces of {source.side} pixels; the networks take 112")
    order = np.random.default_rng(config["seed"]).permutation(len(source))
    chosen = different_people(source, order, options.faces)
    augment = Augment(config["augment"], **config["augment_options"])
    images = ViewBatches(source, augment, VIEWS, config["seed"], source.side)[options.epoch, chosen].images
    pairs = judge(images, options.run / "model.pt", config, options.device)
    lq, hq = (pairs.take(wanted.nonzero().flatten()[: options.pairs]) for wanted in (pairs.is_lq, ~pairs.is_lq))
    count, found = len(chosen), int(pairs.is_lq.sum())
    figure = draw(lq, hq, f"Original and augmented images, {options.run.resolve().name}, epoch {options.epoch}")
    caption = (
        "Each frame: an original on the left, its augmented image on the right; below, the feature norm |h| and the "
        f"quality (ẑ+1)/2. A pair is LQ where the quality of one is not above b = {config['quality_threshold']:g}: "
        f"{found} of the {count} pairs looked at. Norms: of the finished model in evaluation mode; ẑ: by the mean and "
        "deviation that training ended with."
    )
    page.write(
        figure, caption, options.output, [Patch(color=RED, label="LQ pair"), Patch(color=GREEN, label="HQ pair")]
    )
    print(f"LQ       {found} of {count} pairs\nfigure   {options.output}")


def judge(images: torch.Tensor, path: Path, config: dict, device: str) -> Pairs:
    """What a run's model says of pairs (n, 2, S, S, 3) uint8.

    Raises:
        ValueError: the model cannot be opened, keeps no norm statistics, or gives features that are not finite.
    """
    model = open_model(path)
    if model.norm_mean is None or model.norm_std is None:
        raise ValueError(f"{path} does not say its feature norms' mean and deviation; expected the model.pt of a run")
    embed = Embedder(
        model.backbone, parallel.choose_device(device), model.channels, model.mean, model.std, batch_size=CHUNK
    )
    z = embed(images.flatten(0, 1))[1].unflatten(0, images.shape[:2])
    if not z.isfinite().all():
        raise ValueError(f"{path} gives features that are not finite: the training diverged")
    statistics = NormStatistics(c=config["quality_scale"], mean=model.norm_mean, std=model.norm_std)
    z_hat = statistics.indicator(z)
    return Pairs(images, z, (z_hat + 1) / 2, *partition(z_hat, config["quality_threshold"]))


def draw(lq: Pairs, hq: Pairs, title: str) -> Figure:
    """The figure: LQ pairs on the left, HQ ones on the right; where there is one kind only, it has all the width."""
    blocks = [(pairs, colour) for pairs, colour in ((lq, RED), (hq, GREEN)) if len(pairs.z)]
    side = lq.images.shape[2]
    step = np.array([2 * side + SEAM + GAP, side + CAPTION + GAP])  # from a pair to the next one
    rows = max(-(-len(pairs.z) // ACROSS) for pairs, _ in blocks)
    width, height = step * (ACROSS * len(blocks), rows)
    inches = max(7, width / 90)
    figure = page.new_page(title, inches, inches * height / width + 1.2)
    axes = figure.subplots()
    for block, (pairs, colour) in enumerate(blocks):
        for number in range(len(pairs.z)):
            row, column = divmod(number, ACROSS)
            x, y = step * (block * ACROSS + column, row)
            _draw_pair(axes, pairs.take(torch.tensor(number)), x, y, colour)
    axes.set_xlim(-GAP, width)
    axes.set_ylim(height - GAP, -GAP)
    axes.set_aspect("equal")
    axes.axis("off")
    return figure


def _draw_pair(axes: Axes, pair: Pairs, x: int, y: int, colour: str) -> None:
    side = pair.images.shape[1]
    for view in range(2):
        left = x + view * (side + SEAM)
        axes.imshow(pair.images[view].numpy(), extent=(left, left + side, y + side, y))
        text = f"|h| {pair.z[view]:.1f}, {pair.score[view]:.2f}"
        ink = GREEN if pair.is_hq[view] else RED
        axes.text(left + side / 2, y + side + CAPTION / 2, text, ha="center", va="center", fontsize=7.5, color=ink)
    axes.add_patch(Rectangle((x, y), 2 * side + SEAM, side, fill=False, edgecolor=colour, linewidth=3))


def _config(run: Path) -> dict:
    """The run's config, with what decides about its pairs.

    Raises:
        ValueError: it is not there, or the run has no pairs, no threshold, one that moved nobody knows where to, or
            one on another quality.
    """
    config = run_config(run / "model.pt")
    keys = ("rec", "seed", "views", "augment", "augment_options", "quality_scale", "quality_threshold")
    if missing := [key for key in keys if key not in config]:
        raise ValueError(f"{run / 'config.json'} has no {', '.join(missing)}; expected the folder of a run")
    if tuple(config["views"]) != VIEWS or config["quality_threshold"] is None:
        raise ValueError(
            f"{run} has views={config['views']}, quality_threshold={config['quality_threshold']}; expected a run on "
            f"pairs, views={VIEWS}, with a threshold"
        )
    if config.get("quality_source", "norm") != "norm":
        raise ValueError(
            f"{run} has quality_source={config['quality_source']!r}: its pairs are not judged by a model; expected a "
            "run with 'norm'"
        )
    if config.get("quality_lq_share") is not None:  # beyond the paper: the threshold moved
        moved = [line["threshold"] for line in recorded.metrics(run) if line.get("threshold") is not None]
        if not moved:
            raise ValueError(
                f"{run} has quality_lq_share={config['quality_lq_share']:g}: its threshold moved, and metrics.jsonl "
                "does not say where to"
            )
        config = {**config, "quality_threshold": moved[-1]}
    return config


def _options(words: list[str]) -> argparse.Namespace:
    parser = Parser("python -m tools.figures pairs", __doc__)
    parser.add_argument("run", type=Path, help="folder of a run, with config.json and model.pt")
    parser.add_argument("--data", type=Path, help="faces; default: those that the run trained on")
    parser.add_argument("--pairs", type=int, default=8, help="of each kind at most; default: 8")
    parser.add_argument(
        "--faces", type=int, default=128, help="looked at, of different people where there are as many; default: 128"
    )
    parser.add_argument("--epoch", type=int, default=0, help="whose augmentation; default: 0")
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu")
    page.add_output(parser)
    options = parser.parse_args(words)
    for name, least in (("pairs", 1), ("faces", 1), ("epoch", 0)):
        if getattr(options, name) < least:
            raise ValueError(f"--{name} {getattr(options, name)}: expected at least {least}")
    if not options.run.is_dir():
        raise ValueError(f"{options.run} is not a folder; expected that of a run")
    page.check_output(options.output)
    return options
