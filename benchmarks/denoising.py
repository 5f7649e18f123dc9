"""How well models and classical methods remove Gaussian noise: PSNR, SSIM and speed on a folder of photographs.

The protocol of the papers: unclipped float noise with a fixed seed per image; outputs clamped and rounded to 8 bits;
PSNR over all channels, averaged over images. The rivals are told sigma; a blind model is not.

    python -m benchmarks.denoising kodak24 [--crop kodak] [--sigma 15 25 50] [--models denoise run.ckpt dncnn_25.pth]
                                           [--rivals nlm wavelets tv bm3d] [--gray] [--images 24]

`bm3d` needs `pip install bm3d`, and takes 20 seconds for a crop of 500×500; `wavelets` needs `pip install PyWavelets`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import measuring, rivals
from benchmarks.measuring import Row
from img2img.corruptions import GaussianNoise
from img2img.tasks.metrics import PSNR, SSIM

NAMES = {
    "nlm": "non-local means (OpenCV)",
    "wavelets": "wavelets (scikit-image)",
    "tv": "total variation (scikit-image)",
    "bm3d": "BM3D",
}
RIVALS = tuple(NAMES)
NLM = (0.5, 0.75, 1.0)  # h as a multiple of sigma
TV = (0.02, 0.05, 0.1, 0.15, 0.25)
PUBLISHED = {  # PSNR in dB on Kodak24's crops of 500×500, from the papers named
    "CBM3D (Dabov et al. 2007)": {15: 34.28, 25: 31.68, 50: 28.46},
    "CDnCNN, one model a sigma (Zhang et al. 2017)": {15: 34.60, 25: 32.14, 50: 28.95},
    "FFDNet, told sigma (Zhang et al. 2018)": {15: 34.63, 25: 32.13, 50: 28.98},
    "DRUNet, told sigma, 32.6M (Zhang et al. 2021)": {15: 35.31, 25: 32.89, 50: 29.86},
    "Restormer, one model a sigma, 26M (Zamir et al. 2022)": {15: 35.35, 25: 32.93, 50: 29.87},
}
METRICS = (PSNR(), SSIM())


def methods(name: str, sigma: float) -> dict[str, rivals.Method]:
    """Returns a rival at several strengths, of which the best is reported."""
    if name == "nlm":
        return {f"non-local means, h {k}σ": rivals.non_local_means(k * sigma) for k in NLM}
    if name == "tv":
        return {f"total variation {w}": rivals.total_variation(w) for w in TV}
    return {"wavelets": rivals.wavelets(sigma)} if name == "wavelets" else {"BM3D": rivals.bm3d(sigma)}


def rows_of(options: argparse.Namespace, sigma: float) -> dict[str, Row]:
    """Returns the mean figures of every method at one sigma; rivals at their best strength."""
    models = {name: measuring.model(name) for name in options.models}
    tried = {name: methods(name, sigma) for name in options.rivals}
    untreated = {"untreated": {"untreated": lambda batch: batch["input"]}}
    everything = untreated | {name: {name: method} for name, method in models.items()} | tried
    found: dict[str, dict[str, list[Row]]] = {}
    for name, image in measuring.images(options.folder, options.crop, options.images):
        batch = measuring.batch_of(name, image, [GaussianNoise(sigma)] if sigma else [], options.gray)
        for group, strengths in everything.items():
            for label, method in strengths.items():
                row = measuring.measure(method, batch, METRICS)
                found.setdefault(group, {}).setdefault(label, []).append(row)
    best = {}
    for group, strengths in found.items():
        means = [measuring.mean(rows) | {"images": len(rows)} for rows in strengths.values()]
        best[group] = max(means, key=lambda row: row["psnr"])
    return best


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--crop", choices=measuring.CROPS, default="whole")
    parser.add_argument("--sigma", nargs="+", type=float, default=[15, 25, 50])
    parser.add_argument("--models", nargs="*", default=["denoise"])
    parser.add_argument("--rivals", nargs="*", choices=RIVALS, default=[])
    parser.add_argument("--gray", action="store_true", help="Rec. 601 luma, one channel")
    parser.add_argument("--images", type=int, help="how many, evenly spread (default: all)")
    options = parser.parse_args()
    by_sigma = {sigma: rows_of(options, sigma) for sigma in options.sigma}
    heads = [f"σ {sigma:g}: PSNR | SSIM" for sigma in options.sigma]
    print(f"\n| method | {' | '.join(heads)} | MP/s |\n|---|{'---|---|' * len(heads)}---|")
    for name in next(iter(by_sigma.values())):
        cells = [f"{rows[name]['psnr']:.2f} | {rows[name].get('ssim', 0):.4f}" for rows in by_sigma.values()]
        speed = "" if name == "untreated" else f"{by_sigma[options.sigma[-1]][name]['MP/s']:.3g}"
        print(f"| {NAMES.get(name, name)} | {' | '.join(cells)} | {speed} |")
    if options.crop == "kodak" and not options.gray:
        for name, values in PUBLISHED.items():
            cells = [f"{values[s]:.2f} | " if s in values else " | " for s in options.sigma]
            print(f"| published: {name} | {' | '.join(cells)} | |")
    count = by_sigma[options.sigma[0]]["untreated"]["images"]
    about = f"{options.folder.name}, {count} images ({options.crop}), {measuring.machine()}"
    print(f"\n{about}; rivals at their best strength")


if __name__ == "__main__":
    main()
