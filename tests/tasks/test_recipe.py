import importlib
from pathlib import Path

import pytest
import torch

from img2img import build, load
from img2img.tasks.checkpoint import CheckpointError, copy_weights

RECIPE = {
    "class_path": "img2img.tasks.Restoration",
    "init_args": {"network": {"class_path": "img2img.networks.RestorationUNet", "init_args": {"channels": [8, 8]}}},
}


def checkpoint_with(recipe: object, path: Path = Path("model.ckpt")) -> Path:
    state = build(RECIPE).state_dict()
    torch.save({"state_dict": state, "img2img": {"format": 1, "version": "0", "recipe": recipe}}, path)
    return path


def network(class_path: str, **init_args: object) -> dict[str, object]:
    inner = {"class_path": class_path, "init_args": init_args}
    return {"class_path": "img2img.tasks.Restoration", "init_args": {"network": inner}}


def test_a_task_comes_back_with_its_weights():
    task = build(RECIPE)
    for parameter in task.parameters():
        torch.nn.init.uniform_(parameter, -0.1, 0.1)
    torch.save(
        {"state_dict": task.state_dict(), "img2img": {"format": 1, "version": "0", "recipe": RECIPE}},
        "m.ckpt",
    )
    loaded = load("m.ckpt")
    assert not loaded.training
    image = torch.rand(1, 3, 9, 13)
    assert torch.equal(loaded(image), task(image))
    assert not torch.equal(loaded(image), image)


def test_a_loaded_task_can_be_trained_with_any_optimizer(checkpoint):
    kept = torch.load(checkpoint, weights_only=True)
    assert kept["img2img"]["optimizer"] == "MuonAdamW"
    assert load(checkpoint)._trained_with is None


def test_short_names_are_enough_to_build_but_not_in_a_file():
    network = {"class_path": "RestorationUNet", "init_args": {"channels": [8, 8]}}
    short = {"class_path": "Restoration", "init_args": {"network": network, "loss": {"class_path": "L1Loss"}}}
    task = build(short)
    assert isinstance(task.loss, torch.nn.L1Loss)
    assert task.recipe["init_args"]["network"]["class_path"] == "img2img.networks.RestorationUNet"
    with pytest.raises(CheckpointError, match="Denoiser"):
        build({"class_path": "Denoiser"})
    with pytest.raises(CheckpointError, match="outside the trusted packages"):
        load(checkpoint_with(short))


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 1000)])
def test_any_size_stays_in_range(checkpoint, size):
    image = torch.rand(2, 3, *size) * 2 - 0.5
    output = load(checkpoint)(image)
    assert output.shape == image.shape
    assert 0 <= output.min() <= output.max() <= 1


def test_a_foreign_class_is_not_even_imported(monkeypatch):
    Path("evil.py").write_text("open('ran', 'w').close()\nclass Net: pass\n")
    path = checkpoint_with(network("evil.Net"))
    monkeypatch.syspath_prepend(".")
    with pytest.raises(CheckpointError, match=r"'evil\.Net', which is outside the trusted packages"):
        load(path)
    assert not Path("ran").exists()
    importlib.import_module("evil")
    assert Path("ran").exists(), "it could have been imported"


def test_a_trusted_package_may_be_named(monkeypatch):
    Path("my_networks.py").write_text(
        "from torch import nn\nclass Same(nn.Identity):\n    def __init__(self, in_channels=3): super().__init__()\n"
    )
    monkeypatch.syspath_prepend(".")
    recipe = network("my_networks.Same")
    torch.save({"state_dict": {}, "img2img": {"format": 1, "version": "0", "recipe": recipe}}, "m.ckpt")
    image = torch.rand(1, 3, 4, 4)
    assert torch.equal(load("m.ckpt", trust=["my_networks"])(image), image)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (network("os.system", command="true"), "outside the trusted packages"),
        (network("torch.hub.load", repo_or_dir="x"), "outside the trusted packages"),
        (network("torch.nnx.Linear"), "outside the trusted packages"),
        (network("torch.nn.functional.relu"), "not a class of a trusted package"),
        (network("torchmetrics.multimodal.CLIPScore", model_name_or_path="x"), "outside the trusted packages"),
        (network("torchvision.datasets.ImageFolder"), "not a Module"),
        (network("torch.nn.NoSuchLayer"), "does not exist here"),
        (network("img2img.networks.RestorationUNet", chanels=[8]), "does not take these arguments"),
        ({"class_path": "torch.nn.Identity"}, "not a Task"),
        (
            {"class_path": "img2img.tasks.Restoration", "init_args": {"lr": [{"class_path": "os.system"}]}},
            "outside",
        ),
        (None, "holds no recipe"),
    ],
)
def test_dangerous_or_broken_recipes_load_nothing_and_say_so(recipe, said):
    with pytest.raises(CheckpointError, match=said):
        load(checkpoint_with(recipe))


def test_a_class_that_a_trusted_module_merely_imported_is_refused():
    with pytest.raises(CheckpointError, match="not a class of a trusted package"):
        build(network("img2img.tasks.recipe.Path"))


def test_pickled_code_is_refused():
    class Evil:
        def __reduce__(self):
            return (open, ("ran", "w"))

    torch.save({"state_dict": Evil()}, "evil.ckpt")
    with pytest.raises(CheckpointError, match="not a safe checkpoint"):
        load("evil.ckpt")
    assert not Path("ran").exists()


def test_missing_damaged_and_other_files():
    with pytest.raises(FileNotFoundError, match=r"no\.ckpt does not exist"):
        load("no.ckpt")
    path = checkpoint_with(RECIPE)
    Path("cut.ckpt").write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match=r"cut\.ckpt is not a checkpoint, or is damaged"):
        load("cut.ckpt")
    for first_byte in "teuasbc]}":
        Path("text.ckpt").write_text(f"{first_byte}his is not a checkpoint")
        with pytest.raises(CheckpointError, match=r"text\.ckpt is not a"):
            load("text.ckpt")
    torch.save({"weights": torch.zeros(3)}, "other.ckpt")
    with pytest.raises(CheckpointError, match=r"other\.ckpt is not a checkpoint of img2img"):
        load("other.ckpt")
    with pytest.raises(CheckpointError, match="holds no state_dict"):
        copy_weights(Path("other.ckpt"), torch.nn.Identity())
    torch.save(torch.zeros(3), "tensor.ckpt")
    with pytest.raises(CheckpointError, match=r"tensor\.ckpt holds no state_dict but a Tensor"):
        load("tensor.ckpt")
    torch.save({"state_dict": {}}, "lightning.ckpt")
    with pytest.raises(CheckpointError, match="not a checkpoint of img2img"):
        load("lightning.ckpt")
    torch.save({"state_dict": {}, "img2img": {"format": 2}}, "newer.ckpt")
    with pytest.raises(CheckpointError, match="was written by a newer img2img"):
        load("newer.ckpt")


def test_weights_of_another_shape_are_refused():
    path = checkpoint_with(RECIPE)
    other = {
        **RECIPE,
        "init_args": {"network": network("img2img.networks.RestorationUNet", channels=[4])["init_args"]["network"]},
    }
    state = torch.load(path, weights_only=True)
    state["img2img"]["recipe"] = other
    torch.save(state, path)
    with pytest.raises(CheckpointError, match="do not fit this model"):
        load(path)


def test_modules_in_lists_are_built_too():
    layers = [{"class_path": "torch.nn.Conv2d", "init_args": {"in_channels": 3, "out_channels": 3, "kernel_size": 1}}]
    assert isinstance(build(network("torch.nn.ModuleList", modules=layers)).network[0], torch.nn.Conv2d)
