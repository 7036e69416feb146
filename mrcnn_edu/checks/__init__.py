"""The checks behind the exercises, a module a chapter: `from mrcnn_edu.checks.ch05 import`."""
