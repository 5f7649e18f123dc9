"""The recipes of docs/clusters.md on two hosts: network namespaces, each with its own address and name."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.commands.hosts import PATIENT, Hosts, end, end_all
from tests.commands.models import save_model
from tests.conftest import TINY
from tests.pages import ROOT, blocks

PAGE = ROOT / "docs" / "clusters.md"
EXACT = ["--trainer.precision=64-true", "--trainer.max_steps=12", "--last.every_n_steps=3", "--data.val_images=1"]
SHORT = """
import os, sys, time
import img2img.inference.processes as processes
from img2img.cli import main
processes.PATIENCE_NETWORK = 6.0
if "SLOWLY" in os.environ:
    import img2img.inference.module as module
    step = module.TileRestorer.predict_step
    module.TileRestorer.predict_step = lambda *args: time.sleep(0.5) or step(*args)
main(sys.argv[1:])
"""
"""The program, which waits for less long; and is slow if asked to be."""
SEEN = """
import os, time
from lightning.pytorch import Callback

class Seen(Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        numbers = " ".join(map(str, batch["n"].tolist()))
        with open(f"seen-{os.environ['TAG']}-{trainer.global_rank}.txt", "a") as file:
            file.write(f"{trainer.global_step} {numbers}\\n")
        time.sleep(float(os.environ.get("PAUSE", 0)))
"""
"""A callback that notes the numbers of the samples."""


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    two = Hosts()
    two.open()
    yield two
    two.close()


def on_one_device(words: list[str]) -> list[str]:
    """A command of the page for machines with one device instead of eight."""
    return [{"8": "1"}.get(word, word) for word in words]


def commands(word: str) -> list[list[str]]:
    """The page's commands that begin with a word, for machines with one device."""
    found = [words for block in blocks(PAGE) if "#SBATCH" not in block.text for words in block.commands()]
    return [on_one_device(words) for words in found if words[0] == word]


def typed(words: list[str], number: int, *more: str) -> list[str]:
    """What to type on a host: its number, and flags that make the command quick."""
    words = words.copy()
    words[words.index("--node-rank") + 1] = str(number)
    return [sys.executable, "-m", "torch.distributed.run", *words[1:], *more]


def training_flags(photos: Path) -> list[str]:
    return [*TINY, f"--data.root={photos}", "--data.batch_size=2", *EXACT]


def trained(run: int) -> dict[str, torch.Tensor]:
    return torch.load(f"runs/denoise/{run}/last.ckpt", weights_only=True)["current_model_state"]


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def has_restored(photos: Path, processes: int) -> None:
    """Checks that several processes wrote each file once."""
    begun = [
        [json.loads(line)["begun"] for line in journal.read_text().splitlines() if "begun" in line]
        for journal in sorted(Path("restored/.img2img").glob("journal-*.jsonl"))
    ]
    assert len(begun) == processes
    assert all(begun)
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    assert sorted(itertools.chain(*begun)) == names


@pytest.mark.slow
def test_torchrun_trains_and_restores_on_two_hosts(hosts, photos, program):
    program("fit", *EXACT, "--data.batch_size=4")
    fit, restore = commands("torchrun")
    os.environ.pop("IMG2IMG_RUN", None)
    runs = [hosts.start(number, typed(fit, number, *training_flags(photos))) for number in (0, 1)]
    assert "2 × cpu" in end_all(runs)
    assert apart(trained(0), trained(1)) < 1e-9
    restore = [{"photos/": str(photos)}.get(word, word) for word in restore]
    runs = [hosts.start(number, typed(restore, number, "--accelerator=cpu", "--memory=1.281GB")) for number in (0, 1)]
    assert "Restored 10 image(s) into restored" in end_all(runs)
    has_restored(photos, 2)


SRUN = r"""#!{python}
import os, subprocess, sys
command = [word for word in sys.argv[1:] if not word.startswith("--kill-on-bad-exit")]
nodes, tasks = int(os.environ["SLURM_NNODES"]), int(os.environ["SLURM_NTASKS_PER_NODE"])
prefixes = {prefixes!r}
more = os.environ["FIT" if "fit" in command else "RESTORE"].split("\n")
started = []
for node in range(nodes):
    for task in range(tasks):
        own = dict(SLURM_NTASKS=nodes * tasks, SLURM_PROCID=node * tasks + task, SLURM_LOCALID=task, SLURM_NODEID=node)
        env = os.environ | {{name: str(value) for name, value in own.items()}}
        command[0] = "img2img"
        started.append(subprocess.Popen([*prefixes[node], sys.executable, "-m", *command, *more], env=env))
sys.exit(max(abs(process.wait()) for process in started))
"""
"""Does what SLURM's `srun` does: starts the tasks on the hosts, and tells each one its number."""


@pytest.mark.slow
def test_a_slurm_script_trains_and_restores_on_two_hosts(hosts, photos):
    script = next(block.text for block in blocks(PAGE) if "#SBATCH" in block.text)
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", script, re.M))
    assert asked["nodes"] == "2"
    assert asked["ntasks-per-node"] == re.search(r"--trainer.devices (\d+)", script)[1]
    Path("bin").mkdir()
    srun = Path("bin/srun")
    srun.write_text(SRUN.format(python=sys.executable, prefixes=[hosts._prefix(number) for number in (0, 1)]))
    srun.chmod(0o755)
    text = re.sub(r"(devices) 8\b", r"\1 1", script).replace("photos/", shlex.quote(str(photos)))
    job = {
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NAME": asked["job-name"],
        "SLURM_NODELIST": "node[0-1]",
        "SLURM_NNODES": asked["nodes"],
        "SLURM_NTASKS_PER_NODE": "1",
        "FIT": "\n".join(training_flags(photos)),
        "RESTORE": "--accelerator=cpu\n--memory=1.281GB",
        "PATH": f"{Path('bin').resolve()}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["bash", "-e"], input=text, env=os.environ | job, text=True, capture_output=True, timeout=2 * PATIENT
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert "2 × cpu" in done.stdout
    assert "Restored 10 image(s) into restored" in done.stdout
    assert [path.name for path in Path("runs/denoise").iterdir()] == ["0"]
    has_restored(photos, 2)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "unplugged"])
def test_training_goes_on_when_a_host_is_lost(how, hosts, photos, program):
    Path("seen.py").write_text(SEEN)
    program("fit", *EXACT, "--data.batch_size=4")
    os.environ.pop("IMG2IMG_RUN", None)
    (fit, _), (goes_on,) = commands("torchrun"), [c for c in commands("img2img") if "last" in c]
    fit[fit.index("--trainer.timeout") + 1] = "20"
    noted = [*training_flags(photos), "--trainer.callbacks+=seen.Seen"]
    first, _ = (
        hosts.start(number, typed(fit, number, *noted), TAG="two", PAUSE="0.5" if number == 0 else "0")
        for number in (0, 1)
    )
    seen = Path("seen-two-0.txt")
    wait_for(lambda: seen.exists() and len(seen.read_text().splitlines()) >= 4, first)
    hosts.kill(1) if how == "killed" else hosts.unplug()
    lost_at = time.monotonic()
    text = end(first, code=1)
    assert time.monotonic() - lost_at < 150
    said = [line for line in text.splitlines() if line.startswith("img2img fit")]
    assert len(said) == 1
    assert "another process of this run was lost" in said[0]
    assert "[rank0]: Traceback" not in text  # torchrun adds a table and a traceback of its own
    hosts.kill(1)
    step = torch.load("runs/denoise/1/last.ckpt", weights_only=True)["global_step"]
    alone = [sys.executable, "-m", *goes_on, *training_flags(photos)[: -len(EXACT)], "--data.batch_size=4", *EXACT]
    end(hosts.start(0, [*alone, "--trainer.callbacks+=seen.Seen"], TAG="one"))
    numbers = [list(map(int, line.split()[1:])) for line in Path("seen-one-0.txt").read_text().splitlines()]
    assert 0 < step < 12
    assert list(itertools.chain(*numbers)) == list(range(4 * step, 4 * 12))
    assert apart(trained(0), trained(1)) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_restoring_goes_on_when_a_host_is_lost(lost, hosts, photos):
    Path("short.py").write_text(SHORT)
    arguments = ["restore", str(photos), "restored", f"--model={save_model(Path('model.ckpt'))}", "--accelerator=cpu"]
    arguments += ["--devices=1", "--memory=1.281GB"]
    together = [sys.executable, "short.py", *arguments, "--num_nodes=2"]
    place = {"MASTER_ADDR": "node0", "MASTER_PORT": "29501"}  # without torchrun
    runs = [hosts.start(number, together, **place, NODE_RANK=str(number), SLOWLY="1") for number in (0, 1)]
    journal = Path(f"restored/.img2img/journal-{lost}.jsonl")
    wait_for(lambda: journal.exists() and "begun" in journal.read_text(), runs[0])
    hosts.kill(lost)
    text = end(runs[1 - lost], code=1)
    assert "Traceback" not in text
    written = len(list(Path("restored").rglob("*.png")))
    assert 0 < written < 10
    if lost == 0:
        assert "the first process, which writes the report, was lost" in text
    else:
        assert "process 1 of 2 (the first is 0) was lost" in text
        report = json.loads(Path("restored/restore_report.json").read_text())
        assert (report["restored"], report["failed"]) == (written, 0)
    text = end(hosts.start(1 - lost, [sys.executable, "short.py", *arguments]))
    assert f"Restored {10 - written} image(s) into restored, {written} were restored before" in text


def wait_for(condition, process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + PATIENT
    while not condition():
        assert process.poll() is None, end(process, None)[-3000:]
        assert time.monotonic() < limit, process.log.read_text()[-3000:]  # type: ignore[attr-defined]
        time.sleep(0.05)


def test_the_page_shows_the_recipes_that_these_tests_type():
    assert [words[words.index("-m") + 2] for words in commands("torchrun")] == ["fit", "restore"]
    assert len([words for words in commands("img2img") if "last" in words]) == 1
