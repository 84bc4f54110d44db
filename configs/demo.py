"""The demo: QGFace on faces drawn by code, under 5 minutes on 2 cores, no download.

./run.sh
"""

from easydict import EasyDict as edict

config = edict()
config.rec = "synthetic"
config.val_targets = ["demo", "demo_lq"]
config.network = "mini"
config.embedding_size = 128
config.views = ("original", "augmented")
config.augment = "qgface"
config.loss = "adaface"
config.scale = 32.0  # few identities and few steps
config.contrast_scale = 32.0
config.quality_threshold = 0.2
config.quality_ema = 0.05  # a short run: the statistics must settle within its first epochs
config.pool = "proxy"
config.batch_size = 64
config.lr = 0.1
config.num_epoch = 8
config.num_workers = 1
config.verbose = 0
config.overwrite = True  # the demo may be run again and again
