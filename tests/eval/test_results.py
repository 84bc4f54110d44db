import json

import numpy as np
import pytest

from eval.protocol import Result
from eval.results import Record, evidence_file, read_evidence, read_records, read_results, write_results
from utils.version import environment


def record(accuracy=0.75, dist=(0.5, 1.5)):
    evidence = {"dist": np.array(dist, np.float32), "issame": np.array([True, False])}
    result = Result({"accuracy": accuracy, "pairs": 2}, ("accuracy",), {"accuracy": (0.5, 1.0)}, evidence)
    return Record(result, 1, "da7a", {"fusion": "sum"})


def test_what_is_written_is_read_again(tmp_path):
    path, names = tmp_path / "results.json", ("lfw", "cross_resolution:lfw")
    write_results(path, "runs/a/model.pt", "0123", {"lfw": record(), "cross_resolution:lfw": record(0.25)})
    provenance = {"protocol": 1, "data_digest": "da7a", "options": {"fusion": "sum"}, "notes": []}
    provenance["headline"] = ["accuracy"]
    expected = {
        "model": "runs/a/model.pt",
        "model_digest": "0123",
        "targets": {"lfw": {"accuracy": 0.75, "pairs": 2}, "cross_resolution:lfw": {"accuracy": 0.25, "pairs": 2}},
        "intervals": {name: {"accuracy": [0.5, 1.0]} for name in names},
        "provenance": {name: provenance for name in names},
        "environment": environment(),
    }
    assert json.loads(path.read_text()) == expected and read_results(path) == expected
    assert evidence_file(path, "cross_resolution:lfw") == tmp_path / "results" / "cross_resolution_lfw.npz"
    for name in names:
        evidence = read_evidence(path, name)
        assert evidence["dist"].tolist() == [0.5, 1.5] and evidence["issame"].tolist() == [True, False]


def test_other_targets_of_the_same_model_stay(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, "model.pt", "0123", {"lfw": record(0.5), "own": record(0.6)})
    write_results(path, "copied/model.pt", "0123", {"lfw": record(0.7)})
    assert {name: numbers["accuracy"] for name, numbers in read_results(path)["targets"].items()} == {
        "lfw": 0.7,
        "own": 0.6,
    }
    write_results(path, "model.pt", "4567", {"lfw": record(0.8)})
    assert list(read_results(path)["targets"]) == ["lfw"]


def test_a_number_that_is_none_is_not_written(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, "model.pt", "0123", {"lfw": record()})
    before = path.read_text()
    with pytest.raises(ValueError, match="results.json: a result is not a finite number"):
        write_results(path, "model.pt", "0123", {"lfw": record(float("nan"), (7, 8))})
    assert path.read_text() == before and read_evidence(path, "lfw")["dist"].tolist() == [0.5, 1.5]
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["lfw.npz", "results", "results.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"targets": {}}',
        '{"model_digest": 1, "targets": {}, "intervals": {}, "provenance": {}}',
        "\xff",
    ],
)
def test_a_file_that_holds_no_results(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match="results.json cannot be read .*; expected results.json of an evaluation"):
        read_results(path)
    write_results(path, "model.pt", "0123", {"lfw": record()})  # is replaced
    assert list(read_results(path)["targets"]) == ["lfw"]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OSError):
        write_results(tmp_path / "absent" / "results.json", "model.pt", "0123", {"lfw": record()})
    assert not (tmp_path / "absent").exists()


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="absent.json cannot be read .No such file"):
        read_results(tmp_path / "absent.json")
    with pytest.raises(ValueError, match="lfw.npz cannot be read .No such file.*evaluate that model again"):
        read_evidence(tmp_path / "results.json", "lfw")


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "pickle"])
def test_damaged_evidence_is_named(tmp_path, damage):
    path = tmp_path / "results.json"
    write_results(path, "model.pt", "0123", {"lfw": record(dist=np.random.default_rng(0).random(2000))})
    file = evidence_file(path, "lfw")
    data = bytearray(file.read_bytes())
    if damage == "pickle":
        np.savez(file, dist=np.array([print], dtype=object))
    else:
        data[len(data) // 2] ^= 0xFF
        file.write_bytes({"cut": data[:-100], "flipped": data, "empty": b""}[damage])
    with pytest.raises(ValueError, match="lfw.npz cannot be read"):
        read_evidence(path, "lfw")


def test_records_are_read_with_their_evidence(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, "model.pt", "0123", {"lfw": record(), "own": record()})
    evidence_file(path, "own").unlink()
    _, records, unreadable = read_records(path)
    lfw, own = records["lfw"], records["own"]
    assert (lfw.result.headline, lfw.result.intervals) == (("accuracy",), {"accuracy": (0.5, 1.0)})
    assert lfw[1:] == (1, "da7a", {"fusion": "sum"}) and lfw.result.evidence["issame"].tolist() == [True, False]
    assert own.result.evidence == {} and list(unreadable) == ["own"] and "No such file" in unreadable["own"]


def test_records_of_an_earlier_version_have_the_metrics_with_intervals_as_headline(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, "model.pt", "0123", {"lfw": record()})
    content = json.loads(path.read_text())
    del content["provenance"]["lfw"]["headline"], content["environment"]
    path.write_text(json.dumps(content))
    assert read_records(path)[1]["lfw"].result.headline == ("accuracy",)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("targets", 1),
        ("targets", {"accuracy": "high"}),
        ("targets", {"accuracy": float("nan")}),
        ("intervals", {"accuracy": 3}),
        ("intervals", {"accuracy": [0.1]}),
        ("provenance", []),
    ],
)
def test_records_of_another_program(tmp_path, part, value):
    path = tmp_path / "results.json"
    write_results(path, "model.pt", "0123", {"lfw": record()})
    content = json.loads(path.read_text())
    content[part]["lfw"] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"results.json cannot be read .target 'lfw' has not the parts"):
        read_records(path)
