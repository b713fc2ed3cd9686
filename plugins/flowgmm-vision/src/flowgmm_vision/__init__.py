"""Folders of images as a data source of flowgmm, seen through a model of torchvision or timm."""
