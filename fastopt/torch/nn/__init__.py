"""Names of `torch.nn` that have compiled code here."""

from fastopt.torch.nn import utils as utils

__all__ = ["utils"]
