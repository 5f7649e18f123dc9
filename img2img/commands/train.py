"""`img2img fit | validate | test | predict`: Lightning CLI's commands, with our tasks, data and callbacks."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Sequence

from img2img.commands.restore import finish
from img2img.errors import UserError
from img2img.inference.run import restore
from img2img.own_classes import look_for
from img2img.training.preflight import check

HELP = {
    "fit": "Train a model. The run's folder, runs/<config>/<n>/, gets best.ckpt, last.ckpt, grid.png and config.yaml.",
    "validate": "Measure a checkpoint on the validation images.",
    "test": "Measure a checkpoint on the test images: whole images, fixed noise, 8-bit PSNR and SSIM.",
    "predict": "Restore the images of --restore.input into --restore.output, as `img2img restore` does.",
}
COMMON = """\
  --config FILE                 a YAML here or among the shipped ones (`img2img configs`); may be given several times
  --ckpt_path FILE|last|best    checkpoint to resume from or to measure; last and best: of the config's newest run
                                (to measure: a shipped model's name as well, see `img2img models`)
  --resume auto                 (fit) go on in the config's newest run, or start one: the same command in a job script
  --data.root DIR|[DIR, …]      folder with train/ val/ test/, or one folder of photographs that is divided; or several
  --data.batch_size N           crops in a batch;  --data.num_workers N  processes that prepare them
  --model.weights FILE|NAME     checkpoint or shipped model whose weights to start from (fine-tuning)
  --model.optimizer CLASS       MuonAdamW, or any of torch.optim; --model.decay_steps N  the decay that ends an open run
  --trainer.max_steps N         how long to train;  --trainer.accelerator cpu|gpu|auto, --trainer.devices N,
                                --trainer.strategy ddp, --trainer.num_nodes N, --trainer.precision … as in Lightning
  --restore.input DIR           images to restore;  --restore.output DIR  where they go;  --restore.tile N, … the other
                                options of `img2img restore` (predict)
  --name NAME                   the run's folder is runs/NAME/<n>/ instead of runs/<config>/<n>/
  --seed_everything N           seed of the run (default 0)
  --print_config                print the resolved config and stop

  --help-all                    every option of Lightning CLI;  --model.help CLASS, --data.help CLASS  those of a class
Any value of the YAML can be given as a flag: --model.network.init_args.channels [32,64,128]"""


def run(command: str, argv: Sequence[str]) -> None:
    """Checks the arguments, then hands over to the Lightning CLI."""
    if "--help" in argv or "-h" in argv:
        print(f"usage: img2img {command} --config FILE [options]\n\n{HELP[command]}\n\n{COMMON}")
        return
    arguments = None if "--help-all" in argv else check(command, argv)
    if arguments is not None:
        look_for(arguments.modules, *arguments.folders)
    from img2img.callbacks.interruption import Stopped
    from img2img.trainer import first_process
    from img2img.training.cli import CLI

    if arguments is None:
        CLI(command, ["--help"], None)
    elif command == "predict":
        try:
            finish(lambda: CLI(command, arguments.argv, arguments).restored)
        except UserError as error:
            # The message names the options of `restore`, to which `predict` gives a prefix.
            own = "|".join(inspect.signature(restore).parameters)
            raise UserError(re.sub(rf"--({own})\b", r"--restore.\1", str(error))) from error
    else:
        try:
            CLI(command, arguments.argv, arguments)
        except Stopped as stop:
            if first_process():  # the others' codes would look like a failure to the first one
                print(f"img2img {command}: {stop}", file=sys.stderr)
                raise SystemExit(stop.exit_code) from None
