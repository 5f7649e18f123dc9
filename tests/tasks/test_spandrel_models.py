"""Networks of other people, with random weights for want of theirs, written as they publish them."""

import builtins
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import img2img
from img2img.cli import main
from img2img.tasks.checkpoint import CheckpointError
from img2img.tasks.inpainting import Inpainting
from img2img.tasks.spandrel_models import published

spandrel = pytest.importorskip("spandrel", reason="the extra spandrel is not installed")
safetensors = pytest.importorskip("safetensors.torch", reason="the extra spandrel is not installed")


def compact(scale: int = 2, channels: int = 3) -> nn.Module:
    from spandrel.architectures.Compact import Compact

    return Compact(num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=2, upscale=scale)


def esrgan() -> nn.Module:
    from spandrel.architectures.ESRGAN import ESRGAN

    return ESRGAN(num_filters=8, num_blocks=1, scale=4)


def nafnet() -> nn.Module:
    from spandrel.architectures.NAFNet import NAFNet

    network = NAFNet(width=4, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1])
    for name, weight in network.named_parameters():
        if name.endswith(("beta", "gamma")):  # zero until trained, so that the blocks would do nothing
            nn.init.uniform_(weight, -1, 1)
    return network


def scunet() -> nn.Module:
    from spandrel.architectures.SCUNet import SCUNet

    return SCUNet(config=[1] * 7, dim=64)


def swinir() -> nn.Module:
    from spandrel.architectures.SwinIR import SwinIR

    sizes = {"depths": [2, 2], "num_heads": [2, 2], "embed_dim": 8, "mlp_ratio": 2, "window_size": 8, "img_size": 64}
    return SwinIR(**sizes, upscale=2, upsampler="pixelshuffledirect")


def drunet() -> nn.Module:
    from spandrel.architectures.DRUNet import DRUNet

    return DRUNet(in_nc=4, out_nc=3, nc=[4, 8, 8, 8], nb=2)


def fftformer() -> nn.Module:
    from spandrel.architectures.FFTformer import FFTformer

    return FFTformer(dim=8, num_blocks=[1, 1, 1], num_refinement_blocks=1)


def save(network: nn.Module, path: str = "model.pth") -> str:
    torch.save(network.state_dict(), path)
    return path


def as_tensor(photo: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(photo).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize(
    ("make", "scale"),
    [(esrgan, 4), (compact, 2), (swinir, 2), (nafnet, 1), (scunet, 1), (drunet, 1), (fftformer, 1)],
)
def test_a_published_network_gives_what_its_authors_would_see(make, scale, photo):
    torch.manual_seed(0)
    path = save(make())
    task = img2img.load(path)
    assert task.scale == scale
    assert not task.training
    image = as_tensor(photo[100:164, 100:164])
    before = image.clone()
    descriptor = spandrel.ModelLoader().load_from_file(path).eval()
    expected = descriptor(image.clone())
    assert expected.shape == (1, 3, 64 * scale, 64 * scale)
    assert expected.std() > 0.01
    assert torch.allclose(task(image), expected, atol=1e-5)
    assert torch.equal(image, before)
    batch = torch.cat([image, image.flip(-1)])
    assert torch.allclose(task(batch)[:1], expected, atol=1e-5)
    for height, width in ((1, 1), (7, 5), (33, 24)):
        output = task.restore(image[..., :height, :width])
        assert output.shape == (1, 3, height * scale, width * scale)
        assert 0 <= output.min() <= output.max() <= 1


def test_the_averaged_weights_are_taken_whatever_the_wrapping_and_the_suffix(photo):
    network, worse = compact(), compact()
    image = as_tensor(photo[:8, :8])
    weights = network.state_dict()
    files = {
        "ema.pth": {"params": worse.state_dict(), "params_ema": weights},
        "params.pt": {"params": weights},
        "lightning.ckpt": {"state_dict": weights, "epoch": 3},
        "parallel.bin": {f"module.{name}": weight for name, weight in weights.items()},
    }
    for name, contents in files.items():
        torch.save(contents, name)
    torch.save(weights, "old.pth", _use_new_zipfile_serialization=False)
    safetensors.save_file(weights, "weights.safetensors")
    Path("weights.safetensors").rename("renamed.pth")
    safetensors.save_file(weights, "weights.safetensors")
    expected = img2img.load(save(network))(image)
    assert not torch.allclose(img2img.load(save(worse))(image), expected, atol=1e-3)
    for name in (*files, "old.pth", "renamed.pth", "weights.safetensors"):
        assert torch.equal(img2img.load(name)(image), expected), name


def test_gray_and_colour_go_through_networks_for_either_at_twice_the_size(photo):
    colour = as_tensor(photo[:9, :13])
    for channels in (1, 3):
        task = img2img.load(save(compact(2, channels)))
        assert task.in_channels == channels
        assert task.restore(colour).shape == (1, 3, 18, 26)
        assert task.restore(colour[:, :1]).shape == (1, 1, 18, 26)
    gray = img2img.load(save(compact(2, 1)))
    both = torch.cat([colour, colour.flip(1)])
    assert torch.allclose(gray.restore(both)[1, 2:], gray.restore(colour[:, :1])[0], atol=1e-6)


def test_autocast_leaves_a_published_network_in_its_own_precision(photo):
    task = img2img.load(save(esrgan()))
    image = as_tensor(photo[:16, :16])
    with torch.autocast("cpu", torch.bfloat16):
        output = task(image)
    assert torch.equal(output, task(image))


def test_a_network_that_fills_holes_is_given_the_mask_and_changes_nothing_else(photo):
    class Fill(nn.Module):
        def __init__(self):
            super().__init__()
            self.value = nn.Parameter(torch.tensor(0.25))

        def forward(self, image, mask):
            assert image.shape[-1] % 8 == mask.shape[-1] % 8 == 0
            return image * (1 - mask) + self.value * mask

    class Known(spandrel.Architecture):
        def __init__(self):
            super().__init__(id="Fill", detect=lambda state: set(state) == {"value"})

        def load(self, state_dict):
            sizes = spandrel.SizeRequirements(multiple_of=8)
            about = {"tags": [], "supports_half": False, "supports_bfloat16": True, "size_requirements": sizes}
            channels = {"input_channels": 3, "output_channels": 3}
            return spandrel.MaskedImageModelDescriptor(
                Fill(), state_dict, architecture=self, purpose="Inpainting", **about, **channels
            )

    class Loader(spandrel.ModelLoader):
        def __init__(self):
            registry = spandrel.ArchRegistry()
            registry.add(spandrel.ArchSupport.from_architecture(Known()))
            super().__init__(registry=registry)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spandrel, "ModelLoader", Loader)
        task = published(Fill().state_dict(), Path("fill.pth"))
    assert isinstance(task, Inpainting)
    assert task.in_channels == 3
    image = as_tensor(photo[:7, :5])
    mask = torch.zeros(1, 1, 7, 5)
    mask[..., 2:4, 1:3] = 1
    assert torch.equal(task.restore(image, mask), torch.where(mask.bool(), 0.25, image))


def test_restore_writes_images_at_the_networks_scale_with_their_alpha(photo):
    save(compact(2))
    Path("in").mkdir()
    alpha = np.zeros((20, 30, 1), np.uint8)
    alpha[:10] = 255
    Image.fromarray(np.dstack([photo[:20, :30], alpha])).save("in/a.png")
    Image.fromarray(photo[:20, :30, 0]).save("in/b.png")
    main(["restore", "in", "out", "--model", "model.pth", "--accelerator", "cpu"])
    written = np.array(Image.open("out/a.png"))
    assert written.shape == (40, 60, 4)
    assert (written[:18, :, 3] == 255).all()
    assert (written[22:, :, 3] == 0).all()
    expected = img2img.load("model.pth")(as_tensor(photo[:20, :30]))[0].permute(1, 2, 0).numpy()
    assert np.abs(written[..., :3] - expected * 255).max() <= 0.51
    assert np.array(Image.open("out/b.png")).shape == (40, 60)


def test_a_published_network_is_not_trained():
    task = img2img.load(save(nafnet()))
    with pytest.raises(img2img.errors.UserError, match="all weights of the network are frozen"):
        task.configure_optimizers()


@pytest.mark.parametrize("how", ["zip", "old", "plain"])
def test_code_in_a_pickle_is_never_run(how):
    class Evil:
        def __reduce__(self):
            return (open, ("ran", "w"))

    contents = {**compact().state_dict(), "more": Evil()}
    if how == "plain":
        Path("evil.pth").write_bytes(pickle.dumps(contents, protocol=2))
    else:
        torch.save(contents, "evil.pth", _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(CheckpointError, match=r"holds a call of .*code in a file is never run.*safetensors") as caught:
        img2img.load("evil.pth")
    assert "\n" not in str(caught.value)
    assert not Path("ran").exists()


def test_a_torchscript_program_and_a_whole_module_are_refused():
    torch.jit.save(torch.jit.trace(nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 2, 2)), "program.pt")
    with pytest.raises(CheckpointError, match=r"program\.pt .* holds a TorchScript program"):
        img2img.load("program.pt")
    torch.save(nn.Conv2d(3, 3, 1), "module.pth")
    with pytest.raises(CheckpointError, match=r"holds a call of torch\.nn\.modules\.conv\.Conv2d"):
        img2img.load("module.pth")


def test_files_of_no_use_are_told_apart():
    def said(path: str) -> str:
        with pytest.raises(CheckpointError) as caught:
            img2img.load(path)
        assert str(caught.value).startswith(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    Path("empty.pth").touch()
    assert "is not a checkpoint, or is damaged" in said("empty.pth")
    Path("page.pth").write_text("<!DOCTYPE html><p>404: no such model")
    assert "is not a checkpoint, or is damaged" in said("page.pth")
    safetensors.save_file(compact().state_dict(), "cut.safetensors")
    Path("cut.safetensors").write_bytes(Path("cut.safetensors").read_bytes()[:-9])
    assert "is not a checkpoint, or is damaged" in said("cut.safetensors")
    save(nn.Sequential(nn.Linear(3, 3)), "classifier.pth")
    assert "nor of a network that spandrel" in said("classifier.pth")
    torch.save({0: torch.zeros(3), "state": None}, "odd.pth")
    assert "is not a checkpoint of img2img" in said("odd.pth")
    weights = compact().state_dict()
    torch.save({name: weights[name] for name in list(weights)[:-2]}, "part.pth")
    assert "spandrel cannot build a network from it" in said("part.pth")
    save(compact(2, 4), "transparent.pth")
    assert "maps 4 channel(s) to 4" in said("transparent.pth")


def test_without_spandrel_the_way_to_it_is_told(monkeypatch):
    save(compact(), "a.pth")
    safetensors.save_file(compact().state_dict(), "b.safetensors")
    real = builtins.__import__

    def missing(name, *rest):
        if name.split(".")[0] in ("spandrel", "safetensors"):
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    for path in ("a.pth", "b.safetensors"):
        with pytest.raises(CheckpointError, match=r"pip install '\.\[spandrel\]'"):
            img2img.load(path)
