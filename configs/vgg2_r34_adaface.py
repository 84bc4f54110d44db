"""AdaFace on VGGFace2 with the paper's recipe (Table I, setting A): one view with AdaFace's augmentation.

./run.sh configs/vgg2_r34_adaface.py rec=/data/vggface2 val_dir=/data/bins
./run.sh eval work_dirs/vgg2_r34_adaface/model.pt --data /data --target scface tinyface ijbb
Expected on VGGFace2 (the paper's figures): SCface d1/d2/d3 66.77/99.08/100, TinyFace 67.49, IJB-B 74.07, HQ average
95.76. Table I's Baseline (flip only) is the same with 'views=("original",)'.
"""

from easydict import EasyDict as edict

from configs.vgg2_r34_qgface import config as qgface

config = edict(qgface)
config.views = ("augmented",)
config.augment = "adaface"
config.quality_threshold = None
config.pool = "none"
