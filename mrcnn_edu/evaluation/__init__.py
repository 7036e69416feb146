"""Detecting over a data set, and measuring what was found. Chapter 11."""
