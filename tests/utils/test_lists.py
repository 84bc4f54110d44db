import pytest

from utils.lists import ListError, text_lines


@pytest.mark.parametrize("name", ["absent", "."])
def test_no_file(tmp_path, name):
    with pytest.raises(ListError, match="cannot be read: No such file|is no file"):
        list(text_lines(tmp_path / name))
