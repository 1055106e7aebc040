"""Networks: a timm backbone and a light decoder that gives one map a landmark."""

from keyposs_trt.training.networks.landmark_net import LandmarkNet, build_network

__all__ = ["LandmarkNet", "build_network"]
