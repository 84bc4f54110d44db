"""A sheet of faces with the views that training makes of them, and which of these count as low quality.

    python -m tools.inspect augment data/demo --model work_dirs/demo/model.pt

Each row is a face: its original view, then its augmented view in epoch 0, 1, ... as the loader makes them.
With a model, a view is LQ (red) where (z_hat + 1) / 2 is not above the threshold, HQ (green) elsewhere. Eq. 1 takes
mean and standard deviation over both views of --statistics images of the data, in evaluation mode, which the running
averages of a training tend to. Without --preset and --threshold, both are those of the model's run (config.json).
"""

import argparse
import ast
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from prettytable import PrettyTable
from tqdm import tqdm

from eval.embed import Embed
from recognition.data.augment import PRESETS, Augment
from recognition.data.loader import ViewBatches
from recognition.data.sources import open_source
from recognition.embedder import Embedder
from recognition.models import open_model, run_config
from recognition.quality import NormStatistics, partition
from tools.inspect import sheet
from utils import parallel
from utils.cli import Parser

THRESHOLD = 0.2  # b of the paper's recipe
CHUNK = 64  # images that are held at a time
LEAST = {"faces": 1, "columns": 1, "seed": 0, "statistics": 2}
HINT = "frames are grey: --model work_dirs/NAME/model.pt shows which views a model takes for low quality"


class Quality(NamedTuple):
    """What a model says of views: norms `z`, and `score` (z_hat + 1) / 2 in [0, 1], both float32 (n, V)."""

    z: torch.Tensor
    score: torch.Tensor
    is_hq: torch.Tensor


def main(words: list[str]) -> None:
    """Write the sheet; print the table where there is a model."""
    options = _options(words)
    config = run_config(options.model) if options.model else {}
    augment, name = _augment(options, config)
    source = open_source(options.data)
    seed = config.get("seed", 0) if options.seed is None else options.seed
    batches = ViewBatches(source, augment, ("original", "augmented"), seed, source.side)
    order = np.random.default_rng(seed).permutation(len(source))
    chosen = different_people(source, order, options.faces)
    views = _sheet_views(batches, chosen, options.columns)
    quality, detail = None, "frames are grey without --model"
    if options.model:
        embed, threshold = _embed(options, source), _threshold(options, config)
        statistics, z = _statistics(embed, batches, order[: options.statistics], config.get("quality_scale", 0.333))
        print(_table(statistics, z, threshold))
        quality = _judge(_norms(embed, views), statistics, threshold)
        detail = f"{'/'.join(options.model.parts[-2:])}: LQ where (z_hat + 1) / 2 <= {threshold:g}"
    heads = ["original", *(f"augmented, epoch {epoch}" for epoch in range(options.columns))]
    if options.columns > 1:
        heads[2:] = [f"epoch {epoch}" for epoch in range(1, options.columns)]
    rows = [_row(source, index, views[row], quality, row) for row, index in enumerate(chosen.tolist())]
    sheet.write(options.output, f"augmentation {name}, seed {seed}", detail, heads, rows)
    if quality is None:
        print(HINT)
    print(f"sheet    {options.output}")


def _options(words: list[str]) -> argparse.Namespace:
    parser = Parser("python -m tools.inspect augment", __doc__)
    parser.add_argument("data", type=Path, help="records, or a folder of one folder per identity, as rec=")
    parser.add_argument("--model", type=Path, help="model.pt, to see which views it takes for low quality")
    parser.add_argument("--preset", choices=PRESETS, help="default: that of the model's run, else qgface")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="overrides",
                        help="parameters that differ: recognition/data/augment.py lists them")  # fmt: skip
    parser.add_argument("--faces", type=int, default=8, help="rows; default: 8")
    parser.add_argument("--columns", type=int, default=7, help="augmented views of each face; default: 7")
    parser.add_argument("--seed", type=int, help="of the faces and views; default: that of the model's run, else 0")
    parser.add_argument("--threshold", type=float, help=f"b in [0, 1]; default: that of the run, else {THRESHOLD}")
    parser.add_argument("--statistics", type=int, default=256, help="images that Eq. 1 averages over; default: 256")
    parser.add_argument("--network", help="network of the model; default: what the file says, or is")
    parser.add_argument("--embedding-size", type=int, help="likewise")
    parser.add_argument(
        "--channels", choices=("rgb", "bgr"), help="order the model was trained with; default: likewise"
    )
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu")
    parser.add_argument("--output", type=Path, default=Path("augment.png"), help="default: augment.png")
    options = parser.parse_args(words)
    for name, least in LEAST.items():
        value = getattr(options, name)
        if value is not None and value < least:
            raise ValueError(f"--{name} {value}: expected at least {least}")
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise ValueError(f"--threshold {options.threshold}: expected a number from 0 to 1")
    if options.output.suffix != ".png" or not options.output.parent.is_dir():
        raise ValueError(f"--output {options.output}: expected a name that ends in .png, in a folder that is there")
    return options


def _augment(options: argparse.Namespace, config: dict) -> tuple[Augment, str]:
    """The augmentation that was asked for, else the run's, and how to call it."""
    preset, parameters = options.preset, {}
    if preset is None:
        preset, parameters = config.get("augment", "qgface"), dict(config.get("augment_options", {}))
    for word in options.overrides:
        key, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"--set {word!r}: expected key=value, for example jpeg_quality=50")
        try:
            parameters[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            parameters[key] = text
    return Augment(preset, **parameters), " ".join([preset, *(f"{key}={value}" for key, value in parameters.items())])


def different_people(source, order: np.ndarray, count: int) -> np.ndarray:
    """The first `count` images of different identities, filled up with others where these are too few."""
    seen, first, others = set(), [], []
    for index in order[: 20 * count].tolist():
        label = source[index][1]
        (others if label in seen else first).append(index)
        seen.add(label)
        if len(first) == count:
            break
    return np.array((first + others)[:count])


def _sheet_views(batches: ViewBatches, chosen: np.ndarray, columns: int) -> torch.Tensor:
    """(n, 1 + columns, S, S, 3) uint8: the original view of epoch 0, the augmented ones of epochs 0, 1, ..."""
    epochs = [batches[epoch, chosen].images for epoch in range(columns)]
    return torch.stack([epochs[0][:, 0], *(images[:, 1] for images in epochs)], 1)


def _embed(options: argparse.Namespace, source) -> Embed:
    if source.side != 112:
        raise ValueError(f"{options.data} has faces of {source.side} pixels; the networks take 112")
    model = open_model(options.model, options.network, options.embedding_size, options.channels)
    return Embedder(model.backbone, parallel.choose_device(options.device), model.channels, model.mean, model.std)


def _threshold(options: argparse.Namespace, config: dict) -> float:
    if options.threshold is not None:
        return options.threshold
    if config.get("quality_lq_share") is not None:
        raise ValueError(
            f"the model's run has quality_lq_share={config['quality_lq_share']}: its threshold moved; --threshold "
            f"takes one, such as the last of its metrics.jsonl"
        )
    if config.get("quality_threshold") is None:
        print(f"threshold {THRESHOLD}, the paper's: the model's run has none; --threshold takes another")
        return THRESHOLD
    return config["quality_threshold"]


def _norms(embed: Embed, views: torch.Tensor) -> torch.Tensor:
    """(n, V, S, S, 3) uint8 -> z (n, V)."""
    return embed(views.flatten(0, 1))[1].unflatten(0, views.shape[:2])


def _statistics(
    embed: Embed, batches: ViewBatches, indices: np.ndarray, c: float
) -> tuple[NormStatistics, torch.Tensor]:
    """Mean and deviation over both views of many images, as one large batch would set them; and their norms (n, 2)."""
    parts = np.array_split(indices, -(-len(indices) // CHUNK))
    bar = tqdm(parts, desc="norms", unit="batch", disable=None, leave=False, dynamic_ncols=True)
    z = torch.cat([_norms(embed, batches[0, part].images) for part in bar])
    if not z.isfinite().all():
        raise ValueError("the model gives features that are not finite: it diverged, or is of another network")
    statistics = NormStatistics(ema=1.0, c=c)
    statistics.update(z)
    return statistics, z


def _judge(z: torch.Tensor, statistics: NormStatistics, threshold: float) -> Quality:
    z_hat = statistics.indicator(z)
    return Quality(z, (z_hat + 1) / 2, partition(z_hat, threshold)[0])


def _table(statistics: NormStatistics, z: torch.Tensor, threshold: float) -> str:
    is_lq = ~_judge(z, statistics, threshold).is_hq
    table = PrettyTable([f"{len(z)} images", "mean norm", "std", "LQ"], align="r")
    table.align[table.field_names[0]] = "l"
    for view, name in enumerate(("original views", "augmented views")):
        share = is_lq[:, view].float().mean().item()
        table.add_row([name, f"{z[:, view].mean():.3g}", f"{z[:, view].std():.3g}", f"{share:.1%}"])
    table.add_row(["pairs with an LQ view", "", "", f"{is_lq.any(1).float().mean().item():.1%}"])
    return str(table)


def _row(source, index: int, views: torch.Tensor, quality: Quality | None, row: int) -> sheet.Row:
    label = source[index][1]
    detail = source.where(index).removeprefix(source.name).lstrip(":/ ")
    if quality is None:
        return sheet.Row(f"identity {label}", detail, [sheet.Tile(image.numpy()) for image in views])
    tiles = []
    for image, z, score, is_hq in zip(views, quality.z[row], quality.score[row], quality.is_hq[row], strict=True):
        colour, word = (sheet.GREEN, "HQ") if is_hq else (sheet.RED, "LQ")
        tiles.append(sheet.Tile(image.numpy(), colour, f"{word} {score:.2f}", f"|h| {z:.1f}"))
    return sheet.Row(f"identity {label}", detail, tiles)
