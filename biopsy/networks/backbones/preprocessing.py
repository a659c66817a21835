"""What each family of networks expects of its pixels, as layers inside the model.

One shared `pixels / 255` biases a comparison: DenseNet expects ImageNet's mean and deviation, MobileNetV2 -1 to 1,
ResNet50 and VGG19 blue before red. Input: RGB, 0 to 255. Nothing here has weights, so that a weights file of the
network alone fits.
"""

from typing import Any

from biopsy.networks.backend import keras

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN_RGB = (123.68, 116.779, 103.939)

TORCH_STYLE = "(pixels / 255 - mean) / deviation of ImageNet"
TF_STYLE = "pixels / 127.5 - 1"
CAFFE_STYLE = "BGR, pixels - mean of ImageNet"
UNIT_STYLE = "pixels / 255"


def torch_style(pixels: Any) -> Any:
    """(pixels / 255 - mean) / deviation per channel, as `keras.applications.densenet.preprocess_input`."""
    scale = [1 / (255 * s) for s in IMAGENET_STD]
    offset = [-m / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    return keras.layers.Rescaling(scale, offset, name="imagenet_mean_std")(pixels)


def tf_style(pixels: Any) -> Any:
    """pixels / 127.5 - 1, as `keras.applications.mobilenet_v2.preprocess_input`."""
    return keras.layers.Rescaling(1 / 127.5, -1, name="minus_one_to_one")(pixels)


def caffe_style(pixels: Any) -> Any:
    """Pixels minus ImageNet's mean, then BGR, as `keras.applications.resnet.preprocess_input`."""
    centred = keras.layers.Rescaling(1.0, [-m for m in CAFFE_MEAN_RGB], name="minus_imagenet_mean")(pixels)
    return keras.ops.flip(centred, axis=-1)


def unit_style(pixels: Any) -> Any:
    """pixels / 255."""
    return keras.layers.Rescaling(1 / 255, name="rescale")(pixels)
