"""Figures that move: a module and a JavaScript file each; :mod:`.common` says how to write one."""
