import pytest

from img2img.data.grouping import groups_of
from img2img.errors import UserError


def parts(names: list[str], group_by: int | str) -> list[list[str]]:
    found: dict[str, list[str]] = {}
    for name, part in zip(names, groups_of(names, group_by), strict=True):
        found.setdefault(part, []).append(name)
    return list(found.values())


def test_what_the_groups_of_an_expression_match_names_the_part():
    names = ["a/part1_left.png", "a/part1_right.png", "b/part1_left.png", "b/part2_left.png", "other.png"]
    assert parts(names, r"(part\d+)_") == [names[:3], [names[3]], [names[4]]]
    assert parts(names, r"^(\w)/(part\d+)_") == [names[:2], [names[2]], [names[3]], [names[4]]]
    assert parts(names, r"part\d") == [names[:3], [names[3]], [names[4]]], "without groups, all of the match"
    assert parts(["x/1.png", "x/2.png", "1.png"], "^(x)?/?") == [["x/1.png", "x/2.png"], ["1.png"]]


def test_close_numbers_in_a_folder_are_one_part():
    names = ["exp4_num_1090.jpg", "exp1_num_1000.jpg", "exp2_num_1040.jpg", "exp1_num_1079.jpg", "cover.jpg"]
    assert parts(names, 39) == [[names[0], names[3]], [names[1]], [names[2]], [names[4]]]
    assert parts(names, 41) == [names[:4], [names[4]]], "a chain"
    assert parts(["x/1.png", "y/1.png", "x/2.png"], 2) == [["x/1.png", "x/2.png"], ["y/1.png"]]
    assert parts(["1_a.png", "1_b.png", "2_a.png"], 1) == [["1_a.png", "1_b.png"], ["2_a.png"]]


def test_what_cannot_be_meant_is_said():
    with pytest.raises(UserError, match=r"--data.group_by \(a is no regular expression: "):
        groups_of(["a.png"], "(a")
    with pytest.raises(UserError, match=r"--data.group_by b matches no path, such as a.png"):
        groups_of(["a.png"], "b")
    with pytest.raises(UserError, match=r"1 or more"):
        groups_of(["a.png"], 0)
