"""What is saved of a run that cannot go on: a worker died, memory ran out, someone stopped it.

Chapter 13.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from mrcnn_edu.errors import OutOfMemoryError, ran_out_of_memory
from mrcnn_edu.processes import Processes
from mrcnn_edu.training.loader import WorkerDiedError
from mrcnn_edu.training.run_folder import RunFolder
from mrcnn_edu.training.state import TrainState
from mrcnn_edu.training.stop import StopRequest, TrainingInterruptedError
from mrcnn_edu.weights.checkpoint import MODEL


@contextmanager
def saved_in_the_end(
    state: TrainState, run: RunFolder, group: Processes, stop: StopRequest
) -> Iterator[None]:
    """Save when a worker dies or memory runs out, where that leaves the state whole.

    The loop asks for images between steps; memory that forward and backward pass lack is asked for
    before the optimiser begins.

    Args:
        state: of the run.
        run: where it is saved.
        group: the processes; the first saves.
        stop: whether this process was asked to stop.

    Raises:
        UserError: a WorkerDiedError, OutOfMemoryError or TrainingInterruptedError that says what
            happened, and what is kept.
    """
    try:
        yield
    except WorkerDiedError as error:
        if not group.first:
            raise
        run.save(state)
        if stop.requested:  # whoever ended the workers asked this process to stop too
            raise interrupted(state, run) from error
        raise WorkerDiedError(
            f"{error} Everything up to step {state.step} is saved in {run.path}; the same command "
            "goes on there."
        ) from error
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        state.optimizer.zero_grad(set_to_none=True)
        saved = group.first and not state.moving and _saved(state, run)
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        kept = f"step {state.step}" if saved else "the last checkpoint"
        raise OutOfMemoryError(
            f"Memory ran out in step {state.step + 1} ({first_line}). Everything up to {kept} is "
            f"in {run.path}. Take fewer images at a time with --accumulate, which "
            "the same run may go on with, or another run of smaller images with --short-side."
        ) from error


def _saved(state: TrainState, run: RunFolder) -> bool:
    """Try to save with the little memory that there is."""
    try:
        run.save(state)
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        return False
    return True


def interrupted(state: TrainState, run: RunFolder) -> TrainingInterruptedError:
    """What is said when a run was asked to stop, and was saved."""
    return TrainingInterruptedError(
        f"Stopped after step {state.step} of {run.train_config.steps}; everything is saved in "
        f"{run.path}. Run the same command again to go on, or use {run.path / MODEL} with "
        "`mrcnn-edu evaluate` and `mrcnn-edu predict` as it is."
    )
