"""RoI operators on a CPU, compiled by Numba. Chapter 06."""
