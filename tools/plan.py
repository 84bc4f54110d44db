"""Tell what a config needs on each rank and sends in a step, before it starts; docs/scaling.md has the formulas.

    python -m tools.plan vgg2_r34_qgface ranks=8 classes=360232 gpu_gib=80
    python -m tools.plan --table

ranks=8      processes, one for each GPU; else 1
classes=N    identities; else num_classes of the config, else the data's
gpu_gib=80   memory of a GPU, in GiB; else that of the smallest GPU here or, on a CPU, this machine's available memory,
             shared by the processes
key=value    keys of the config, as for train.py

Exit code 1, with a warning, where the run cannot fit.
"""

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from easydict import EasyDict
from prettytable import PrettyTable

from configs.base import config as base
from recognition import scaling, sharded
from recognition.backbones import get_backbone
from recognition.build import autocast_dtype
from recognition.data.sources import open_source
from recognition.scaling import GIB, MIB, Collective, Network, Setup
from utils import config, project
from utils.cli import Parser, user_errors
from utils.project import ROOT

OWN = ("ranks", "classes", "gpu_gib")
SIDE = 112  # pixels of an aligned face
COPY = "host memory, copy for checkpoints"
REMEDIES = {  # for the largest part
    "backbone: activations": "use fewer images a rank (a smaller batch, with gradient_acc), or fp16=True on GPUs",
    "cosines, kept": "use a smaller memory_budget, or more ranks",
}
SETS = {"VGGFace2": 8_631, "MS1MV3": 93_431, "Glint360K": 360_232, "WebFace42M": 2_059_906, "10 M": 10_000_000}
GPUS = (1, 4, 8, 64)


def main(words: list[str]) -> int:
    """Print the plan; 1 where the run cannot fit."""
    options = parse(words)
    if options.table:
        print(sets())
        return 0
    own, rest = split(options.words)
    cfg = config.load(options.config, rest, ROOT / "configs")
    ranks = number(own, "ranks", int) or 1
    kind, limit = room(cfg.device, number(own, "gpu_gib", float), ranks)
    setup = make_setup(cfg, number(own, "classes", int) or count_classes(cfg), ranks, kind)
    network = measure(cfg.network, cfg.embedding_size, cfg.dropout)
    parts, copy = scaling.memory(setup, network), {COPY: scaling.checkpoint_bytes(setup, network)}
    if kind == "cpu":  # its memory is the host's
        parts |= copy
    print(f"{setup.num_classes:,} identities, {setup.pairs} images of {setup.views} views a batch, {ranks} x {kind}")
    print(report(parts, scaling.traffic(setup, network), ranks, limit))
    if kind != "cpu":
        print(f"{COPY}: {copy[COPY] / MIB:,.3f} MiB for a rank, beside its GPU's")
    needed, largest = sum(parts.values()), max(parts, key=parts.get)
    if needed <= limit:
        return 0
    print(
        f"warning: a rank needs {needed / GIB:.1f} GiB and has {limit / GIB:.1f}, most of it for {largest!r}: "
        f"{REMEDIES.get(largest, scaling.ADVICE)}",
        file=sys.stderr,
    )
    return 1


def parse(words: list[str]) -> argparse.Namespace:
    """The config and its words, or `--table`."""
    parser = Parser("python -m tools.plan", __doc__)
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="a config file, or the name of one in configs/")
    parser.add_argument("words", nargs="*", metavar="key=value", help="as above")
    parser.add_argument("--table", action="store_true", help="the table of docs/scaling.md, and no more")
    options = parser.parse_args(words)
    if options.config is None and not options.table:
        raise ValueError("expected a CONFIG, or --table; python -m tools.plan --help shows how it is used")
    return options


def split(words: Sequence[str], names: Sequence[str] = OWN) -> tuple[dict[str, str], list[str]]:
    """A command's own words, which `names` has, and the config's."""
    own, rest = {}, []
    for word in words:
        key, _, text = word.partition("=")
        near = difflib.get_close_matches(key, names, 1)
        if key in names:
            own[key] = text
        elif near and key not in base:
            raise ValueError(f"unknown key {key!r} on the command line: did you mean {near[0]!r}?")
        else:
            rest.append(word)
    return own, rest


def number(own: dict[str, str], key: str, kind: type) -> int | float | None:
    """The positive number that a word gives; None without the word."""
    try:
        value = kind(own.get(key, 1))
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise ValueError(f"{key}={own[key]}: expected a positive {'integer' if kind is int else 'number of GiB'}")
    return value if key in own else None


def count_classes(cfg: EasyDict) -> int:
    """The identities of the config or of its data."""
    if cfg.num_classes is not None:
        return cfg.num_classes
    try:
        rec = project.home() / "data" / "demo" if cfg.rec == "synthetic" else cfg.rec
        return open_source(rec, cache=cfg.cache).num_classes
    except ValueError as error:
        raise ValueError(f"the number of identities: {cfg.name} has no num_classes; say classes=N ({error})") from None


def room(device: str, gpu_gib: float | None, ranks: int) -> tuple[str, float]:
    """The kind of device and the bytes that a rank may use there."""
    cuda = torch.get_device_module("cuda")
    sizes = [cuda.get_device_properties(i).total_memory for i in range(cuda.device_count())]
    if gpu_gib is not None and device == "cpu":
        raise ValueError(f"gpu_gib={gpu_gib:g} with device='cpu': expected only one of them")
    if gpu_gib is not None or (sizes and device != "cpu"):
        return "cuda", min(sizes) if gpu_gib is None else gpu_gib * GIB
    if device == "cuda":
        raise ValueError("device='cuda' and no GPU is here: gpu_gib=80 says how much memory one has")
    kib = Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0]
    return "cpu", int(kib) * 1024 / ranks


def make_setup(cfg: EasyDict, classes: int, ranks: int, kind: str) -> Setup:
    """The sizes of a config, as train.py takes them."""
    return Setup(
        num_classes=classes,
        pairs=cfg.total_batch_size or cfg.batch_size * ranks,
        ranks=ranks,
        embedding_size=cfg.embedding_size,
        views=len(cfg.views),
        sample_rate=cfg.sample_rate,
        slots=scaling.optimizer_slots(cfg.optimizer, cfg.momentum),
        pool=cfg.pool,
        queue_size=classes if cfg.queue_size is None else cfg.queue_size,
        queue_dtype=cfg.queue_dtype,
        memory_budget=cfg.memory_budget * MIB,
        block=sharded.block_size(torch.device(kind)),
        half=autocast_dtype(cfg, kind) is not None,
        gradient_acc=cfg.gradient_acc,
    )


def measure(name: str, embedding_size: int, dropout: float = 0.0) -> Network:
    """The bytes of a backbone, from a forward pass on the device "meta", which computes nothing."""
    with torch.device("meta"):
        backbone, images = get_backbone(name, embedding_size, dropout=dropout), torch.empty(2, 3, SIDE, SIDE)
    saved = {}
    note = lambda tensor: saved.setdefault(tensor.untyped_storage()._cdata, tensor)  # noqa: E731
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        backbone(images)
    weights, buffers = list(backbone.parameters()), list(backbone.buffers())
    for tensor in (*weights, *buffers):
        saved.pop(tensor.untyped_storage()._cdata, None)
    groups = weights, [tensor for tensor in weights if tensor.requires_grad], buffers
    activations = sum(tensor.untyped_storage().nbytes() for tensor in saved.values()) // len(images)
    return Network(*(sum(tensor.nbytes for tensor in group) for group in groups), activations)


def report(parts: dict[str, int], calls: list[Collective], ranks: int, limit: float) -> str:
    """Tables of memory and traffic."""
    rows = [[part, size] for part, size in parts.items() if size]
    text = table(["on a rank", "MiB"], rows, [f"total, of {limit / GIB:.1f} GiB", sum(parts.values())])
    if not calls:
        return f"{text}\none rank: nothing is sent"
    rows = []
    for call in dict.fromkeys(calls):
        times = calls.count(call)
        rows.append([f"{times} x {call.what}", call.kind, times * call.payload, times * call.sent(ranks)])
    total = ["total, at most", "", sum(row[2] for row in rows), sum(row[3] for row in rows)]
    return text + "\n" + table(["sent in a step", "call", "payload, MiB", "round a ring, MiB"], rows, total)


def table(head: list[str], rows: list[list], total: list) -> str:
    """Rows as text; bytes are shown in MiB."""
    shown = PrettyTable(head, align="r")
    shown.align[head[0]] = "l"
    for row in (*rows, total):
        shown.add_row([x if isinstance(x, str) else f"{x / MIB:,.3f}" for x in row], divider=row is rows[-1])
    return shown.get_string()


def sets() -> str:
    """The table of docs/scaling.md: GiB beside the backbone, a queue in float32 / float16; MiB sent round a ring."""
    r50, sent = measure("r50", 512), ["sent, MiB", "any"]
    lines = [["data", "n", "1 GPU", *(f"{ranks} GPUs" for ranks in GPUS[1:])], ["---"] + ["---:"] * (1 + len(GPUS))]
    for name, n in SETS.items():
        cells = []
        for ranks in GPUS:
            setup = Setup(n, 128 * ranks, ranks, views=2, pool="proxy", queue_size=n, half=True)
            both = setup, setup._replace(queue_dtype="float16")
            needs = [(sum(scaling.memory(x).values()) / GIB, sum(scaling.memory(x, r50).values()) / GIB) for x in both]
            cells.append(" / ".join(f"{x:.2f}{'‡' * (total > 80) or '†' * (total > 24)}" for x, total in needs))
            if n == SETS["10 M"]:
                sent.append(f"{sum(call.sent(ranks) for call in scaling.traffic(setup)) / MIB:.2f}")
        lines.append([name, f"{n:,}", *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in (*lines, sent))


if __name__ == "__main__":
    with user_errors():
        sys.exit(main(sys.argv[1:]))
