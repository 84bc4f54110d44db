"""A folder with all that the documents' commands name, small: a run, faces, photos, test sets, models of all kinds."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import torch

from eval.protocol import Result
from eval.results import Record, write_results
from recognition.backbones import get_backbone
from recognition.models import save_model
from tests import faces, ranks
from tests.ijb import write_ijb
from tests.onnx_files import pooled, yunet
from tools import encode as tools_encode
from utils.align import TEMPLATE
from utils.jpeg import encode

D = 16
SMALL = ["network=tiny", f"embedding_size={D}", "num_workers=0", "device=cpu", "total_batch_size=6", "max_step=2"]
IDENTITIES, PHOTOS = 6, 4
# what stands for something of the reader's own
MEANINGS = {
    "CONFIG": "configs/demo.py", "CHECKPOINT": "CHECKPOINT_2",
    "FOLDER": "data/own", "MODEL": "model.pt", "DIR": "data/own", "NAME": "faces", "RUN": "work_dirs/demo", "SEED": "7",
}  # fmt: skip

# as arcface_torch has them, with the numbers of these faces
ARCFACE_CONFIG = f"""from easydict import EasyDict as edict

config = edict()
config.margin_list = (1.0, 0.5, 0.0)
config.network = "r50"
config.resume = False
config.output = None
config.embedding_size = 512
config.sample_rate = 1.0
config.fp16 = True
config.momentum = 0.9
config.weight_decay = 5e-4
config.batch_size = 128
config.lr = 0.02
config.verbose = 2000
config.dali = False
config.rec = "/train_tmp/ms1m-retinaface-t1"
config.num_classes = {IDENTITIES}
config.num_image = {IDENTITIES * PHOTOS}
config.num_epoch = 20
config.warmup_epoch = 0
config.val_targets = ['lfw', 'cfp_fp', "agedb_30"]
"""


def make(root: Path, checkout: Path) -> None:
    """Write it; paths in it are relative to it, so that a copy is as good."""
    before = Path.cwd()
    os.chdir(root)
    try:
        _make(Path(), checkout)
    finally:
        os.chdir(before)


def _make(root: Path, checkout: Path) -> None:
    (root / "configs").symlink_to(checkout / "configs")
    for name in ("own", "own/faces", "vggface2", "demo", "celeba_train", "faces_emore", "ms1m-retinaface-t1", "ms1mv3"):
        faces.write_records(root / "data" / name, IDENTITIES, PHOTOS)
    for name in (
        "demo/demo",
        "demo/demo_lq",
        "bins/lfw",
        "bins/cfp_fp",
        "bins/agedb_30",
        "eval/lfw",
        "eval/cfp_fp",
        "lfw",
    ):
        (root / "data" / name).parent.mkdir(exist_ok=True)
        faces.write_pairs(root / "data" / f"{name}.bin", 20)
    for name, folders in (("IJBB", ("data",)), ("IJBC", ("data", "data/eval"))):
        write_ijb(Path("..", name), name)  # one for all copies: no command changes it
        for folder in folders:
            (root / folder / name).symlink_to(Path("..", name).resolve())
    (root / "ms1mv3_r50.py").write_text(ARCFACE_CONFIG)
    _write_photos(root)
    _write_models(root)
    run = root / "work_dirs" / "demo"
    words = [*SMALL, "rec=data/demo", "val_dir=data/demo", "diagnose_every=1", "frequent=1", f"output={run}"]
    ranks.train([str(checkout / "configs" / "demo.py"), *words, "val_targets=[]", "save_every=1"])
    study = root / "work_dirs" / "ablation" / "vgg2_r34_qgface" / "runs"
    copies = [run.parent / name for name in ("proxy", "momentum", "vgg2_r34_qgface", "qgface", "baseline")]
    copies += [study / f"{row}_seed0" for row in ("E", "momentum", "Baseline")]
    for copy in copies:
        shutil.copytree(run, copy)
        _write_results(copy, str(run.parent / "demo" / "model.pt"))
    for folder in (root / "a", root / "other", root, run):
        _write_results(folder, "b.pt")
    _write_features(root, run / "model.pt")


def _write_photos(root: Path) -> None:
    lines, pairs = [], []
    for identity in range(IDENTITIES):
        (root / "photos" / f"p{identity}").mkdir(parents=True)
        for number in range(PHOTOS):
            name = f"p{identity}/{number}.jpg"
            cv2.imwrite(str(root / "photos" / name), faces.photo(identity, number)[..., ::-1])
            lines.append(f"{name} {' '.join(f'{x:.2f}' for x in TEMPLATE.ravel())}\n")
        other = (identity + 1) % IDENTITIES
        pairs += [f"p{identity}/0.jpg p{identity}/1.jpg 1\n", f"p{identity}/2.jpg p{other}/3.jpg 0\n"]
    (root / "points.txt").write_text("".join(lines))
    (root / "pairs.txt").write_text("".join(pairs))


def _write_models(root: Path) -> None:
    torch.manual_seed(0)
    state = get_backbone("tiny", D).state_dict()
    for name in ("model.pt", "b.pt"):
        save_model(root / name, state, "tiny", D)
    torch.save(state, root / "backbone.pth")
    for name in ("adaface_ir50_ms1mv2", "adaface_ir50"):
        torch.save({"state_dict": {f"model.{key}": x for key, x in state.items()}}, root / f"{name}.ckpt")
    for name in ("face", "face_int8"):
        pooled(root / f"{name}.onnx", channels="rgb", mean="127.5", std="127.5")
    pooled(root / "w600k_r50.onnx")
    yunet(root / "face_detection_yunet_2023mar.onnx")
    generator = np.random.default_rng(0)
    np.save(root / "h.npy", generator.normal(size=(48, 512)).astype(np.float32))


def _write_features(root: Path, model: Path) -> None:
    """docs/inference.md: photos as `tools.unpack` names them, a gallery and probes as `tools.encode` keeps them."""
    for identity, number in ((0, 0), (0, 1), (1, 0), (1, 1), (7, 3)):
        path = root / "work_dirs" / "photos" / f"{identity:05d}" / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(faces.photo(identity, number), 90))
    for output in (root / "features", root / "work_dirs" / "features", root / "work_dirs" / "few"):
        tools_encode.main([str(model), str(root / "work_dirs" / "photos"), "--output", str(output)])
    for name, number in (("a", 0), ("b", 1), ("photo", 2)):
        (root / f"{name}.jpg").write_bytes(encode(faces.photo(0, number), 90))


def _write_results(folder: Path, model: str) -> None:
    """results.json with what `tools.figures similarity` and `--against` look for."""
    folder.mkdir(exist_ok=True)
    evidence = {f"{kind}/d1": np.array([0.5, 0.3, 0.7], np.float32) for kind in ("matched", "unmatched")}
    record = Record(Result({"d1": 0.5}, ("d1",), {}, evidence), 1, "data", {})
    write_results(folder / "results.json", model, "digest", {"scface": record})
    assert json.loads((folder / "results.json").read_text())["targets"]
