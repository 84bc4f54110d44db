"""The bench's IJB: ours and the peer's way print one table, and the lists written are whole."""

from eval.ijb.target import IJB
from tools.bench import eval_ijb_peer


def test_both_print_the_same(tmp_path):
    shape = eval_ijb_peer.SMALL
    h = eval_ijb_peer.write(tmp_path, shape)
    printed = eval_ijb_peer.ours(tmp_path, shape, h)
    assert printed == eval_ijb_peer.peer(tmp_path, shape, h)
    assert len(set(printed)) > 3  # a table that can differ
    target = IJB(tmp_path, shape.target, with_images=False)
    assert (len(target.pairs.issame), target.pairs.issame.sum()) == (shape.pairs, shape.genuine)
    assert len(target.faces.names) == shape.images
    assert len(target.faces.templates) == shape.galleries + shape.probes
    assert len(target.search.probes.subject) == shape.probes
