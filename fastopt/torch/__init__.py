"""torch's optimisers on the CPU, in place on torch's tensors: `import fastopt.torch.optim as optim` for `torch.optim`.

Imports torch; nothing else of the package does.
"""

from fastopt.torch import nn as nn
from fastopt.torch import optim as optim

__all__ = ["nn", "optim"]
