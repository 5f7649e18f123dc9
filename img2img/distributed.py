"""Several processes that work on one run: what happens when one is lost, and networks divided among them."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from img2img.errors import UserError

PULSE = 1.0
"""Seconds between two signs of life of a process that works on what others wait for."""
GRACE = 15.0
"""Seconds that a process gets to end by itself when another one of its machine was lost."""


# A process is lost ------------------------------------------------------------------------------------------------


class ProcessLost(UserError):
    """Another process of the run has ended or does not answer; its message says how to go on."""

    exit_code = 1


def is_loss(error: BaseException) -> bool:
    """Returns whether an error says that other processes cannot be reached or have stopped answering."""
    if isinstance(error, distributed.DistError):
        return True
    # Gloo raises plain RuntimeErrors that begin with the place in its source, or name it.
    return isinstance(error, RuntimeError) and "gloo" in str(error).lower()


def loss(error: BaseException, waited: timedelta | None) -> ProcessLost:
    """Returns the error to raise instead; `waited` is how long processes wait for each other."""
    long = "" if waited is None else f" for {waited.total_seconds():.0f} s"
    place_and_advice = r"^\[\S+\] |\. This is typically.*"  # around gloo's reason
    reason = re.sub(place_and_advice, "", (str(error).strip().splitlines() or [type(error).__name__])[0])
    return ProcessLost(
        f"another process of this run was lost, or did not answer{long}: it was killed, or its machine or network is "
        f"gone ({reason[:200]}); run the same command again, a training with --ckpt_path last, also on fewer machines"
    )


def set_timeout(strategy: Strategy, seconds: float | None) -> None:
    """Sets how long the processes wait for each other; None keeps the strategy's own time."""
    if seconds is not None and hasattr(strategy, "_timeout"):
        strategy._timeout = timedelta(seconds=seconds)


@contextmanager
def waiting_for_all(timeout: timedelta | None) -> Iterator[None]:
    """At its end, waits for all processes, however long they work in it, unless one gives no sign of life.

    Lightning's barrier waits for ever for a process that is gone without a word. Here, each process meets the others
    once a second in a thread of its own, also while it works, and waits there no longer than the timeout.

    Args:
        timeout: How long processes wait for each other; None for torch's own time.

    Raises:
        RuntimeError: At the end, if a process was lost meanwhile; see `is_loss`.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        yield
        return
    # Of gloo, whatever the other collectives use: only gloo waits on processors.
    group: Any = distributed.new_group(backend="gloo", timeout=timeout)
    here = threading.Event()
    lost: list[Exception] = []

    def meet() -> None:
        away = torch.ones(())
        try:
            while away > 0:
                here.wait(PULSE)
                away.fill_(not here.is_set())
                distributed.all_reduce(away, group=group)
        except Exception as error:
            lost.append(error)

    thread = threading.Thread(target=meet, name="signs-of-life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        here.set()
        thread.join()
    if lost:
        raise lost[0]
    distributed.destroy_process_group(group)


class Launcher(_SubprocessScriptLauncher):
    """Starts the other processes of this machine, and says which one is lost.

    Lightning's own kills this process without a word 5 s after another one has failed.

    Args:
        launcher: Lightning's, which this one replaces.
        goes_on: Returns whether this process has work that does not need the others.
    """

    def __init__(self, launcher: _SubprocessScriptLauncher, goes_on: Callable[[], bool]) -> None:
        super().__init__(launcher.cluster_environment, launcher.num_processes, launcher.num_nodes)
        self.goes_on = goes_on
        self._gone: set[int] = set()
        self._telling, self._killed = threading.Lock(), False

    def gone(self) -> set[int]:
        """Returns the numbers, among those of all machines, of this machine's processes that have failed."""
        first = self.cluster_environment.node_rank() * self.num_processes
        return {first + number for number in self._gone}

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Starts the other processes, unless torchrun or SLURM did, and calls the function in this one."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            threading.Thread(target=self._watch, name="watch-processes", daemon=True).start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)

    def _watch(self) -> None:
        while any(process.returncode is None for process in self.procs):
            time.sleep(0.5)
            if self.name_lost() and not self.goes_on():
                time.sleep(GRACE)  # a process that waits for the lost one in NCCL would wait for long
                self.kill(signal.SIGKILL)
                os._exit(1)

    def name_lost(self) -> bool:
        """Prints which processes have been killed since the last call; returns whether any have failed."""
        with self._telling:
            found = {number: process.poll() for number, process in enumerate(self.procs, start=1)}
            new = {number: code for number, code in found.items() if code and number not in self._gone}
            self._gone |= new.keys()
        for number, code in new.items():
            if code < 0 and not self._killed:  # others have said themselves what was wrong
                print(f"img2img: process {number} of {self.num_processes} {ending(code)}", file=sys.stderr)
        return bool(new)

    def end_others(self) -> None:
        """Ends the other processes of this machine, which might wait for the lost one for long."""
        time.sleep(1)  # most end by themselves
        self.name_lost()
        self.kill(signal.SIGKILL)

    def kill(self, signum: Any) -> None:
        """Sends a signal to the other processes of this machine, of whose end nothing is said then."""
        self._killed = True
        super().kill(signum)


def ending(code: int) -> str:
    """Returns how a process was killed, in words, from the negative exit code that Python gives."""
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was killed ({name}{', perhaps for lack of memory' if name == 'SIGKILL' else ''})"


# A network is divided ---------------------------------------------------------------------------------------------


class FullyShardedStrategy(DDPStrategy):
    """Training that divides weights, gradients and optimizer state among the processes (FSDP2).

    Each process holds its part of every weight; a block's weights are gathered when the block computes. Checkpoints are
    whole, as those of other strategies: one file, which any number of processes can continue. Evaluation outside of
    training does not divide the network. On the CPU, gloo does the work.
    """

    def model_to_device(self) -> None:
        """Moves the network to the device, unless it is still to be divided: the whole might not fit."""
        assert self.lightning_module is not None
        if self.lightning_module.trainer.state.fn != "fit" or is_sharded(self.lightning_module):
            super().model_to_device()

    def configure_ddp(self) -> None:
        """Divides the network instead of wrapping it.

        Raises:
            UserError: If the task is an autoencoder, which begins with the principal components in whole weights.
        """
        assert self.lightning_module is not None
        if hasattr(self.lightning_module, "begin_at"):
            raise UserError("--trainer.strategy fsdp does not divide autoencoders; use --trainer.strategy ddp")
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        shard(self.lightning_module, mesh)
        self.model_to_device()  # the rest: metrics, and the loss's buffers

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Returns the whole weights; every process must call it."""
        return whole_state(super().lightning_module_state_dict())

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Returns the whole state of an optimizer; every process must call it."""
        state: dict[str, Any] = dict(super().optimizer_state(optimizer))
        return state | {"state": {number: whole_state(values) for number, values in state["state"].items()}}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Gives each process its part of the whole optimizer state in a checkpoint."""
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [each for group in optimizer.param_groups for each in group["params"]]
            parts = {
                number: {name: part_like(value, parameters[number]) for name, value in values.items()}
                for number, values in saved["state"].items()
            }
            optimizer.load_state_dict(saved | {"state": parts})

    def teardown(self) -> None:
        """Ends the run; leaves the divided weights where they are."""
        assert self.cluster_environment is not None
        assert self.accelerator is not None
        self.cluster_environment.teardown()
        self.precision_plugin.teardown()
        self.accelerator.teardown()
        self.checkpoint_io.teardown()


def shard(module: nn.Module, mesh: DeviceMesh) -> None:
    """Divides the weights of a task's network among the processes of a mesh, block by block."""
    network = module.network
    assert isinstance(network, nn.Module)
    for parameter in network.parameters():  # channels-last weights cannot be divided
        parameter.data = parameter.data.contiguous()
    for block in [*_blocks(network), network]:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)


def _blocks(network: nn.Module) -> list[nn.Module]:
    """Returns the modules to gather one at a time: the network's children, and those of its lists and sequences.

    A network may call the members of a sequence one by one, so that the sequence itself would not gather anything.
    """
    found: list[nn.Module] = []
    for child in network.children():
        if isinstance(child, nn.ModuleList | nn.Sequential):
            found += _blocks(child)
        elif any(True for _ in child.parameters()):
            found.append(child)
    return found


def is_sharded(module: nn.Module) -> bool:
    """Returns whether a module's weights are divided among processes."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def mesh_of(module: nn.Module) -> DeviceMesh:
    """Returns the mesh of the processes among which a module is divided."""
    return next(parameter.device_mesh for parameter in module.parameters() if isinstance(parameter, DTensor))


def whole(tensor: Tensor) -> Tensor:
    """Returns a tensor that may be divided as a whole; every process must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a state whose divided tensors are whole, on the CPU."""
    return {name: whole(value).cpu() if isinstance(value, DTensor) else value for name, value in state.items()}


def part_like(value: Any, like: Tensor) -> Any:
    """Returns this process's part of a whole tensor, divided as `like` is; other values stay as they are."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def alike(one: Sequence[Tensor], other: Sequence[Tensor]) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Yields pairs of tensors as two lists, divided ones apart: torch takes no mixture of divided and whole tensors."""
    pairs = list(zip(one, other, strict=True))
    for divided in (True, False):
        found = [pair for pair in pairs if isinstance(pair[0], DTensor) == divided]
        if found:
            yield [first for first, _ in found], [second for _, second in found]
