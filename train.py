"""Train a model, top to bottom: config -> data -> model -> resume -> loop -> evaluate -> save.

    ./run.sh configs/vgg2_r34_qgface.py rec=/data/vggface2 val_dir=/data/bins
    python train.py configs/demo.py max_step=20

`./run.sh` and `qgface train` start this file on every device; on its own it is one process. What is not given as
key=value is as the config says; configs/base.py lists every key.
"""

import contextlib
import math
import sys
from pathlib import Path

import torch
from easydict import EasyDict
from torch import nn

from eval import training
from eval.protocol import Result, Target
from eval.table import results_table
from eval.targets import open_targets
from recognition.backbones import get_backbone
from recognition.build import (
    autocast_dtype,
    compiled,
    make_contrast_weight,
    make_diagnostics,
    make_loader,
    make_objective,
    make_optimizer,
    make_schedule,
)
from recognition.data.loader import normalise
from recognition.data.sampler import GlobalBatchSampler
from recognition.data.sources import open_source
from recognition.data.synthetic import write_demo
from recognition.embedder import Embedder
from recognition.guard import Guard
from recognition.models import open_model, read_tensors
from recognition.momentum import MomentumEncoder
from recognition.outcome import NotFiniteError
from recognition.row_optimizer import RowOptimizer
from recognition.run import Run, describe, farewell, stopped_at
from recognition.state import TrainingState
from utils import checkpoint, config, parallel, project, resume
from utils.cli import Parser, user_errors
from utils.log import Means, RunLog
from utils.run_folder import RunFolder
from utils.stop import Stop, exit_code
from utils.watchdog import Watchdog

CONFIGS = Path(__file__).resolve().parent / "configs"
PER_MACHINE = ("rec", "cache", "val_dir", "output", "pretrained", "num_workers")  # may differ between machines
SIDE = 112  # pixels of an aligned face
DEMO = {"seed": 1, "identities": 120, "photos": 20, "test_identities": 60, "pairs": 1200}  # of rec="synthetic"


def main(words: list[str]) -> int:
    """Train; returns the exit code."""
    parser = Parser("python train.py", __doc__)
    parser.add_argument("config", metavar="CONFIG", help="a config file, or the name of one in configs/")
    parser.add_argument("words", nargs="*", metavar="key=value", help="on top of the config, such as lr=0.05")
    options = parser.parse_args(words)
    cfg = config.load(options.config, options.words, CONFIGS)
    world = parallel.init(cfg.device)
    stop = Stop(cfg.max_time)
    parallel.must_agree("config", {key: value for key, value in cfg.items() if key not in PER_MACHINE})
    cpu = world.device.type == "cpu"
    if cfg.resume is False and parallel.may_start_again():
        raise ValueError("resume=False begins anew at each restart, and MAX_RESTARTS allows some; use resume='auto'")

    # ----- data
    source, targets, facts = open_data(cfg, world)
    folder = RunFolder(Path(cfg.output or project.home() / "work_dirs" / cfg.name))
    folder.restore()
    earlier = resume.earlier(folder, cfg, facts, print)
    pairs = cfg.total_batch_size = resume.images_a_step(cfg, earlier.config, world.size)  # P: images of a global batch
    shards = getattr(source, "shard_sizes", None)
    sampler = GlobalBatchSampler(len(source), pairs, cfg.seed, world.rank, world.size, shards, cfg.shuffle_shards)
    loader = make_loader(cfg, source, sampler, world)
    steps_per_epoch = sampler.steps_per_epoch // cfg.gradient_acc
    last_step = min(steps_per_epoch * cfg.num_epoch, cfg.max_step or sys.maxsize)
    learning_rate, contrast_weight = make_schedule(cfg, steps_per_epoch), make_contrast_weight(cfg, steps_per_epoch)

    # ----- model
    torch.manual_seed(cfg.seed)
    torch.backends.cudnn.benchmark = True
    backbone = get_backbone(cfg.network, cfg.embedding_size, dropout=cfg.dropout)
    if cfg.pretrained and earlier.checkpoint is None:
        checkpoint.load_module(backbone, read_tensors(Path(cfg.pretrained))[0], f"model {cfg.pretrained}")
    if cfg.sync_bn and world.size > 1:
        if cpu:
            raise ValueError("sync_bn=True on several CPU processes: PyTorch has it for GPUs only; use sync_bn=False")
        backbone = nn.SyncBatchNorm.convert_sync_batchnorm(backbone)
    backbone = backbone.to(world.device, memory_format=torch.channels_last)
    objective = make_objective(cfg, source.num_classes, world).to(world.device)
    encoder = None
    if objective.pool is not None and objective.pool.from_momentum_encoder:
        encoder = MomentumEncoder(backbone, cfg.encoder_momentum)
    optimizer = make_optimizer(cfg, backbone)
    row_optimizer = RowOptimizer(cfg.optimizer, objective.head.weight, cfg.momentum, cfg.weight_decay)
    amp_dtype = autocast_dtype(cfg, world.device.type)
    quality_is_known = cfg.quality_source == "sharpness"
    scaler = torch.amp.GradScaler(world.device.type, enabled=amp_dtype == torch.float16)
    diagnostics = make_diagnostics(cfg, objective, backbone, scaler)
    state = TrainingState(backbone, objective, optimizer, row_optimizer, encoder, diagnostics.sample)
    networks = [backbone] if encoder is None else [backbone, encoder]
    guard = Guard(networks, source.where, cfg.nonfinite, cfg.nonfinite_limit, lambda text: log.say(text))
    means, damaged = Means(), []

    # ----- run folder, resume
    run = Run(cfg, world, folder, state, facts, last_step, {"scaler": scaler, "means": means, "guard": guard}, damaged)
    start_step = run.start(earlier)
    del earlier  # its files may go
    network = parallel.data_parallel(compiled(backbone) if cfg.compile else backbone, world.device)
    log = RunLog(folder.path, last_step, start_step, enabled=world.rank == 0)
    log.say(describe(cfg, source, targets, world, pairs, steps_per_epoch, last_step, start_step))

    # ----- loop
    def evaluation_is_due(step: int) -> bool:
        return step % (cfg.verbose or steps_per_epoch) == 0

    step, stream, why = start_step, iter(()), None
    if 0 < start_step < last_step and evaluation_is_due(start_step) and not log.has_evaluation(start_step):
        evaluate(run, targets, start_step, log, stop)  # it was stopped before it could
        why = run.agree(stop)  # stopped again: a checkpoint of a later step would hide that it is missing
    watchdog = Watchdog(cfg.step_timeout, print)
    for step in range(start_step + 1, last_step + 1) if why is None else ():
        epoch, within = divmod(step - 1, steps_per_epoch)
        watchdog.beat()
        if within == 0 or step == start_step + 1:
            stream = loader.epoch(epoch, within * cfg.gradient_acc)
        lr = learning_rate(step - 1)
        for group in optimizer.param_groups:
            group["lr"] = lr
        objective.contrast_weight = contrast_weight(step - 1)
        torch.manual_seed(cfg.seed + 1_000_003 * step + world.rank)  # dropout depends on the step, not on the past
        network.train()
        # one optimisation step >>>
        if encoder is not None:
            encoder.follow(backbone)
        guard.remember()
        diagnostics.begin(step)
        batches = [next(stream) for _ in range(cfg.gradient_acc)]
        parts, features, grad_norm = [], [], math.nan
        try:
            for batch in batches:
                images, labels = normalise(batch.images, world.device), batch.labels.to(world.device, non_blocking=True)
                waits = world.size > 1 and batch is not batches[-1]
                with network.no_sync() if waits else contextlib.nullcontext():
                    with torch.autocast(world.device.type, amp_dtype, enabled=amp_dtype is not None):
                        h_pVD = network(images).unflatten(0, (len(labels), -1))
                        key_h_pD = encoder(images[:: len(cfg.views)]) if encoder is not None else None
                    known_pV = loader.sharpness(epoch, batch, world.device) if quality_is_known else None
                    losses = objective(h_pVD, labels, key_h_pD, pairs, known_pV)
                    h_pVD.retain_grad()
                    scaler.scale(losses.total / cfg.gradient_acc).backward()
                parts.append(losses)
                features.append(h_pVD)
            scaler.unscale_(optimizer)
            diagnostics.look_at_gradient()
            grad_norm = nn.utils.clip_grad_norm_(backbone.parameters(), cfg.clip_grad_norm or math.inf)
            guard.check(parts, features, grad_norm)
        except NotFiniteError as trouble:
            overflow = scaler.is_enabled() and trouble.what == "the gradient"  # the loss scale is too high: no fault
            diagnostics.forget()
            guard.skip(step, trouble, [batch.index for batch in batches[: len(parts) + 1]], overflow)
        else:
            scaler.step(optimizer)
            objective.head.step(row_optimizer, lr, scaler.get_scale())
            means.add(parts)
        if len(parts) == len(batches):
            scaler.update()
        optimizer.zero_grad(set_to_none=True)
        objective.head.forget()
        # <<< one optimisation step
        damaged += [line for batch in batches for line in batch.damaged]
        values = None
        if step % cfg.frequent == 0 or step == last_step:
            counts = {"grad_norm": float(grad_norm), "skipped": guard.skipped}
            values = {"epoch": epoch, "lr": lr, **counts, **means.take(), **objective.quality.numbers()}
        log.step(step, pairs * cfg.gradient_acc, values)
        log.diagnosis(step, diagnostics.take())
        end_of_epoch = within + 1 == steps_per_epoch
        if end_of_epoch or step == last_step:
            log.damaged(step, epoch, run.all_damaged())
            damaged.clear()
        why = run.agree(stop)  # waits for the other ranks: a step is finished when all have finished it
        watchdog.pause()
        evaluation = step < last_step and evaluation_is_due(step)
        if why or evaluation or end_of_epoch or step == last_step or (cfg.save_every and step % cfg.save_every == 0):
            run.save(step, pairs * cfg.gradient_acc, log)
        if evaluation and not why:
            evaluate(run, targets, step, log, stop)
            why = run.agree(stop)
        if why:
            break
        watchdog.resume()
    watchdog.close()
    run.saver.finish()

    # ----- results
    results = {} if why else evaluate(run, targets, step, log, stop)
    why = why if results else run.agree(stop)
    log.close()
    if world.rank == 0:
        if not why:
            model = folder / "model.pt"
            for note in training.write(folder.path, model, open_model(model).key(), results, targets, cfg.val_faces):
                print(f"note: {note}")
        folder.close()
        print(farewell(folder.path, results, cfg) if not why else stopped_at(step, last_step, why, words, cfg.resume))
    parallel.barrier()
    parallel.shutdown()
    return exit_code(stop, why) if why else 0


def open_data(cfg: EasyDict, world: parallel.World) -> tuple[object, dict[str, Target], dict[str, object]]:
    """The training faces, the targets that are there, and what identifies the faces; what the config says of the data
    must be true.
    """
    places = cfg.rec if isinstance(cfg.rec, list) else [cfg.rec]
    if cfg.rec == "synthetic":
        places = [str(project.home() / "data" / "demo")]
        if world.local_rank == 0:
            write_demo(Path(places[0]), **DEMO)
        parallel.barrier()
    limit = None if cfg.cache_limit is None else int(cfg.cache_limit * 2**30)
    source = open_source(places, cfg.recordio_backend, cfg.cache, limit, cfg.corrupt)
    passed_over = getattr(source, "note", None)
    if passed_over and world.rank == 0:
        print(f"note: {passed_over}")
    for key, actual in (("num_classes", source.num_classes), ("num_image", len(source))):
        if cfg[key] is not None and cfg[key] != actual:
            raise ValueError(
                f"{key}={cfg[key]} in the config, but {source.name} has {actual}; leave the key out or correct it"
            )
    cfg.num_classes, cfg.num_image = source.num_classes, len(source)
    facts = {"identities": source.num_classes, "images": len(source), "digest of the index": source.digest()}
    parallel.must_agree("data", facts)
    if source.side != SIDE:
        raise ValueError(
            f"{source.name} holds faces of {source.side} x {source.side} pixels; the networks take {SIDE} x {SIDE}"
        )
    folder = Path(cfg.val_dir or places[0])
    folder = folder.parent if folder.is_file() else folder
    opened = open_targets(folder, cfg.val_targets, cfg.val_pairs, open_faces=open_source)
    for name, why in opened.wrong.items():
        raise ValueError(f"val_targets: {name}: {why}")
    if opened.skipped and parallel.rank() == 0:
        names = ", ".join(opened.skipped)
        print(f"note: no {names} in {folder}: not evaluated (val_dir=FOLDER says where the targets are)")
    parallel.must_agree("val_dir", {name: target.digest() for name, target in opened.targets.items()})
    return source, opened.targets, facts


def evaluate(run: Run, targets: dict[str, Target], step: int, log: RunLog, stop: Stop) -> dict[str, Result]:
    """Every target, its images shared out over the ranks; a table on screen, a line of metrics.jsonl."""
    log.pause()
    parallel.share_buffers(run.state.backbone)
    embed = Embedder(run.state.backbone, run.world.device)
    results, notes = training.evaluate_all(embed, targets, lambda: run.agree(stop) is not None)
    if results:
        log.say(f"step {step}\n{results_table(results)}")
    for note in notes:
        log.say(f"note: {note}")
    if results:
        log.scalars(step, training.scalars(results))
    log.resume()
    return results


if __name__ == "__main__":
    with user_errors():
        code = main(sys.argv[1:])
        parallel.leave(code)
        sys.exit(code)
