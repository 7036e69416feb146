"""`python -m mrcnn_edu.cli` is `mrcnn-edu`."""

from mrcnn_edu.cli import main

main()
