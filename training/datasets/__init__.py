"""Datasets of labelled faces, as pairs of a network input and its landmarks."""
