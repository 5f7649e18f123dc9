"""How well models and classical methods denoise real photographs that have a clean reference.

The noise level is not known: rivals run at several strengths, the same for all images, and the best is reported, which
flatters them. PSNR over all channels against the reference, outputs rounded to 8 bits.

    python -m benchmarks.real_noise polyu/noisy polyu/clean [--models denoise_photo denoise] [--rivals nlm bm3d]
                                    [--images 100]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks import measuring, rivals
from benchmarks.measuring import Row
from img2img.tasks.metrics import PSNR, SSIM

STRENGTHS = {
    "nlm": ("non-local means, h", rivals.non_local_means, (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)),
    "bm3d": ("BM3D, sigma", rivals.bm3d, (8.0, 12.0, 16.0, 20.0)),
    "wavelets": ("wavelets, sigma", rivals.wavelets, (2.0, 4.0, 6.0, 10.0)),
}


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("noisy", type=Path)
    parser.add_argument("clean", type=Path)
    parser.add_argument("--models", nargs="*", default=["denoise_photo"])
    parser.add_argument("--rivals", nargs="*", choices=STRENGTHS, default=["nlm"])
    parser.add_argument("--images", type=int, help="how many, evenly spread (default: all)")
    options = parser.parse_args()
    methods: dict[str, dict[str, rivals.Method]] = {"untreated": {"untreated": lambda batch: batch["input"]}}
    methods |= {name: {name: measuring.model(name)} for name in options.models}
    for name in options.rivals:
        label, make, strengths = STRENGTHS[name]
        methods[label] = {f"{label} {strength:g}": make(strength) for strength in strengths}
    rows: dict[str, dict[str, list[Row]]] = {name: {label: [] for label in group} for name, group in methods.items()}
    noisy, clean = (measuring.images(folder, most=options.images) for folder in (options.noisy, options.clean))
    for (name, seen), (partner, target) in zip(noisy, clean, strict=True):
        if Path(name).with_suffix("") != Path(partner).with_suffix(""):
            raise SystemExit(f"{options.noisy / name} has no partner of its name under {options.clean}")
        batch = measuring.batch_of(name, target, [])
        batch["input"] = torch.from_numpy(seen).permute(2, 0, 1)[None]
        for group, strengths in methods.items():
            for label, method in strengths.items():
                rows[group][label].append(measuring.measure(method, batch, (PSNR(), SSIM())))
    print("\n| method | PSNR, dB | SSIM | MP/s |\n|---|---|---|---|")
    for group, strengths in rows.items():
        means = {label: measuring.mean(found) for label, found in strengths.items()}
        best = max(means, key=lambda label: means[label]["psnr"])
        speed = "" if group == "untreated" else f"{means[best]['MP/s']:.3g}"
        print(f"| {best} | {means[best]['psnr']:.2f} | {means[best]['ssim']:.4f} | {speed} |")
    count = len(next(iter(rows["untreated"].values())))
    print(f"\n{options.noisy}, {count} pairs, {measuring.machine()}; rivals at their best strength")


if __name__ == "__main__":
    main()
