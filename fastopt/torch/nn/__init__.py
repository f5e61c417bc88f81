"""Names of `torch.nn` that have compiled code here, and `replace_modules`, which puts the modules into a model."""

from fastopt.torch.nn import functional as functional
from fastopt.torch.nn import utils as utils
from fastopt.torch.nn.modules import BiasLeakyReLUDropout as BiasLeakyReLUDropout
from fastopt.torch.nn.modules import Dropout as Dropout
from fastopt.torch.nn.modules import LeakyReLU as LeakyReLU
from fastopt.torch.nn.modules import ReLU as ReLU
from fastopt.torch.nn.replace import replace_modules as replace_modules

__all__ = ["BiasLeakyReLUDropout", "Dropout", "LeakyReLU", "ReLU", "functional", "replace_modules", "utils"]
