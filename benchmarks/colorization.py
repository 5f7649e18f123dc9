"""How well models colour gray photographs: chroma PSNR, CIEDE2000 and colourfulness on a folder of photographs.

Gray is Rec. 601 luma. Colourfulness is Hasler & Süsstrunk's; ΔCF is the mean absolute difference from the photograph's
own. Outputs are rounded to 8 bits.

    python -m benchmarks.colorization kodak24 [--models colorize run.ckpt] [--images 24]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import albumentations

from benchmarks import measuring
from benchmarks.measuring import Row
from img2img.tasks.metrics import ChromaPSNR, Colorfulness, DeltaE2000

METRICS = (ChromaPSNR(), DeltaE2000(), Colorfulness())


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="*", default=["colorize"])
    parser.add_argument("--images", type=int, help="how many, evenly spread (default: all)")
    options = parser.parse_args()
    methods = {
        "gray": lambda batch: batch["input"].expand_as(batch["target"]),
        "the photograph itself": lambda batch: batch["target"],
    } | {name: measuring.model(name) for name in options.models}
    rows: dict[str, list[Row]] = {name: [] for name in methods}
    for name, image in measuring.images(options.folder, most=options.images):
        batch = measuring.batch_of(name, image, [albumentations.ToGray(num_output_channels=1, p=1.0)])
        for label, method in methods.items():
            row = measuring.measure(method, batch, METRICS)
            rows[label].append(row | {"ΔCF": abs(row["colorfulness"] - row["colorfulness_target"])})
    print("\n| | chroma PSNR, dB | CIEDE2000 | colourfulness | ΔCF | MP/s |\n|---|---|---|---|---|---|")
    for label, found in rows.items():
        row = measuring.mean(found)
        print(f"| {label} | {row['psnr_chroma']:.2f} | {row['delta_e']:.2f} | {row['colorfulness']:.1f} | ", end="")
        print(f"{row['ΔCF']:.1f} | {row['MP/s']:.3g} |" if label in options.models else f"{row['ΔCF']:.1f} | |")
    count = len(next(iter(rows.values())))
    print(f"\n{options.folder.name}, {count} whole images, {measuring.machine()}")


if __name__ == "__main__":
    main()
