"""Each way in which the authors' released code departs from the paper, against plain loops in float64, value and
gradient, alone and together, on 1, 2 and 3 ranks.
"""

import functools
import re
from pathlib import Path

import pytest
import torch

from configs.base import choices
from recognition.build import make_contrast_weight, make_objective, make_optimizer
from recognition.contrast import DENOMINATORS
from recognition.direction import DirectionStatistics
from recognition.head import INITS, ClassShard
from recognition.margins import LOSSES, make_margin
from recognition.objective import Objective
from recognition.pool import KEYS, SAME_IDENTITY, clamp
from recognition.pools import NAMES, BatchPool, ProxyQueue, make_pool
from recognition.quality import SCOPES, NormStatistics, partition
from recognition.queue import DTYPES
from recognition.variant import WORDS, Variant
from tests import gloo, ranks
from tests.transcription import make_case, transcription
from utils import config, parallel

ROOT = Path(__file__).resolve().parents[2]

OFFICIAL = {
    "quality_gate": "sigmoid", "contrast_gate": "constant", "contrast_queries": "both", "positive_gradient": "kept",
    "contrast_rescale": True,
}  # fmt: skip
CASES = {
    "sigmoid gate": {"variant": {"quality_gate": "sigmoid"}},
    "sigmoid gate with MagFace": {"variant": {"quality_gate": "sigmoid"}, "loss": "magface"},
    "sigmoid gate without a threshold": {"variant": {"quality_gate": "sigmoid"}, "threshold": None},
    "HQ pairs constant": {"variant": {"contrast_gate": "constant"}},
    "HQ pairs constant, as printed": {"variant": {"contrast_gate": "constant"}, "denominator": "negatives"},
    "statistics of each rank": {"statistics": "rank"},
    "gradient of the original": {"variant": {"positive_gradient": "kept"}},
    "queries both": {"variant": {"contrast_queries": "both"}},
    "queries both, gradient of both": {"variant": {"contrast_queries": "both", "positive_gradient": "kept"}},
    "same identity 0": {"same_identity": "zero"},
    "same identity 0, Eq. 14 as printed": {"same_identity": "zero", "denominator": "negatives"},
    "same identity 0, one identity": {"same_identity": "zero", "identities": 1, "threshold": 1.0},
    "same identity 0, batch pool": {"same_identity": "zero", "pool": "batch"},
    "same identity 0, empty queue": {"same_identity": "zero", "Q": 0},
    "keys clamped": {"keys": "clamped"},
    "keys clamped, plain delta": {"keys": "clamped", "delta": "plain"},
    "loss weight": {"variant": {"contrast_rescale": True}},
    "loss weight, empty queue": {"variant": {"contrast_rescale": True}, "Q": 0},
    "momentum classifies the originals": {"variant": {"classified_views": "originals"}, "pool": "momentum"},
    "all of them": {"variant": OFFICIAL, "statistics": "rank", "same_identity": "zero", "keys": "clamped"},
    "beyond: the threshold follows a share": {"lq_share": 0.3, "threshold": 0.4375},
    "beyond: consistency": {"variant": {"consistency_weight": 0.6}},
    "beyond: known qualities": {"known": torch.rand(6, 5, 2, generator=torch.Generator().manual_seed(1))},
    "beyond: the direction of degradation": {"source": "direction"},
    "beyond: the direction of degradation, by share, of each rank": {
        "source": "direction", "lq_share": 0.3, "threshold": 0.4375, "statistics": "rank",
    },
    "all of them and beyond": {
        "variant": OFFICIAL | {"consistency_weight": 0.6}, "statistics": "rank", "same_identity": "zero",
        "keys": "clamped", "lq_share": 0.3, "threshold": 0.4375,
    },
    "all of them, batch pool": {"variant": OFFICIAL, "statistics": "rank", "same_identity": "zero", "pool": "batch"},
}  # fmt: skip


@functools.cache
def expected(name: str, world_size: int) -> list[dict]:
    return transcription(make_case(**CASES[name]), world_size if "statistics" in CASES[name] else 1)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("name", CASES)
def test_equals_its_description(name, world_size):
    per_rank = gloo.run(world_size, ranks.objective_steps, make_case(**CASES[name]))
    for step, want in enumerate(expected(name, world_size if "statistics" in CASES[name] else 1)):
        for rank in per_rank:
            torch.testing.assert_close(rank[step]["losses"][:3], want["losses"], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(rank[step]["statistics"], want["statistics"], rtol=1e-9, atol=1e-9)
        for which, key in enumerate(("grad_h", "grad_W")):
            whole = torch.cat([rank[step][key] for rank in per_rank])
            torch.testing.assert_close(whole, want["grads"][which], rtol=1e-8, atol=1e-9)


ALONE = ("sigmoid gate", "gradient of the original", "queries both", "same identity 0", "keys clamped", "loss weight")
BEYOND = (
    *("beyond: the threshold follows a share", "beyond: consistency", "beyond: known qualities"),
    "beyond: the direction of degradation",
)


@functools.cache
def paper(world_size: int, **changes) -> list[dict]:
    return transcription(make_case(**changes), world_size)


@pytest.mark.parametrize("name", [*ALONE, *BEYOND, "statistics of each rank"])
def test_each_alone_moves_the_gradient(name):
    """The descriptions tell them apart; and on one rank its statistics are all there are."""
    ours = expected(name, 2 if "statistics" in name else 1)
    moved = [not torch.equal(a["grads"][0], b["grads"][0]) for a, b in zip(ours, paper(1), strict=True)]
    assert sum(moved) > 1
    if "statistics" in name:
        assert all(torch.equal(a["grads"][0], b["grads"][0]) for a, b in zip(expected(name, 1), paper(1), strict=True))


def test_the_constant_of_hq_pairs_changes_the_loss_and_no_gradient():
    ours = expected("HQ pairs constant", 1)
    for got, want in zip(ours, paper(1), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(got["grads"], want["grads"], strict=True))
        assert got["losses"][2] >= want["losses"][2]
    assert ours[-1]["losses"][2] > paper(1)[-1]["losses"][2] + 0.1


def test_clamped_keys_reach_beyond_1():
    """The case has products that the clamp takes: their queries feel no pull of that row."""
    product = torch.tensor([[-1.5, -1.0, 0.2, 1.0, 3.0]], requires_grad=True)
    value, slope = clamp(product)
    assert value.tolist() == [[-1.0, -1.0, pytest.approx(0.2), 1.0, 1.0]] and slope.tolist() == [[0, 1, 1, 1, 0]]
    case = make_case(**CASES["keys clamped, plain delta"])
    head = ClassShard(case["N"], case["D"]).double()
    queue, beyond = make_pool("proxy", head, case["D"], case["Q"], "plain", keys="clamped").double(), 0
    for (h_PVD, y_P, _), W in zip(case["batches"], case["W_steps"], strict=True):
        head.weight.copy_(W)
        u_PVD = torch.nn.functional.normalize(h_PVD, dim=2)
        queue.enqueue(u_PVD, y_P)
        keys = torch.cat([queue.keys(*segment)[0].clone() for segment in queue.segments()])
        beyond += int((u_PVD[:, 1] @ keys.T > 1).sum())
    assert beyond > 3


def test_the_statistics_may_start_at_0():
    """Then every sample is of the highest quality at first."""
    statistics = NormStatistics(mean=0.0, std=0.0)
    z_PV = torch.linspace(5, 30, 20).view(10, 2)
    assert (statistics.observe(z_PV) == 1).all()
    assert float(statistics.mean) == pytest.approx(0.01 * 17.5)
    for _ in range(1000):
        z_hat_PV = statistics.observe(z_PV)
    torch.testing.assert_close(z_hat_PV, 0.333 * (z_PV - z_PV.mean()) / z_PV.std(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_share_of_low_quality_is_what_was_asked_for(share):
    """Whatever the norms are, and also when they change."""
    statistics, generator, shares = NormStatistics(0.05, lq_share=share), torch.Generator().manual_seed(0), []
    for step in range(600):
        z_PV = (20 + 5 * (step > 300)) * torch.rand(64, 2, generator=generator) ** 2
        is_hq_PV, _ = partition(statistics.observe(z_PV), statistics.b)
        shares.append(1 - float(is_hq_PV.float().mean()))
    shares = torch.tensor(shares)
    for settled in (shares[200:300], shares[500:]):  # of 12800 samples: a deviation of at most 0.0045
        assert float(settled.mean()) == pytest.approx(share, abs=0.02)


def test_the_direction_of_degradation_orders_what_the_norm_cannot():
    """Features that keep their identity's part less and gain an offset, as degradation does to small networks."""
    generator = torch.Generator().manual_seed(0)
    statistics = DirectionStatistics(32, ema=0.05)
    offset_D = 6 * torch.nn.functional.normalize(torch.randn(32, generator=generator), dim=0)
    for _ in range(300):
        h_PVD = torch.randn(256, 2, 32, generator=generator)
        kept_P1 = torch.rand(256, 1, generator=generator)
        h_PVD[:, 1] = kept_P1 * h_PVD[:, 0] + (1 - kept_P1) * offset_D
        z_PV = h_PVD.norm(dim=2)
        z_hat_PV = statistics.observe(statistics.measure(h_PVD, z_PV))
    told, norm = (torch.corrcoef(torch.stack([x[:, 1], kept_P1[:, 0]]))[0, 1] for x in (z_hat_PV, z_PV))
    assert told > 0.9 and norm < 0.5
    is_hq_PV, _ = partition(z_hat_PV, 0.3)
    assert is_hq_PV[:, 0].float().mean() > 0.99 > 0.9 > is_hq_PV[:, 1].float().mean()


def test_the_contrasts_weight_rises_between_two_epochs():
    cfg = config.load("vgg2_r34_qgface", ["contrast_ramp=(1,3)", "contrast_weight=2.0"], ROOT / "configs")
    assert [make_contrast_weight(cfg, 4)(step) for step in (0, 4, 6, 8, 12, 99)] == [0, 0, 0.5, 1.0, 2.0, 2.0]
    off = config.load("vgg2_r34_qgface", [], ROOT / "configs")
    assert [make_contrast_weight(off, 4)(step) for step in (0, 1, 99)] == [1.0, 1.0, 1.0]
    late = config.load("vgg2_r34_qgface", ["contrast_ramp=(2,2)"], ROOT / "configs")
    assert [make_contrast_weight(late, 4)(step) for step in (0, 7, 8)] == [0.0, 0.0, 1.0]
    for bad in ("(3,1)", "(1,)", "(-1,2)"):
        cfg = config.load("vgg2_r34_qgface", [f"contrast_ramp={bad}"], ROOT / "configs")
        with pytest.raises(ValueError, match="contrast_ramp=.*: expected two epochs, 0 or more, that do not fall"):
            make_contrast_weight(cfg, 4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["quality_lq_share=0.1", "quality_threshold=None"], "quality_lq_share without quality_threshold: expected a"),
        (
            ["consistency_weight=1.0", "views=('original',)"],
            "consistency_weight with views=('original',): expected ('original', 'augmented')",
        ),
        (
            ["classified_views=originals", "views=('augmented',)"],
            "classified_views='originals' with views=('augmented',): expected 'original' as the first",
        ),
    ],
)
def test_a_run_names_the_keys_that_do_not_go_together(words, message):
    cfg = config.load("vgg2_r34_qgface", ["pool=none", *words], ROOT / "configs")
    with pytest.raises(ValueError, match=re.escape(message)):
        make_objective(cfg, 10, parallel.World(0, 1, 0, torch.device("cpu")))


def test_settings_that_do_not_go_together_are_named():
    head = ClassShard(3, 4)
    with pytest.raises(ValueError, match="quality_gate='sigmoid' with loss='curricularface': expected another loss"):
        Objective(head, make_margin("curricularface"), threshold=0.2, variant=Variant(quality_gate="sigmoid"))
    with pytest.raises(ValueError, match="contrast_queries='both' with pool='momentum'.*expected"):
        pool = make_pool("momentum", head, 4, 5)
        Objective(head, make_margin("adaface"), pool, variant=Variant(contrast_queries="both"))
    for key in WORDS:
        with pytest.raises(ValueError, match=f"{key}='x': expected one of"):
            Variant(**{key: "x"})
    for options in ({"keys": "x"}, {"same_identity": "x"}):
        with pytest.raises(ValueError, match="='x'.*expected one of"):
            BatchPool(**options)
    with pytest.raises(ValueError, match="quality_statistics='x': expected one of"):
        NormStatistics(scope="x")
    for share in (0.0, 1.0):
        with pytest.raises(ValueError, match=re.escape(f"quality_lq_share={share}: expected a share in (0, 1)")):
            NormStatistics(lq_share=share)
    with pytest.raises(ValueError, match="proxy_init='x': expected one of"):
        ClassShard(3, 4, init="x")


def test_a_config_knows_the_words_that_the_code_knows():
    known = WORDS | {"contrast_same_identity": SAME_IDENTITY, "queue_keys": KEYS, "quality_statistics": SCOPES}
    known |= {"pool": NAMES, "queue_delta": ProxyQueue.DELTAS, "queue_dtype": DTYPES, "proxy_init": INITS}
    known |= {"contrast_denominator": DENOMINATORS, "loss": LOSSES}
    assert {key: choices[key] for key in known} == known


def test_a_rank_needs_two_samples_for_its_statistics():
    case = make_case(statistics="rank")
    case["batches"] = [(h_PVD[:2], y_P[:2], key_h_PD[:2]) for h_PVD, y_P, key_h_PD in case["batches"]]
    for message in gloo.run(3, ranks.first_error, case):
        assert message == "quality_statistics='rank': rank 2 has 0 samples a step; expected at least 2"


def test_unit_proxies_point_where_the_others_do():
    short, unit = (ClassShard(5, 16, seed=3, init=init).weight for init in ("normal", "unit"))
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(unit, torch.nn.functional.normalize(short))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_batchnorm_may_be_free_of_weight_decay(optimizer):
    """With a gradient of 0 decay alone moves a weight."""
    words = [f"optimizer={optimizer}", "lr=0.1", "weight_decay=0.5"]
    for free in (True, False):
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.PReLU(4))
        cfg = config.load("vgg2_r34_qgface", [*words, f"decay_batchnorm={not free}"], ROOT / "configs")
        before = {name: p.detach().clone() for name, p in network.named_parameters()}
        for p in network.parameters():
            p.grad = torch.zeros_like(p)
        make_optimizer(cfg, network).step()
        still = {name for name, p in network.named_parameters() if torch.equal(p, before[name])}
        assert still == ({"1.weight", "1.bias"} if free else {"1.bias"})  # a shift of 0 has nothing to decay
