"""The row of batches that training reads, made ahead of time by worker processes.

A worker takes the places of one batch and returns it whole; which places, `order` says, so the row
is the same with any number of workers and starts at any step. For a GPU a worker only decodes: the
image travels as it is in the file, a tenth of what the network takes, and is resized where it goes.
With `decode_on_gpu` it does not even decode: a JPEG file travels as its bytes, a sixth of that.

Workers come from a fork server: a child forked from a process whose threads hold locks, as those of
Numba, OpenMP or CUDA may, can hang. What a broken sample raises travels back as a value and is
raised here, in one sentence. Chapter 13.
"""

import dataclasses
import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.data import dataset as data
from mrcnn_edu.data import jpeg
from mrcnn_edu.errors import UserError
from mrcnn_edu.training.batches import Batch, Sample, load_sample, make_batch, prepare, read_sample
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.order import Place, SampleOrder
from mrcnn_edu.training.schedule import config_of_step

# What reading from a process that has ended raises: from torch, from its queue, or from the socket
# through which it hands over memory.
_SIGNS_OF_DEATH = (RuntimeError, EOFError, ConnectionError, FileNotFoundError)


def _is_death(error: Exception) -> bool:
    """Whether a worker has ended, or its data set raised an error of one of these types."""
    text = str(error)
    return not text.startswith("Caught ") and (
        not isinstance(error, RuntimeError) or "DataLoader" in text
    )


class WorkerDiedError(UserError):
    """A process that loads images has ended. What was trained is not lost."""


class Loader:
    """Batches of one process, in order, and how long training waited for them.

    Args:
        dataset: images and targets; with workers it must be one that can be pickled.
        order: which image comes when.
        config: batch size, parts, workers and augmentation.
        model_config: the size of the network's input.
        device: where batches go.
        first: the step to begin with.
        rank: this process,
        world: of so many.
        prepare_late: resize and augment after a batch came to its device, not in the workers;
            by default on a GPU only, and where training decodes.

    Raises:
        UserError: `decode_on_gpu` is set and nothing here can decode on that device.
    """

    def __init__(
        self,
        dataset: data.Dataset,
        order: SampleOrder,
        config: TrainConfig,
        model_config: ModelConfig,
        device: str = "cpu",
        first: int = 0,
        rank: int = 0,
        world: int = 1,
        prepare_late: bool | None = None,
    ) -> None:
        self.config, self.model_config = config, model_config
        late = device.startswith("cuda") if prepare_late is None else prepare_late
        self.late = late or config.decode_on_gpu
        if config.decode_on_gpu:
            jpeg.check_decoder(device)
        self.dataset = dataset
        self.waited = 0.0  # seconds, for the batches of the last step
        self.device = device
        self.parts, self.first = config.accumulate, first
        workers = config.workers
        self._loader = DataLoader(
            _Samples(dataset, config, model_config, self.late),
            batch_sampler=_Places(order, config, first, rank, world),
            collate_fn=_collate,
            num_workers=workers,
            multiprocessing_context=_start_method() if workers else None,
            prefetch_factor=2 if workers else None,
            pin_memory=device.startswith("cuda"),
            worker_init_fn=_leave_signals_to_training,
            generator=torch.Generator(),  # else it draws from the global one
        )

    def __iter__(self) -> Iterator[list[Batch]]:
        """Yield the parts of each step.

        Raises:
            UserError: a sample is broken.
            WorkerDiedError: a worker was killed.
        """
        start = time.perf_counter()
        batches = iter(self._loader)
        died = ""
        try:
            for step in itertools.count(self.first):
                try:
                    parts = [self._ready(next(batches), step) for _ in range(self.parts)]
                except StopIteration:
                    return
                except _SIGNS_OF_DEATH as error:
                    raised = str(error).startswith("Caught ")  # by the data set, in a worker
                    if raised or (
                        isinstance(error, RuntimeError) and "DataLoader" not in str(error)
                    ):
                        raise
                    died = str(error) or type(error).__name__
                    break
                self.waited = time.perf_counter() - start
                yield parts
                start = time.perf_counter()
        finally:
            # Who keeps an exception keeps its frames and causes. Workers that these held would be
            # waited for at the end of the program: they ignore the SIGTERM that should end them.
            del batches
        raise WorkerDiedError(
            f"A process that loads images has died ({died}). Mostly memory ran out: "
            "give fewer --workers, or more shared memory (docker run --shm-size)."
        )

    def _ready(self, batch: Batch, step: int) -> Batch:
        batch = batch.to(self.device)
        if not self.late:
            return batch
        batch = self._decoded(batch)
        config = config_of_step(step, self.config)
        return make_batch([prepare(s, config, self.model_config) for s in batch.samples()])

    def _decoded(self, batch: Batch) -> Batch:
        """The batch, after what came as a file's bytes was decoded in one call."""
        images = list(batch.images)
        places = [i for i, image in enumerate(images) if image.ndim == 1]
        if not places:
            return batch
        try:
            decoded = jpeg.decode([images[i] for i in places], self.device)
        except RuntimeError:  # does not say which
            decoded = [self._decoded_alone(images[i], batch.image_ids[i]) for i in places]
        for i, image in zip(places, decoded, strict=True):
            images[i] = image  # [3, H, W]
        return dataclasses.replace(batch, images=images)

    def _decoded_alone(self, image: Tensor, image_id: int) -> Tensor:
        """One image; if the device's decoder does not take it, as the data set reads it."""
        try:
            return jpeg.decode([image], self.device)[0]
        except RuntimeError:
            index = self.dataset.image_ids.index(image_id)
            return read_sample(self.dataset, (0, index)).image.to(self.device)


class _Failure(str):
    """The message of a UserError that a worker met."""


class _Samples(Dataset[Sample | _Failure]):
    def __init__(
        self, dataset: data.Dataset, config: TrainConfig, model: ModelConfig, late: bool
    ) -> None:
        self.dataset, self.config, self.model_config, self.late = dataset, config, model, late

    def __getitem__(self, turn: tuple[int, Place]) -> Sample | _Failure:
        step, place = turn
        try:
            if self.late:
                return read_sample(self.dataset, place, encoded=self.config.decode_on_gpu)
            config = config_of_step(step, self.config)
            return load_sample(self.dataset, place, config, self.model_config)
        except UserError as error:
            return _Failure(error)


class _Places(Sampler[list[tuple[int, Place]]]):
    """Step and places of each batch of one process, from a step to the end of the run."""

    def __init__(
        self, order: SampleOrder, config: TrainConfig, first: int, rank: int, world: int
    ) -> None:
        self.order, self.config, self.first = order, config, first
        self.rank, self.world = rank, world

    def __iter__(self) -> Iterator[list[tuple[int, Place]]]:
        c = self.config
        for step in range(self.first, c.steps):
            for places in self.order.share(step, c.batch_size, c.accumulate, self.rank, self.world):
                yield [(step, place) for place in places]


class _Failed:
    """A batch that is not to be: what was wrong comes out where training asks for it."""

    def __init__(self, message: str) -> None:
        self.message = message

    def pin_memory(self) -> "_Failed":
        return self

    def to(self, device: str) -> Batch:
        raise UserError(self.message)


def _collate(samples: Sequence[Sample | _Failure]) -> Batch | _Failed:
    for sample in samples:
        if isinstance(sample, _Failure):
            return _Failed(str(sample))
    return make_batch([s for s in samples if isinstance(s, Sample)])


def _leave_signals_to_training(worker: int) -> None:
    """Ctrl-C reaches all processes of a terminal, a scheduler's SIGTERM all of a job.

    Training stops after its step, and needs that step's batch.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_training, daemon=True).start()


def _end_with_training() -> None:
    """End this worker when training is killed: the fork server, its parent, would wait for it."""
    training = multiprocessing.parent_process()
    assert training is not None
    training.join()
    os._exit(1)


def _start_method() -> multiprocessing.context.BaseContext:
    """How workers start: from a server that has imported the package once; on Windows each anew."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mrcnn_edu.training.loader"])
    if threading.current_thread() is threading.main_thread():
        # The server imports for seconds before it looks after Ctrl-C, which reaches it too. A
        # process that is started while its parent ignores Ctrl-C ignores it from the beginning.
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            forkserver.ensure_running()
        finally:
            signal.signal(signal.SIGINT, previous)
    return context
