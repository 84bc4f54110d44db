"""The small-scale study: the paper's settings on real faces, with a network that a core trains in minutes.

python -m tools.ablation tables=I,II,III recipe=study data=FOLDER --jobs 2
FOLDER holds celeba_train/, celeba_test/ and lfw.bin. Setting E alone:
./run.sh study rec=FOLDER/celeba_train val_dir=FOLDER
The start of the proxies is the paper's; `proxy_init=unit` is better in all settings (docs/results.md).
"""

from easydict import EasyDict as edict

config = edict()
config.rec = "data/celeba_train"
config.val_targets = ["lfw", "surveillance:celeba_test", "cross_resolution"]
config.val_pairs = 600
config.network = "nano"
config.embedding_size = 256
config.views = ("original", "augmented")
config.augment = "qgface"
config.loss = "adaface"
config.scale = 32.0  # few identities and few steps: with 64 the first epochs learn less (docs/results.md)
config.contrast_scale = 32.0
config.quality_threshold = 0.2
config.quality_ema = 0.05  # a short run: the statistics must settle within its first epochs
config.pool = "proxy"
config.batch_size = 64
config.lr = 0.1
config.lr_schedule = "step"
config.lr_milestones = (5, 8)
config.num_epoch = 10
config.num_workers = 0
config.frequent = 50
config.verbose = 1_000_000  # steps: evaluated at the end only
