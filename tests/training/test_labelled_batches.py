"""Labelled batches: every image once an epoch, its shifts and mirrors, and a seed of its own for each row."""

from __future__ import annotations

import pytest
import torch

from udc_robust.classifiers.data import LabelledImages
from udc_robust.errors import UserError
from udc_robust.training.labelled_batches import LabelledBatches


def _images(count: int = 6, side: int = 4) -> LabelledImages:
    """Image ``i`` holds ``i + 1`` in its first column and 100 elsewhere; its label is ``i``."""

    def read(index: int) -> torch.Tensor:
        image = torch.full((3, side, side), 100, dtype=torch.uint8)
        image[:, :, 0] = index + 1
        return image

    names = tuple(map(str, range(count)))
    return LabelledImages("numbers", names, tuple(range(count)), names, read, side=side)


def _batches(**changes) -> LabelledBatches:
    values = {"pad": 0, "flip": False, "batch": 3, "steps": 400, "seed": 1, **changes}
    return LabelledBatches(_images(), **values)


def test_labels_go_with_their_images_and_every_epoch_has_an_order_of_its_own() -> None:
    batches, orders = _batches(), []
    for epoch in range(20):
        rows = [batches[2 * epoch + half] for half in (0, 1)]
        labels = torch.cat([labels for _, labels, _ in rows])
        images = torch.cat([x for x, _, _ in rows])
        assert sorted(labels.tolist()) == list(range(6))
        assert torch.equal((images[:, 0, 0, 0] * 255).round().long(), labels + 1)
        orders.append(tuple(labels.tolist()))
    assert len(set(orders)) > 15


def test_images_are_shifted_by_up_to_pad_into_black_and_mirrored_every_other_time() -> None:
    batches, places, mirrored = _batches(pad=1, flip=True), set(), 0
    for step in range(100):
        for image in (batches[step][0] * 255).round():
            rows, columns = image[0].nonzero().T
            edge = image[0, rows[0]][columns.min() : columns.max() + 1]
            places.add((int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())))
            mirrored += bool(edge[-1] < 100)
            assert (image[0].amax(1) > 0).sum() >= 3
    spans = {(0, 2), (0, 3), (1, 3)}  # moved up, not at all, down
    assert {place[:2] for place in places} == spans and {place[2:] for place in places} == spans
    assert {place for place in places} == {(*a, *b) for a in spans for b in spans}
    assert 80 < mirrored < 200  # of 300; where a mirrored image is shifted its numbered column may be cut off
    assert all((batch[0, 0, 0, -1] * 255).round() == 100 for batch in (_batches()[step][0] for step in range(50)))


def test_rows_have_seeds_of_their_own_on_whichever_process() -> None:
    whole = [_batches(batch=4)[step][2].tolist() for step in range(10)]
    assert len({seed for step in whole for seed in step}) == 40
    shares = [[_batches(batch=4, rank=rank, ranks=2)[step][2].tolist() for step in range(10)] for rank in (0, 1)]
    assert shares[0] == [step[::2] for step in whole] and shares[1] == [step[1::2] for step in whole]


def test_a_batch_may_hold_all_images_and_no_more() -> None:
    assert sorted(_batches(batch=6)[0][1].tolist()) == list(range(6))
    with pytest.raises(UserError, match=r"batch_size 7 is larger than the data \(6 images\)"):
        _batches(batch=7)
