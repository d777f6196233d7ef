"""Model folders: load, save, check, their shapes and the hub; only the modules for a model in torch import torch."""
