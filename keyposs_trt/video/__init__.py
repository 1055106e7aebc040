"""Sources, sinks and tracking: what ``keyposs-trt run`` is made of."""
