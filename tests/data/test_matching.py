import pytest

from img2img.data.matching import listed, match_names


@pytest.mark.parametrize(
    ("left", "right", "pairs"),
    [
        (["a.jpg", "b/a.jpg"], ["b/a.png", "a.png"], {"a.jpg": "a.png", "b/a.jpg": "b/a.png"}),
        (["a.JPG"], ["a.jpg"], {"a.JPG": "a.jpg"}),
        (["a.png", "a.tif"], ["a.png", "a.webp"], {"a.png": "a.png", "a.tif": "a.webp"}),  # the very same wins
        (["a.tif", "a.JPG"], ["a.jpg", "a.bmp"], {"a.JPG": "a.jpg", "a.tif": "a.bmp"}),
        (["a.1.jpg", "a.2.jpg"], ["a.1.png", "a.2.png"], {"a.1.jpg": "a.1.png", "a.2.jpg": "a.2.png"}),
    ],
)
def test_names_match_with_any_extension(left, right, pairs):
    matches = match_names(left, right)
    assert matches.pairs == pairs
    assert [*matches.ambiguous, *matches.left, *matches.right] == []


def test_what_matches_nothing_is_left_over():
    matches = match_names(["a.png", "b.png", "a.jpg"], ["a.png", "c.png"])
    assert matches.pairs == {"a.png": "a.png"}
    assert (matches.left, matches.right) == (["a.jpg", "b.png"], ["c.png"])


def test_several_of_one_name_are_ambiguous():
    matches = match_names(["a.png", "b.png"], ["a.jpg", "a.tif", "b.jpg"])
    assert matches.ambiguous == [(["a.png"], ["a.jpg", "a.tif"])]
    assert matches.pairs == {"b.png": "b.jpg"}
    assert [*matches.left, *matches.right] == []


def test_long_lists_are_cut():
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(i) for i in range(12)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, and 2 more"
