"""RoI operators on a GPU, compiled by Numba. Chapter 07b."""
