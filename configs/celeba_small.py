"""QGFace on real faces with a small network, for CPUs: 889 CelebA identities, evaluated on LFW.

./run.sh configs/celeba_small.py rec=FOLDER/celeba_train val_dir=FOLDER
"""

from easydict import EasyDict as edict

config = edict()
config.rec = "data/celeba_train"
config.val_targets = ["lfw"]
config.network = "small"
config.views = ("original", "augmented")
config.augment = "qgface"
config.loss = "adaface"
config.scale = 32.0  # few identities and few steps: with 64 the first epochs learn less (docs/results.md)
config.contrast_scale = 32.0
config.quality_threshold = 0.2
config.quality_ema = 0.05  # a short run: the statistics must settle within its first epochs
config.pool = "proxy"
config.batch_size = 128
config.lr = 0.1
config.num_epoch = 10
config.num_workers = 1
config.verbose = 532  # every 4 epochs
