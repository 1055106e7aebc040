"""Labelled face views rendered from portraits and a morphable mesh, in the manner of 300W-LP (Zhu et al., CVPR 2016)."""
