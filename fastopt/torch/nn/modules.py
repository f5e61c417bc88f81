"""The modules of `torch.nn` that have compiled loops here: each is one of torch's in all but its forward call."""

from __future__ import annotations

import torch
from torch import Tensor

from fastopt.torch.nn import functional as F

__all__ = ["BiasLeakyReLUDropout", "Dropout", "LeakyReLU", "ReLU"]


class Dropout(torch.nn.Dropout):
    """`torch.nn.Dropout` whose decisions are made where they are needed: no mask is drawn or kept.

    Parameters, attributes and errors are torch's; the function is :func:`fastopt.torch.nn.functional.dropout`.

    Parameters
    ----------
    p : float
        Probability of dropping, 0 <= p <= 1.
    inplace : bool
        Write the result to the input.

    Examples
    --------
    >>> import torch, fastopt.torch.nn as nn
    >>> layer = nn.Dropout(0.5)
    >>> sorted(set(layer(torch.ones(1000)).tolist())), layer.eval()(torch.ones(2))
    ([0.0, 2.0], tensor([1., 1.]))
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training, self.inplace)


class LeakyReLU(torch.nn.LeakyReLU):
    """`torch.nn.LeakyReLU`, to the bit; the function is :func:`fastopt.torch.nn.functional.leaky_relu`.

    Parameters
    ----------
    negative_slope : float
        The factor where the input is not above 0.
    inplace : bool
        Write the result to the input.

    Examples
    --------
    >>> import torch, fastopt.torch.nn as nn
    >>> nn.LeakyReLU(0.1)(torch.tensor([1.0, -2.0]))
    tensor([ 1.0000, -0.2000])
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.leaky_relu(input, self.negative_slope, self.inplace)


class ReLU(torch.nn.ReLU):
    """`torch.nn.ReLU` as it is: it costs what memory costs there too.

    It is none by slope 0, which would make NaN of -infinity. :class:`BiasLeakyReLUDropout` takes one for slope 0.

    Parameters
    ----------
    inplace : bool
        Write the result to the input.

    Examples
    --------
    >>> import torch, fastopt.torch.nn as nn
    >>> nn.ReLU()(torch.tensor([1.0, -2.0]))
    tensor([1., 0.])
    """


class BiasLeakyReLUDropout(torch.nn.Module):
    """What follows a hidden layer's matrix product, in one pass: add the bias, leaky ReLU, dropout.

    It comes behind a `torch.nn.Linear` without a bias. For backward it keeps its output alone; the function is
    :func:`fastopt.torch.nn.functional.bias_leaky_relu_dropout`.

    Parameters
    ----------
    num_features : int
        The width of the layer.
    negative_slope : float
        Finite and at least 0.
    p : float
        Probability of dropping, 0 <= p <= 1.
    inplace : bool
        Write the result to the input.
    device, dtype : optional
        Of the bias.

    Attributes
    ----------
    bias : Parameter of shape (num_features,)
        Zero at first; :meth:`from_modules` takes that of a layer over.

    Raises
    ------
    ValueError
        If num_features is negative, p outside [0, 1], or the slope negative or not finite.

    Examples
    --------
    >>> import torch, fastopt.torch.nn as nn
    >>> hidden = torch.nn.Sequential(torch.nn.Linear(4, 64, bias=False), nn.BiasLeakyReLUDropout(64))
    >>> hidden(torch.ones(8, 4)).shape
    torch.Size([8, 64])
    """

    bias: torch.nn.Parameter

    def __init__(
        self,
        num_features: int,
        negative_slope: float = 0.01,
        p: float = 0.5,
        inplace: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_features < 0:
            raise ValueError(f"num_features: expected an integer >= 0, got {num_features}")
        F.check_fused(negative_slope, p)
        self.num_features, self.negative_slope, self.p, self.inplace = num_features, negative_slope, p, inplace
        self.bias = torch.nn.Parameter(torch.zeros(num_features, device=device, dtype=dtype))

    @classmethod
    def from_modules(
        cls, linear: torch.nn.Linear, activation: torch.nn.Module, dropout: torch.nn.Module | None = None
    ) -> BiasLeakyReLUDropout:
        """Make one of what follows a linear layer's matrix product. The layer gives up its bias to it.

        Parameters
        ----------
        linear : Linear
            Whose bias moves: the very parameter, so that an optimiser that has it goes on. ``linear.bias`` is None
            then, and in the state dict of a model the key of the bias is another.
        activation : LeakyReLU or ReLU
            A ReLU is a slope of 0: z = -infinity gives NaN, where torch's gives 0.
        dropout : Dropout, optional
            None is for p = 0.

        Returns
        -------
        BiasLeakyReLUDropout
            In the mode, train or eval, of `dropout`, or of `linear` without.

        Raises
        ------
        TypeError
            If a module is of another class.
        ValueError
            If the layer has no bias, or the slope is negative.

        Examples
        --------
        >>> import torch, fastopt.torch.nn as nn
        >>> linear = torch.nn.Linear(4, 64)
        >>> hidden = nn.BiasLeakyReLUDropout.from_modules(linear, torch.nn.ReLU(), torch.nn.Dropout(0.2))
        >>> torch.nn.Sequential(linear, hidden)
        Sequential(
          (0): Linear(in_features=4, out_features=64, bias=False)
          (1): BiasLeakyReLUDropout(64, negative_slope=0.0, p=0.2)
        )
        """
        for name, module, kinds in (
            ("linear", linear, (torch.nn.Linear,)),
            ("activation", activation, (torch.nn.LeakyReLU, torch.nn.ReLU)),
            ("dropout", dropout, (torch.nn.Dropout, type(None))),
        ):
            if not isinstance(module, kinds):
                wanted = " or ".join(kind.__name__ for kind in kinds if kind is not type(None))
                raise TypeError(f"{name}: expected a {wanted}, got {type(module).__name__}")
        if linear.bias is None:
            raise ValueError("linear: expected a layer with a bias, got one without")
        slope = activation.negative_slope if isinstance(activation, torch.nn.LeakyReLU) else 0.0
        p = dropout.p if isinstance(dropout, torch.nn.Dropout) else 0.0
        made = cls(linear.out_features, slope, p, device="meta")
        made.bias = linear.bias
        made.train((linear if dropout is None else dropout).training)
        linear.bias = None  # type: ignore[assignment]
        return made

    def forward(self, input: Tensor) -> Tensor:
        return F.bias_leaky_relu_dropout(input, self.bias, self.negative_slope, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        inplace = ", inplace=True" if self.inplace else ""
        return f"{self.num_features}, negative_slope={self.negative_slope}, p={self.p}{inplace}"
