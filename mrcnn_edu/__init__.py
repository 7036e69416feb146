"""Mask R-CNN built step by step: a course, and the small library it is made from.

The modules, in the order in which they may import one another, are listed in README.md.
"""

__version__ = "0.1.0"
