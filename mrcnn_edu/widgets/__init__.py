"""Figures that move: a module and a JavaScript file each; `common` says how to write one."""
