"""What each task reaches after equal training time, compared with the untreated image and OpenCV.

Trains `denoise`, `inpaint`, `colorize` and `denoise_without_clean` one after the other, each for the same time, and
measures all on whole images with the corruptions of their configs' `evaluation`. Every method gets the same corruption;
OpenCV gets it clamped and rounded to 8 bits, which it requires. All outputs are rounded to 8 bits. A finished run is
measured, not trained again.

    python -m benchmarks.every_task TRAIN_FOLDER TEST_FOLDER [--minutes 15] [--runs runs/every_task] [--only denoise …]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import torch

from benchmarks.rivals import Method, non_local_means, opencv_inpainting

TASKS = ("denoise", "inpaint", "colorize", "denoise_without_clean")
NLM_STRENGTHS = (0.5, 0.75, 1.0)  # h as a multiple of sigma; the best for the mean is reported
Row = dict[str, dict[str, list[float]]]  # metric → method → a value for each image


def train(task: str, folder: str, minutes: int, runs: Path, flags: Sequence[str]) -> Path:
    """Returns the run's last checkpoint, with averaged weights; trains it if there is none.

    Raises:
        SystemExit: If the existing checkpoint was trained for another length of time.
    """
    from img2img.cli import main

    checkpoint = runs / task / "0" / "last.ckpt"
    if not checkpoint.exists():
        length = ["--trainer.max_steps=-1", f"--trainer.max_time=00:{minutes // 60:02}:{minutes % 60:02}:00"]
        rarely = ["--trainer.val_check_interval=400", "--data.val_images=8"]
        place = [f"--trainer.default_root_dir={runs}", f"--data.root={folder}"]
        main(["fit", "--config", f"{task}.yaml", *length, *rarely, *place, *flags])
    saved = torch.load(checkpoint, weights_only=True)
    elapsed = saved["callbacks"]["Timer"]["time_elapsed"]["train"] / 60
    if not minutes <= elapsed < minutes + 2:
        sys.exit(f"{checkpoint} was trained for {elapsed:.1f} minutes; delete it, or give --minutes")
    print(f"\n{task}: {saved['global_step']} steps in {elapsed:.1f} minutes")
    return checkpoint


def evaluation_items(task: str, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each test image with each corruption of the config, as the name of the corruption and a batch of one."""
    from img2img.data.pairs import EvaluationPairs, collate
    from img2img.data.splits import whole_folder
    from img2img.training.from_config import task_and_data
    from img2img.training.preflight import find_config

    _, data = task_and_data(find_config(f"{task}.yaml"), [])
    pairs = EvaluationPairs(whole_folder(Path(folder)), data.cache, data.evaluation, 0)
    for number in range(len(pairs)):
        batch = collate([pairs[number, True]])
        yield batch["corruption"][0], batch


def rivals(task: str, corruption: str) -> dict[str, Method]:
    """Returns OpenCV's methods for a task, by name."""
    if task == "inpaint":
        return {
            "Telea": opencv_inpainting(cv2.INPAINT_TELEA),
            "Navier-Stokes": opencv_inpainting(cv2.INPAINT_NS),
        }
    if task == "denoise":
        sigma = float(corruption.removeprefix("sigma"))
        return {f"non-local means {k}": non_local_means(k * sigma) for k in NLM_STRENGTHS}
    return {}


def measure(task: str, checkpoint: Path, folder: str) -> tuple[dict[str, Row], str]:
    """Returns the metrics of each method for each corruption, and the result of a check of the outputs."""
    import img2img
    from img2img.tasks.colour import luma
    from img2img.tasks.metrics import Images, as_8_bit

    model: Any = img2img.load(checkpoint)
    rows: dict[str, Row] = {}
    changed, off = 0, 0.0
    for corruption, batch in evaluation_items(task, folder):
        with torch.inference_mode():
            output = model.finish(model.forward_batch(batch), batch)
        rounded = as_8_bit(output)
        seen, target = as_8_bit(batch["input"]).expand_as(batch["target"]), batch["target"]
        if model.needs_mask:
            changed += int((output != batch["input"])[~batch["mask"].bool().expand_as(output)].sum())
        if task == "colorize":
            gray = (batch["input"] * 255).round()
            off = max(off, float((luma(rounded) * 255 - gray).abs().max()))
        outputs = {name: method(batch) for name, method in rivals(task, corruption).items()}
        for name, image in ({"untreated": seen} | outputs | {"img2img": rounded}).items():
            for metric in model.metrics:
                for key, value in metric(Images(seen, image, target, batch["mask"])).items():
                    if not key.endswith("_input"):
                        rows.setdefault(corruption, {}).setdefault(key, {}).setdefault(name, []).append(value)
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    checks = {
        "inpaint": f"values outside the holes that differ from the input: {changed}",
        "colorize": f"largest difference of the 8-bit output's luma from the input: {off:.2f} levels of 255",
    }
    return rows, checks.get(task, "")


def report(task: str, rows: dict[str, Row], check: str) -> None:
    """Prints a table: a line for each corruption and metric, a column for each method."""
    print(f"\n{task}" + (f" ({check})" if check else ""))
    for corruption, metrics in rows.items():
        for metric, methods in metrics.items():
            means = {name: statistics.fmean(values) for name, values in methods.items()}
            tried = {name: means.pop(name) for name in list(means) if name.startswith("non-local means")}
            if tried:
                best = max(tried, key=lambda name: tried[name])
                means = {"untreated": means["untreated"], f"{best}σ": tried[best], "img2img": means["img2img"]}
            cells = "  ".join(f"{name} {mean:.3f}" for name, mean in means.items())
            print(f"  {corruption:14} {metric:20} {cells}")


def main() -> None:
    """Trains what is missing, and prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--minutes", type=int, default=15)
    parser.add_argument("--runs", type=Path, default=Path("runs/every_task"))
    parser.add_argument("--only", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--flag", action="append", default=[], help="of img2img fit, such as --flag=--model.lr=1e-3")
    options = parser.parse_args()
    for task in options.only:
        checkpoint = train(task, options.train, options.minutes, options.runs, options.flag)
        report(task, *measure(task, checkpoint, options.test))
    cores, torch_version = torch.get_num_threads(), torch.__version__
    print(f"\nseed 0, {options.minutes} minutes a task, {cores} threads of {platform.machine()}, torch {torch_version}")


if __name__ == "__main__":
    main()
