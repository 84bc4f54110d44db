import csv

import numpy as np
import pytest

from eval.quality_table import write_quality_csv


def test_a_csv_reader_gives_everything_back(tmp_path):
    names = ["a.jpg", 'with, comma and "quotes".jpg', "übung/1.png", "two\nlines.jpg"]
    z = np.array([21.123457, 1e-3, 100, 3.1415927], np.float32)
    indicator = np.array([-1, 1 / 3, 0.2, 1])
    write_quality_csv(tmp_path / "quality.csv", names, z, indicator)
    with (tmp_path / "quality.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["index", "image", "norm", "indicator"]
    assert [int(row[0]) for row in rows] == [0, 1, 2, 3] and [row[1] for row in rows] == names
    assert np.array_equal(np.array([row[2] for row in rows], np.float32), z)
    assert np.allclose([float(row[3]) for row in rows], indicator, rtol=1e-8)


def test_plain_lines(tmp_path):
    write_quality_csv(tmp_path / "quality.csv", ["a.jpg"], np.array([20.5]), np.array([-0.25]))
    assert (tmp_path / "quality.csv").read_bytes() == b"index,image,norm,indicator\n0,a.jpg,20.5,-0.25\n"


def test_names_that_are_not_utf_8_keep_their_bytes(tmp_path):
    write_quality_csv(tmp_path / "quality.csv", [b"\xfcbung.jpg".decode("utf-8", "surrogateescape")], [1.0], [0.0])
    assert b"0,\xfcbung.jpg,1,0\n" in (tmp_path / "quality.csv").read_bytes()


@pytest.mark.parametrize(
    "z, indicator, words",
    [
        ([1.0], [0.0, 0.0], "2 names, norms (1,) and indicators (2,)"),
        ([1.0, 2.0], [[0.0, 0.0]], "norms (2,) and indicators (1, 2)"),
        ([1.0, np.nan], [0.0, 0.0], "image 1 (b.jpg) has norm nan"),
        ([1.0, 2.0], [np.inf, 0.0], "image 0 (a.jpg) has norm 1.0, indicator inf"),
    ],
)
def test_bad_columns_leave_an_earlier_file(tmp_path, z, indicator, words):
    path = tmp_path / "quality.csv"
    path.write_text("earlier")
    with pytest.raises(ValueError) as caught:
        write_quality_csv(path, ["a.jpg", "b.jpg"], np.array(z), np.array(indicator))
    assert words in str(caught.value) and str(path) in str(caught.value)
    assert path.read_text() == "earlier" and [p.name for p in tmp_path.iterdir()] == ["quality.csv"]
