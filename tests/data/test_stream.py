from collections import Counter

import pytest

from img2img.data.stream import (
    EvaluationSampler,
    StreamSampler,
    draws_of_image,
    draws_of_sample,
    image_of_sample,
    part_of_sample,
)


def test_each_pass_takes_every_image_once_in_another_order():
    passes = [[image_of_sample(0, 7, p * 7 + i) for i in range(7)] for p in range(3)]
    assert all(sorted(images) == list(range(7)) for images in passes)
    assert passes[0] != passes[1] != passes[2]
    assert passes != [[image_of_sample(1, 7, p * 7 + i) for i in range(7)] for p in range(3)]


def test_samples_draw_different_numbers_and_the_same_ones_again():
    first = [draws_of_sample(0, n)[0].standard_normal() for n in range(1000)]
    assert len(set(first)) == 1000
    assert first == [draws_of_sample(0, n)[0].standard_normal() for n in range(1000)]
    assert first[0] != draws_of_sample(1, 0)[0].standard_normal()
    assert draws_of_sample(0, 3)[1].random() == draws_of_sample(0, 3)[1].random()


def test_images_draw_by_name_and_seed():
    assert draws_of_image(0, "a/b.png")[0].random() == draws_of_image(0, "a/b.png")[0].random()
    assert draws_of_image(0, "a/b.png")[0].random() != draws_of_image(0, "a/c.png")[0].random()
    assert draws_of_image(0, "a/b.png")[0].random() != draws_of_image(1, "a/b.png")[0].random()


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_each_global_batch(world_size):
    batch = 12 // world_size
    shares = [list(StreamSampler(lambda: 100, 4, batch, rank, world_size)) for rank in range(world_size)]
    for k in range(4):
        together = sorted(n for share in shares for n in share[k * batch : (k + 1) * batch])
        assert together == list(range(100 + 12 * k, 100 + 12 * (k + 1)))


def test_an_epoch_begins_where_the_stream_is():
    position = iter([0, 8])
    sampler = StreamSampler(lambda: next(position), 2, 4, 0, 1)
    assert list(sampler) == list(range(8))
    assert list(sampler) == list(range(8, 16))


@pytest.mark.parametrize(("count", "world_size"), [(7, 2), (6, 3), (1, 4)])
def test_evaluation_counts_each_item_once_and_keeps_ranks_equally_busy(count, world_size):
    shares = [list(EvaluationSampler(count, rank, world_size)) for rank in range(world_size)]
    assert len({len(share) for share in shares}) == 1
    counted = Counter(item for share in shares for item, counts in share if counts)
    assert counted == dict.fromkeys(range(count), 1)
    assert all(0 <= item < count for share in shares for item, _ in share)


def test_parts_take_turns_by_their_shares_and_miss_none_of_their_samples():
    drawn = [part_of_sample(0, (7, 2, 1), n) for n in range(200)]
    for block in range(20):
        assert sorted(part for part, _ in drawn[block * 10 : block * 10 + 10]) == [0] * 7 + [1] * 2 + [2]
    for part, share in enumerate((7, 2, 1)):
        assert [number for drawn_part, number in drawn if drawn_part == part] == list(range(20 * share))
    assert drawn == [part_of_sample(0, (7, 2, 1), n) for n in range(200)]
    assert drawn != [part_of_sample(1, (7, 2, 1), n) for n in range(200)]
