"""Published checkpoints of mmpose and KeyPosS: read without running anything in them, recognised, and made a network of ours."""

from keyposs_trt.training.published.layout import PublishedModel, load_published
from keyposs_trt.training.published.reading import holds_recipe, read_weights

__all__ = ["PublishedModel", "holds_recipe", "load_published", "read_weights"]
