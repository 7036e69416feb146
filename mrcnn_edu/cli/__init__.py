"""The command line: `mrcnn-edu quickstart | train | evaluate | predict | ablate | data | config`.

Each command is a dataclass of its options, which tyro turns into flags and help. A mistake of the
user ends in one sentence and exit code 1; everything else is a bug and shows its traceback.

The options are declared without torch, which takes seconds to load: a help text must not wait for
it. What a command needs to run is imported when it runs.
"""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from mrcnn_edu.cli.ablate import Ablate
from mrcnn_edu.cli.config import Config
from mrcnn_edu.cli.data import DataCommand
from mrcnn_edu.cli.evaluate import Evaluate
from mrcnn_edu.cli.predict import Predict
from mrcnn_edu.cli.terminal import print_anything, say
from mrcnn_edu.cli.train import Quickstart, Train
from mrcnn_edu.errors import UserError, ran_out_of_memory
from mrcnn_edu.training.stop import TrainingInterruptedError


def command_line(arguments: Sequence[str]) -> Any:
    """All commands as one type, with the defaults that the arguments ask for."""
    return (
        Annotated[Quickstart, tyro.conf.subcommand("quickstart")]
        | Annotated[Train, tyro.conf.subcommand("train", default=Train.default(arguments))]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
        | Annotated[Predict, tyro.conf.subcommand("predict")]
        | Annotated[Ablate, tyro.conf.subcommand("ablate")]
        | Annotated[DataCommand, tyro.conf.subcommand("data")]
        | Annotated[Config, tyro.conf.subcommand("config")]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `mrcnn-edu`; exits with 0, 1 (a mistake of the user) or 130 (interrupted)."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    print_anything()
    if not arguments:
        arguments = ["--help"]
    try:
        command: Any = tyro.cli(
            command_line(arguments),
            prog="mrcnn-edu",
            description="Mask R-CNN, built step by step: train, measure and use one.",
            args=arguments,
            config=(tyro.conf.OmitSubcommandPrefixes,),
        )
        command.run()
    except TrainingInterruptedError as stopped:
        say(f"\n{stopped}", error=True)
        sys.exit(130)
    except KeyboardInterrupt:
        print("\nStopped. What was saved before is kept.", file=sys.stderr)
        sys.exit(130)
    except UserError as error:
        say(f"mrcnn-edu: {error}", error=True)
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise  # a bug: its traceback is what helps
        what = str(error).splitlines()[:1] or ["MemoryError"]
        say(f"mrcnn-edu: Memory ran out ({what[0]}). Work on fewer or smaller images.", error=True)
        sys.exit(1)
    except OSError as error:
        say(f"mrcnn-edu: {error}. Check the path, or choose another with --out.", error=True)
        sys.exit(1)
