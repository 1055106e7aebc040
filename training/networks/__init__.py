"""Networks that give one map a landmark: timm backbones under a light decoder, and the published top-down heatmap models."""

from keyposs_trt.training.networks.choose import build_network
from keyposs_trt.training.networks.cost import NetworkCost, network_cost
from keyposs_trt.training.networks.heatmap_net import HeatmapNet
from keyposs_trt.training.networks.landmark_net import LandmarkNet

__all__ = ["HeatmapNet", "LandmarkNet", "NetworkCost", "build_network", "network_cost"]
