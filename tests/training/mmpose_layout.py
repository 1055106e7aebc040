"""Weights in the layout of mmpose 0.x and KeyPosS, written from its description, and a plain forward that walks them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)

BACKBONE, HEAD = "backbone.", "keypoint_head."
# KeyPosS: strides of the stem and branches of the last stage, by heatmap size at 256 pixels.
KEYPOSS = {64: ((2, 2), 4), 32: ((4, 2), 4), 16: ((4, 4), 4), 8: ((4, 4, 2), 3), 4: ((4, 4, 2, 2), 2)}
MOBILENET = ((16, 1, 1, 1), (24, 2, 2, 6), (32, 3, 2, 6), (64, 4, 2, 6), (96, 3, 1, 6), (160, 3, 2, 6), (320, 1, 1, 6))


class Writer:
    """Draws weights; ``gain`` is the variance a layer keeps, less where residual sums add to it, so that maps come out at about 1."""

    def __init__(self, gain: float, seed: int = 0) -> None:
        self.gain = gain
        self.state: dict[str, torch.Tensor] = {}
        self.generator = torch.Generator().manual_seed(seed)

    def conv(self, name: str, channels: int, out: int, kernel: int, bias: bool = False, groups: int = 1) -> None:
        fan_in = channels // groups * kernel * kernel
        self.state[f"{name}.weight"] = self._normal(out, channels // groups, kernel, kernel) * (self.gain / fan_in) ** 0.5
        if bias:
            self.state[f"{name}.bias"] = 0.1 * self._normal(out)

    def deconv(self, name: str, channels: int, out: int, kernel: int) -> None:
        self.state[f"{name}.weight"] = self._normal(channels, out, kernel, kernel) * (self.gain / (channels * kernel)) ** 0.5

    def bn(self, name: str, channels: int) -> None:
        self.state[f"{name}.weight"] = 1 + 0.2 * self._normal(channels).clamp(-2, 2)
        self.state[f"{name}.bias"] = 0.1 * self._normal(channels)
        self.state[f"{name}.running_mean"] = 0.1 * self._normal(channels)
        self.state[f"{name}.running_var"] = 1 + 0.2 * self._normal(channels).clamp(-2, 2)
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def conv_bn(self, conv: str, bn: str, channels: int, out: int, kernel: int, groups: int = 1) -> None:
        self.conv(conv, channels, out, kernel, groups=groups)
        self.bn(bn, out)

    def _normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator)


def hrnet(points: int, keyposs: int | None = None, width: int = 18) -> dict[str, torch.Tensor]:
    """HRNetV2 of mmpose, or of KeyPosS for a heatmap size: that one has all stages and stems, whether it uses them or not."""
    w = Writer({8: 1.5, 4: 2.0}.get(keyposs or 64, 0.7))
    for i in (1, 2, 3, 4) if keyposs else (1, 2):
        w.conv(f"{BACKBONE}conv{i}", 3 if i == 1 else 64, 64, 3)
    w.bn(f"{BACKBONE}bn1", 64)
    w.bn(f"{BACKBONE}bn2", 64)
    channels = 64
    for b in range(4):
        name = f"{BACKBONE}layer1.{b}"
        _bottleneck(w, name, channels, 64)
        channels = 256
    w.conv_bn(f"{BACKBONE}transition1.0.0", f"{BACKBONE}transition1.0.1", 256, width, 3)
    w.conv_bn(f"{BACKBONE}transition1.1.0.0", f"{BACKBONE}transition1.1.0.1", 256, 2 * width, 3)
    for n, modules in ((2, 1), (3, 4), (4, 3)):
        if n > 2:
            name = f"{BACKBONE}transition{n - 1}.{n - 1}.0"
            w.conv_bn(f"{name}.0", f"{name}.1", width << (n - 2), width << (n - 1), 3)
        for m in range(modules):
            _exchange(w, f"{BACKBONE}stage{n}.{m}", [width << i for i in range(n)])
    taken = sum(width << i for i in range(KEYPOSS[keyposs or 64][1]))
    w.conv(f"{HEAD}final_layer.0", taken, taken, 1, bias=True)
    w.bn(f"{HEAD}final_layer.1", taken)
    w.conv(f"{HEAD}final_layer.3", taken, points, 1, bias=True)
    for i in range({None: 0, 64: 0, 32: 1, 16: 2, 8: 3, 4: 4}[keyposs]):
        w.conv(f"{HEAD}downscale_layer.{3 * i}", points, points, 3, bias=True)
        w.bn(f"{HEAD}downscale_layer.{3 * i + 1}", points)
    return w.state


def resnet(points: int, blocks: tuple[int, ...], bottleneck: bool) -> dict[str, torch.Tensor]:
    """ResNet with three deconvolutions."""
    w = Writer(1.0 if bottleneck else 1.5)
    w.conv_bn(f"{BACKBONE}conv1", f"{BACKBONE}bn1", 3, 64, 7)
    channels = 64
    for i, count in enumerate(blocks):
        middle = 64 << i
        for b in range(count):
            name, out = f"{BACKBONE}layer{i + 1}.{b}", middle * (4 if bottleneck else 1)
            if bottleneck:
                _bottleneck(w, name, channels, middle)
            else:
                w.conv_bn(f"{name}.conv1", f"{name}.bn1", channels, out, 3)
                w.conv_bn(f"{name}.conv2", f"{name}.bn2", out, out, 3)
                if channels != out:
                    w.conv_bn(f"{name}.downsample.0", f"{name}.downsample.1", channels, out, 1)
            channels = out
    _deconv_head(w, channels, points)
    return w.state


def mobilenet(points: int) -> dict[str, torch.Tensor]:
    """MobileNetV2 with three deconvolutions."""
    w = Writer(2.0)
    w.conv_bn(f"{BACKBONE}conv1.conv", f"{BACKBONE}conv1.bn", 3, 32, 3)
    channels = 32
    for i, (out, count, _, expand) in enumerate(MOBILENET, 1):
        for b in range(count):
            names = (f"{BACKBONE}layer{i}.{b}.conv.{k}" for k in range(3))
            wide = channels * expand
            if expand != 1:
                name = next(names)
                w.conv_bn(f"{name}.conv", f"{name}.bn", channels, wide, 1)
            name = next(names)
            w.conv_bn(f"{name}.conv", f"{name}.bn", wide, wide, 3, groups=wide)
            name = next(names)
            w.conv_bn(f"{name}.conv", f"{name}.bn", wide, out, 1)
            channels = out
    w.conv_bn(f"{BACKBONE}conv2.conv", f"{BACKBONE}conv2.bn", channels, 1280, 1)
    _deconv_head(w, 1280, points)
    return w.state


def as_1x(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same weights with the names of mmpose 1.x."""
    inner = f"{HEAD}final_layer."
    renamed = {inner + "3.": "head.final_layer.", inner + "0.": "head.conv_layers.0.", inner + "1.": "head.conv_layers.1.", HEAD: "head."}

    def name(key: str) -> str:
        old = next((o for o in renamed if key.startswith(o)), "")
        return renamed[old] + key.removeprefix(old) if old else key

    return {name(k): v for k, v in state.items()}


def _bottleneck(w: Writer, name: str, channels: int, middle: int) -> None:
    w.conv_bn(f"{name}.conv1", f"{name}.bn1", channels, middle, 1)
    w.conv_bn(f"{name}.conv2", f"{name}.bn2", middle, middle, 3)
    w.conv_bn(f"{name}.conv3", f"{name}.bn3", middle, 4 * middle, 1)
    if channels != 4 * middle:
        w.conv_bn(f"{name}.downsample.0", f"{name}.downsample.1", channels, 4 * middle, 1)


def _exchange(w: Writer, name: str, channels: list[int]) -> None:
    for i, c in enumerate(channels):
        for b in range(4):
            for k in (1, 2):
                w.conv_bn(f"{name}.branches.{i}.{b}.conv{k}", f"{name}.branches.{i}.{b}.bn{k}", c, c, 3)
    for i, out in enumerate(channels):
        for j, c in enumerate(channels):
            place = f"{name}.fuse_layers.{i}.{j}"
            if j > i:
                w.conv_bn(f"{place}.0", f"{place}.1", c, out, 1)
            for k in range(i - j):
                w.conv_bn(f"{place}.{k}.0", f"{place}.{k}.1", c, out if k == i - j - 1 else c, 3)


def _deconv_head(w: Writer, channels: int, points: int) -> None:
    for i in range(3):
        w.deconv(f"{HEAD}deconv_layers.{3 * i}", channels, 256, 4)
        w.bn(f"{HEAD}deconv_layers.{3 * i + 1}", 256)
        channels = 256
    w.conv(f"{HEAD}final_layer", 256, points, 1, bias=True)


class Forward:
    """Computes the maps of a state dict, layer by layer."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self.s = state

    def conv(self, x: torch.Tensor, name: str, stride: int = 1, groups: int = 1) -> torch.Tensor:
        weight = self.s[f"{name}.weight"]
        return F.conv2d(x, weight, self.s.get(f"{name}.bias"), stride, weight.shape[-1] // 2, groups=groups)

    def bn(self, x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias, mean, var = (self.s[f"{name}.{k}"][:, None, None] for k in ("weight", "bias", "running_mean", "running_var"))
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def step(self, x: torch.Tensor, conv: str, bn: str, stride: int = 1, groups: int = 1) -> torch.Tensor:
        return self.bn(self.conv(x, conv, stride, groups), bn)

    def block(self, x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        """A residual block of either kind; the stride is that of its first 3x3 convolution."""
        shortcut = self.step(x, f"{name}.downsample.0", f"{name}.downsample.1", stride) if f"{name}.downsample.0.weight" in self.s else x
        count = 3 if f"{name}.conv3.weight" in self.s else 2
        for k in range(1, count + 1):
            x = self.step(x, f"{name}.conv{k}", f"{name}.bn{k}", stride if k == count - 1 else 1)
            x = F.relu(x) if k < count else x
        return F.relu(x + shortcut)

    def hrnet(self, x: torch.Tensor, heatmap: int = 64) -> torch.Tensor:
        """Of KeyPosS for a heatmap size at 256 pixels; 64 is mmpose's as well."""
        strides, last = KEYPOSS[heatmap]
        for i, stride in enumerate(strides, 1):
            x = F.relu(self.step(x, f"{BACKBONE}conv{i}", f"{BACKBONE}bn{1 if i == 1 else 2}", stride))
        for b in range(4):
            x = self.block(x, f"{BACKBONE}layer1.{b}")
        first = f"{BACKBONE}transition1"
        f = [F.relu(self.step(x, f"{first}.0.0", f"{first}.0.1")), F.relu(self.step(x, f"{first}.1.0.0", f"{first}.1.0.1", 2))]
        for n in range(2, last + 1):
            if n > 2:
                name = f"{BACKBONE}transition{n - 1}.{n - 1}.0"
                f.append(F.relu(self.step(f[-1], f"{name}.0", f"{name}.1", 2)))
            for m in range({2: 1, 3: 4, 4: 3}[n]):
                f = self.exchange(f, f"{BACKBONE}stage{n}.{m}")
        x = torch.cat([F.interpolate(v, size=f[0].shape[2:], mode="bilinear", align_corners=False) for v in f], 1)
        x = F.relu(self.step(x, f"{HEAD}final_layer.0", f"{HEAD}final_layer.1"))
        return self.conv(x, f"{HEAD}final_layer.3")

    def exchange(self, f: list[torch.Tensor], name: str) -> list[torch.Tensor]:
        for b in range(4):
            f = [self.block(v, f"{name}.branches.{i}.{b}") for i, v in enumerate(f)]
        out = []
        for i, own in enumerate(f):
            total = own.clone()
            for j, v in enumerate(f):
                place = f"{name}.fuse_layers.{i}.{j}"
                if j > i:
                    up = self.step(v, f"{place}.0", f"{place}.1")
                    total += F.interpolate(up, size=own.shape[2:], mode="bilinear", align_corners=False)
                if j < i:
                    for k in range(i - j):
                        v = self.step(F.relu(v) if k else v, f"{place}.{k}.0", f"{place}.{k}.1", 2)
                    total += v
            out.append(F.relu(total))
        return out

    def resnet(self, x: torch.Tensor, blocks: tuple[int, ...]) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.step(x, f"{BACKBONE}conv1", f"{BACKBONE}bn1", 2)), 3, 2, 1)
        for i, count in enumerate(blocks, 1):
            for b in range(count):
                x = self.block_of_resnet(x, f"{BACKBONE}layer{i}.{b}", 2 if i > 1 and b == 0 else 1)
        return self.deconv_head(x)

    def block_of_resnet(self, x: torch.Tensor, name: str, stride: int) -> torch.Tensor:
        """A basic block has its stride in the first convolution, a bottleneck in the second (the 3x3 one)."""
        bottleneck = f"{name}.conv3.weight" in self.s
        if bottleneck:
            return self.block(x, name, stride)
        shortcut = self.step(x, f"{name}.downsample.0", f"{name}.downsample.1", stride) if f"{name}.downsample.0.weight" in self.s else x
        y = F.relu(self.step(x, f"{name}.conv1", f"{name}.bn1", stride))
        return F.relu(self.step(y, f"{name}.conv2", f"{name}.bn2") + shortcut)

    def mobilenet(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu6(self.step(x, f"{BACKBONE}conv1.conv", f"{BACKBONE}conv1.bn", 2))
        for i, (out, count, stride, expand) in enumerate(MOBILENET, 1):
            for b in range(count):
                entry, last, step = x, 2 if expand != 1 else 1, stride if b == 0 else 1
                for k in range(last + 1):
                    name = f"{BACKBONE}layer{i}.{b}.conv.{k}"
                    wide = k == last - 1
                    x = self.step(x, f"{name}.conv", f"{name}.bn", step if wide else 1, x.shape[1] if wide else 1)
                    x = F.relu6(x) if k < last else x
                x = x + entry if step == 1 and entry.shape[1] == out else x
        return self.deconv_head(F.relu6(self.step(x, f"{BACKBONE}conv2.conv", f"{BACKBONE}conv2.bn")))

    def deconv_head(self, x: torch.Tensor) -> torch.Tensor:
        for i in range(3):
            x = F.conv_transpose2d(x, self.s[f"{HEAD}deconv_layers.{3 * i}.weight"], stride=2, padding=1)
            x = F.relu(self.bn(x, f"{HEAD}deconv_layers.{3 * i + 1}"))
        return self.conv(x, f"{HEAD}final_layer")


def checkpoint(state: dict[str, torch.Tensor], **more: Any) -> dict[str, Any]:
    """A checkpoint as mmcv writes it."""
    return {"meta": {"mmpose_version": "0.29.0", "epoch": 60, "iter": 1800, "config": "total_epochs = 60\n"}, "state_dict": state, **more}
