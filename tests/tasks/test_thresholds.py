import torch

from img2img.tasks.thresholds import HeldOut, Threshold, Thresholds


def test_thresholds_pass_through_a_checkpoint(tmp_path):
    normal = torch.tensor([1.0, 2.0, 3.0])
    found = Thresholds(
        {"error": HeldOut(normal, 0.95, 2.9)}, {"map": Threshold(0.01, 0.99), "contrast": Threshold(3.0, 0.99)}
    )
    torch.save(found.plain(), tmp_path / "t.pt")
    plain = torch.load(tmp_path / "t.pt", weights_only=True)
    assert plain["map"] == {"quantile": 0.99, "threshold": 0.01}
    again = Thresholds.from_plain(plain)
    assert again.pixels == found.pixels
    assert list(again.scores) == ["error"]
    assert torch.equal(again.scores["error"].normal, normal)
    assert (again.scores["error"].quantile, again.scores["error"].threshold) == (0.95, 2.9)


def test_of_an_earlier_checkpoint_there_is_no_contrast():
    plain = {"error": {"normal": torch.ones(2), "quantile": 0.95, "threshold": 1.0}}
    plain |= {"map": {"quantile": 0.99, "threshold": 0.1}, "pca_map": {"quantile": 0.99, "threshold": 0.2}}
    assert Thresholds.from_plain(plain).pixels == {"map": Threshold(0.1, 0.99), "pca_map": Threshold(0.2, 0.99)}
