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
config.quality_threshold = 0.2
config.pool = "proxy"
config.batch_size = 128
config.lr = 0.1
config.num_epoch = 12
config.num_workers = 1
config.verbose = 0
