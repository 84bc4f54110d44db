from eval.protocol import Result
from eval.table import results_table

LFW = Result(
    {"accuracy": 0.99449, "tar@far=1e-3": 0.981, "threshold": 1.4321, "xnorm": 21.5, "pairs": 6000},
    ("accuracy", "tar@far=1e-3"),
    {"accuracy": (0.9923, 0.99661)},
    {},
)
SCFACE = Result({"d1": 0.5, "d2": 1.0, "probes": 1300}, ("d1", "d2"), {}, {})


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[0] == "|"]


def test_table():
    assert cells(results_table({"lfw": LFW, "scface": SCFACE})) == [
        ["target", "metric", "%", "95 % interval", "XNorm", "pairs or probes"],
        ["lfw", "accuracy", "99.45", "99.23 - 99.66", "21.50", "6,000"],
        ["", "tar@far=1e-3", "98.10", "", "", ""],
        ["scface", "d1", "50.00", "", "", "1,300"],
        ["", "d2", "100.00", "", "", ""],
    ]


def test_an_empty_table_has_its_head():
    assert "95 % interval" in results_table({})
