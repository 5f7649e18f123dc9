"""Makes every picture of the documentation with the program's own commands.

    python docs/gallery.py --kodak kodak24 --clothing clothing [PART …]

The parts are `preview`, `restored`, `report`, `training`, `latents` and `anomalies` (default: all). They write into
docs/pictures/, and train for minutes on one core of a CPU. `--kodak` is a folder with Kodak24, which no shipped model
was trained on (data/kodak24/prepare.py); `--clothing` has a folder of photographs for each class, such as the clothing
data set (CC0). `report` and `training` need Chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from albumentations import ToGray
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from img2img.cli import main as img2img
from img2img.commands.watch import serve
from img2img.corruptions import CameraNoise, GaussianNoise, Strokes, TextMask
from img2img.data.pairs import Transform
from img2img.imaging.drawing import draw_sheet

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
QUALITY = 85  # of the JPEGs
PREVIEWED = {
    **dict.fromkeys(("denoise", "denoise_camera", "denoise_photo", "denoise_without_clean", "colorize"), ""),
    **dict.fromkeys(("inpaint", "restore_old_photo", "pairs"), ""),
    **dict.fromkeys(("autoencode", "anomaly"), "clothing"),
}
"""Configs, and the folder that each shows where that is not the starter set."""
RESTORED: dict[str, tuple[str, tuple[int, int], list[Transform]]] = {
    "denoise": ("23", (40, 60), [GaussianNoise(50.0)]),
    "denoise_photo": ("04", (90, 140), [CameraNoise(0.006)]),
    "inpaint": ("19", (80, 250), [TextMask(), Strokes(width=(3, 8))]),
    "colorize": ("16", (192, 100), [ToGray(num_output_channels=3, p=1.0)]),
}
"""Shipped models: the photograph, left and top of the part that is shown, and what was wrong with it."""
LIMITS: dict[str, tuple[str, tuple[int, int], list[Transform]]] = {
    "denoise": ("13", (300, 210), [GaussianNoise(50.0)]),
    "denoise_photo": ("13", (300, 210), [CameraNoise(0.03)]),
    "inpaint": ("04", (120, 100), [Strokes(width=(60, 60))]),
    "colorize": ("22", (240, 130), [ToGray(num_output_channels=3, p=1.0)]),
}
"""Where they fail, in the same way."""
PART = (384, 288)  # width and height of such a part, pixels
CLOTHES = ("shoes", "shorts", "pants", "dress", "t-shirt", "hat")
"""Kinds of clothes for an autoencoder; it never sees the first one."""
SIDE = 128  # of the parts of the gravel, pixels

Pixels = NDArray[np.uint8]


def save(picture: Pixels, name: str) -> None:
    """Writes a picture of the documentation."""
    path = PICTURES / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, quality=QUALITY, optimize=True)


def sheet(rows: Sequence[Sequence[Pixels]], captions: Sequence[str] = ()) -> Pixels:
    """Returns images in rows, H×W×3; captions stand under the images of the first rows."""
    flat = torch.from_numpy(np.stack([image for row in rows for image in row])).permute(0, 3, 1, 2) / 255
    texts = [*captions, *[""] * (len(flat) - len(captions))]
    return draw_sheet(flat, len(rows[0]), texts if captions else None)


def preview(options: argparse.Namespace) -> None:
    """Draws what each task sees in training."""
    for config, folder in PREVIEWED.items():
        root = [f"--data.root={getattr(options, folder)}"] if folder else []
        with TemporaryDirectory() as name:
            output = Path(name) / "pairs.png"
            img2img(["preview", str(output), f"--config={config}.yaml", "--n=4", *root])
            save(np.array(Image.open(output)), f"preview/{config}.jpg")


def damaged(photograph: Pixels, wrong: Sequence[Transform]) -> tuple[Pixels, Pixels]:
    """Returns the photograph with what is wrong, clipped to 8 bits, and the mask of its holes, H×W in {0, 255}."""
    image, mask = photograph, np.zeros(photograph.shape[:2], np.uint8)
    for number, transform in enumerate(wrong):
        transform.set_random_seed(number)
        changed = transform(image=image, mask=mask)
        image, mask = changed["image"], changed["mask"]
    return image, mask * 255


def restored(options: argparse.Namespace) -> None:
    """Draws photographs before and after the shipped models, and where each model fails, beside the original."""
    triples = [before_and_after(options.kodak, model, *photograph) for model, photograph in RESTORED.items()]
    save(sheet([[before for before, _, _ in triples], [after for _, after, _ in triples]]), "restored.jpg")
    for model, photograph in LIMITS.items():
        triple = before_and_after(options.kodak, model, *photograph)
        save(sheet([triple], ["given", model, "original"]), f"limits/{model}.jpg")


def before_and_after(
    kodak: Path, model: str, number: str, corner: tuple[int, int], wrong: Sequence[Transform]
) -> tuple[Pixels, Pixels, Pixels]:
    """Returns a part of a damaged photograph, of it restored as a whole, and of the original."""
    (source,) = kodak.rglob(f"*{number}.png")
    original = np.array(Image.open(source).convert("RGB"))
    image, mask = damaged(original, wrong)
    with TemporaryDirectory() as name:
        given, holes, output = (Path(name) / file for file in ("given.png", "mask.png", "restored.png"))
        Image.fromarray(image).save(given)
        Image.fromarray(mask).save(holes)
        masked = [f"--mask={holes}"] if mask.any() else []
        img2img(["restore", str(given), str(output), f"--model={model}", *masked])
        whole = (image, np.array(Image.open(output)), original)
    (left, top), (width, height) = corner, PART
    before, after, true = (pixels[top : top + height, left : left + width] for pixels in whole)
    return before, after, true


def screenshot(page: str, name: str, size: tuple[int, int] = (1100, 900)) -> None:
    """Writes a picture of a page as a browser shows it."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if browser is None:
        raise SystemExit(f"{name} needs Chromium")
    with TemporaryDirectory() as folder:
        shot = Path(folder) / "page.png"
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=20000"]
        flags += [f"--window-size={size[0]},{size[1]}", f"--screenshot={shot}", f"--user-data-dir={folder}/profile"]
        subprocess.run([browser, *flags, page], check=True, capture_output=True, timeout=120)
        save(np.array(Image.open(shot).convert("RGB")), name)


def report(options: argparse.Namespace) -> None:
    """Takes a picture of the page that `restore --html` writes."""
    with TemporaryDirectory() as name:
        work = Path(name)
        (work / "photos").mkdir()
        for number in ("03", "07", "15"):
            (source,) = options.kodak.rglob(f"*{number}.png")
            image, _ = damaged(np.array(Image.open(source).convert("RGB")), [CameraNoise(0.008)])
            Image.fromarray(image).save(work / "photos" / f"photograph-{number}.png")
        img2img(["restore", str(work / "photos"), str(work / "restored"), "--model=denoise_photo", "--html"])
        screenshot((work / "restored" / "restore_report.html").as_uri(), "report.jpg")


def training(options: argparse.Namespace) -> None:
    """Takes a picture of TensorBoard after the training of a VAE of clothes, and draws what each latent changes."""
    with TemporaryDirectory() as name, contextlib.chdir(name):
        Path("clothes").mkdir()
        for kind in CLOTHES:
            Path("clothes", kind).symlink_to(options.clothing / kind)
        length = ["--trainer.max_steps=300", "--trainer.val_check_interval=100"]
        img2img(["fit", "--config=vae.yaml", "--data.root=clothes", *length])
        screenshot(f"{serve(Path('runs'))}#images", "tensorboard.jpg", (1300, 1000))
        image = min(Path("clothes", "dress").iterdir())
        img2img(["traverse", str(image), "traversal.png", "--model=runs/vae/0/best.ckpt", "--latents=6"])
        save(np.array(Image.open("traversal.png").convert("RGB")), "traversal.jpg")


def latents(options: argparse.Namespace) -> None:
    """Draws what an autoencoder is, with the script of that page."""
    folders = [str(options.clothing / name) for name in CLOTHES]
    command = [sys.executable, "-m", "examples.what_is_an_autoencoder", str(PICTURES / "autoencoder"), *folders]
    subprocess.run(command, cwd=ROOT, check=True)


def anomalies(options: argparse.Namespace) -> None:
    """Draws what lies on gravel, as a model marks it that has only seen the other half of the gravel."""
    gravel = Image.open(ROOT / "data" / "starter" / "train" / "gravel-1.png").convert("L")
    with TemporaryDirectory() as name:
        work = Path(name)
        for i, top in enumerate(range(0, SIDE + 1, SIDE // 8)):
            part = work / "gravel" / f"{i}.png"
            part.parent.mkdir(exist_ok=True)
            gravel.crop((0, top, SIDE, top + SIDE)).save(part)
        data = [f"--data.root={part.parent}", "--data.crop_size=96", "--data.batch_size=6"]
        length = ["--trainer.max_steps=400", "--trainer.val_check_interval=200"]
        img2img(["fit", "--config=anomaly.yaml", *data, *length, f"--trainer.default_root_dir={work / 'runs'}"])
        (work / "found").mkdir()
        for i, draw in enumerate((coin, wire)):
            draw(gravel.crop((SIDE, i * SIDE, 2 * SIDE, (i + 1) * SIDE))).save(work / "found" / f"{i}.png")
        model = work / "runs" / "anomaly" / "0" / "best.ckpt"
        img2img(["score", str(work / "found"), str(work / "scores.csv"), f"--model={model}", f"--maps={work / 'maps'}"])
        files = [path for i in range(2) for path in (work / "found" / f"{i}.png", work / "maps" / f"{i}.overlay.png")]
        save(sheet([[np.array(Image.open(path).convert("RGB").resize((256, 256))) for path in files]]), "anomalies.jpg")


def coin(image: Image.Image) -> Image.Image:
    """Returns the image with a smooth disk on it."""
    ImageDraw.Draw(image).ellipse((60, 40, 92, 72), fill=170, outline=90, width=2)
    return image


def wire(image: Image.Image) -> Image.Image:
    """Returns the image with a bent line on it."""
    ImageDraw.Draw(image).line([(10, 90), (45, 70), (80, 85), (118, 40)], fill=230, width=3, joint="curve")
    return image


PARTS = {part.__name__: part for part in (preview, restored, report, training, latents, anomalies)}


def main() -> None:
    """Makes the pictures that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--kodak", type=Path, required=True)
    parser.add_argument("--clothing", type=Path, required=True)
    options = parser.parse_args()
    options.clothing = options.clothing.resolve()  # a part works in a folder of its own
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"no part {', '.join(sorted(unknown))}: the parts are {', '.join(PARTS)}")
    for part in options.parts or PARTS:
        PARTS[part](options)


if __name__ == "__main__":
    main()
