"""Quantisation-aware training: a trained network goes on learning with the rounding of INT8 in it.

``begin`` makes a module of a checkpoint, ``places`` says where its exported graph is quantised, ``fake`` rounds there in PyTorch, and
``exporting`` writes the Q/DQ model. The rounding itself is PyTorch's own (``torch.fake_quantize_per_tensor_affine`` and
``torch.fake_quantize_per_channel_affine``), so that nothing further need be installed.
"""
