"""torchvision's networks, written in PyTorch with torchvision's names: what converted weights are compared with.

So that torchvision need not be installed. Sources: torchvision/models/{resnet,densenet,mobilenetv2}.py.
"""

from collections import OrderedDict
from typing import Any

import torch
from torch import nn


class Basic(nn.Module):
    expansion = 1

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(before, width, stride)

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (self.downsample(x) if self.downsample else x))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = shortcut(before, 4 * width, stride)

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))
        return torch.relu(self.bn3(self.conv3(y)) + (self.downsample(x) if self.downsample else x))


def shortcut(before: int, after: int, stride: int) -> Any:
    if stride == 1 and before == after:
        return None
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


class ResNet(nn.Module):
    def __init__(self, block: Any, stem_stride: int = 2) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stem_stride, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        before = 64
        for stage, depth in enumerate((3, 4, 6, 3), start=1):
            width, blocks = 32 * 2**stage, []
            for number in range(depth):
                blocks.append(block(before, width, 2 if stage > 1 and number == 0 else 1))
                before = width * block.expansion
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(before, 10)

    def features(self, x: Any) -> Any:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class DenseLayer(nn.Module):
    def __init__(self, before: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(before), nn.Conv2d(before, 128, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(128), nn.Conv2d(128, 32, 3, 1, 1, bias=False)

    def forward(self, x: Any) -> Any:
        return torch.cat([x, self.conv2(torch.relu(self.norm2(self.conv1(torch.relu(self.norm1(x))))))], 1)


class DenseNet121(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        parts: OrderedDict[str, nn.Module] = OrderedDict(
            conv0=nn.Conv2d(3, 64, 7, 2, 3, bias=False), norm0=nn.BatchNorm2d(64), relu0=nn.ReLU(),
            pool0=nn.MaxPool2d(3, 2, 1),
        )  # fmt: skip
        width = 64
        for stage, depth in enumerate((6, 12, 24, 16), start=1):
            layers = OrderedDict((f"denselayer{i + 1}", DenseLayer(width + 32 * i)) for i in range(depth))
            parts[f"denseblock{stage}"] = nn.Sequential(layers)
            width += 32 * depth
            if stage < 4:
                parts[f"transition{stage}"] = nn.Sequential(
                    OrderedDict(
                        norm=nn.BatchNorm2d(width),
                        relu=nn.ReLU(),
                        conv=nn.Conv2d(width, width // 2, 1, bias=False),
                        pool=nn.AvgPool2d(2, 2),
                    )
                )
                width //= 2
        parts["norm5"] = nn.BatchNorm2d(width)
        self.features = nn.Sequential(parts)
        self.classifier = nn.Linear(width, 10)


def conv_norm_relu6(before: int, after: int, kernel: int, stride: int, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU6())


class InvertedResidual(nn.Module):
    def __init__(self, before: int, after: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden, self.add = before * expansion, stride == 1 and before == after
        parts: list[nn.Module] = [] if expansion == 1 else [conv_norm_relu6(before, hidden, 1, 1)]
        parts += [conv_norm_relu6(hidden, hidden, 3, stride, hidden), nn.Conv2d(hidden, after, 1, bias=False)]
        self.conv = nn.Sequential(*parts, nn.BatchNorm2d(after))

    def forward(self, x: Any) -> Any:
        return x + self.conv(x) if self.add else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        rows = (
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        )
        parts: list[nn.Module] = [conv_norm_relu6(3, 32, 3, 2)]
        before = 32
        for expansion, width, repeats, first in rows:
            for i in range(repeats):
                parts.append(InvertedResidual(before, width, first if i == 0 else 1, expansion))
                before = width
        self.features = nn.Sequential(*parts, conv_norm_relu6(before, 1280, 1, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 10))


class MedNeXtBlock(nn.Module):
    """Figure 1 of arXiv 2303.09975 in 2-D; with stride 2 the block that goes down."""

    def __init__(self, before: int, after: int, ratio: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(before, before, kernel, stride, kernel // 2, groups=before)
        self.norm = nn.GroupNorm(before, before)
        self.expand = nn.Conv2d(before, ratio * before, 1)
        self.compress = nn.Conv2d(ratio * before, after, 1)
        self.shortcut = nn.Conv2d(before, after, 1, stride) if stride > 1 else None

    def forward(self, x: Any) -> Any:
        y = self.compress(nn.functional.gelu(self.expand(self.norm(self.depthwise(x)))))
        return y + (self.shortcut(x) if self.shortcut else x)
