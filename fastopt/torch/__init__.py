"""torch's optimisers, dropout and hidden layers on the CPU, on torch's tensors.

`import fastopt.torch.optim as optim` for `torch.optim`, `import fastopt.torch.nn as nn` for `torch.nn`; `policy` has
the line search over a model. Imports torch; nothing else of the package does.
"""

from fastopt.torch import nn as nn
from fastopt.torch import optim as optim
from fastopt.torch import policy as policy

__all__ = ["nn", "optim", "policy"]
