"""Numba behind boxes, masks and matching: the fast versions of what stands beside them."""
