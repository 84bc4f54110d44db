"""The bench's IJB: ours and the peer's way print one table, and the lists written are whole."""

from eval.ijb.target import IJB
from tools.bench.evaluation import ijb


def test_both_print_the_same(tmp_path):
    shape = ijb.SMALL
    h = ijb.write(tmp_path, shape)
    printed = ijb.ours(tmp_path, shape, h)
    assert printed == ijb.peer(tmp_path, shape, h)
    assert len(set(printed)) > 3  # a table that can differ
    target = IJB(tmp_path, shape.target, with_images=False)
    assert (len(target.pairs.issame), target.pairs.issame.sum()) == (shape.pairs, shape.genuine)
    assert len(target.faces.names) == shape.images
    assert len(target.faces.templates) == shape.galleries + shape.probes
    assert len(target.search.probes.subject) == shape.probes
