"""QGFace, the paper's recipe (Sec. IV-A, Table I setting E): VGGFace2, ResNet34, 4 GPUs.

./run.sh configs/vgg2_r34_qgface.py rec=/data/vggface2 val_dir=/data/bins
./run.sh eval work_dirs/vgg2_r34_qgface/model.pt --data /data --target scface tinyface ijbb
Expected on VGGFace2 (the paper's figures): SCface d1/d2/d3 92.31/99.54/100, TinyFace 69.85, IJB-B 91.05, HQ average
95.43.
"""

from easydict import EasyDict as edict

config = edict()
config.rec = "data/vggface2"
config.val_targets = ["lfw", "cfp_fp", "agedb_30", "calfw", "cplfw"]
config.network = "r34"
config.views = ("original", "augmented")
config.augment = "qgface"
config.loss = "adaface"
config.margin = 0.4
config.quality_threshold = 0.2
config.pool = "proxy"
config.total_batch_size = 512
config.lr = 0.2
config.momentum = 0.9
config.weight_decay = 5e-4
config.lr_schedule = "step"
config.lr_milestones = (6, 9)
config.num_epoch = 12
config.fp16 = True
config.num_workers = 4
