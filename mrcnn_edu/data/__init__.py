"""Data sets, transforms and checks: everything between files and the model's input."""
