"""Put the modules of this package into a model that has torch's."""

from __future__ import annotations

import torch

from fastopt.torch.nn import modules

__all__ = ["replace_modules"]

_TWINS: dict[type[torch.nn.Module], type[torch.nn.Module]] = {
    torch.nn.Dropout: modules.Dropout,
    torch.nn.LeakyReLU: modules.LeakyReLU,
}


def replace_modules(model: torch.nn.Module, *, dry_run: bool = False) -> dict[str, str]:
    """Turn torch's Dropout and LeakyReLU modules in a model into those of this package, in place.

    The very objects stay and change their class: names, hooks, attributes, train and eval mode and the state dict's
    keys are as before, whoever else holds a module still does, and one that stands in several places is one still.
    Subclasses and other modules are left alone; so are ReLU, which gains nothing, and functions that a `forward` calls.

    Parameters
    ----------
    model : Module
        Changed in place; it may be a Dropout itself.
    dry_run : bool
        Change nothing, only return what would be changed.

    Returns
    -------
    dict of str to str
        For each place of a module in the model, by its name there ("" is the model itself), the class that it has now.

    Raises
    ------
    TypeError
        If model is no module.

    Examples
    --------
    >>> import torch, fastopt.torch.nn as nn
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LeakyReLU(), torch.nn.Dropout())
    >>> nn.replace_modules(model)
    {'1': 'LeakyReLU', '2': 'Dropout'}
    >>> nn.replace_modules(model)
    {}
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    places = [(name, module) for name, module in model.named_modules(remove_duplicate=False) if type(module) in _TWINS]
    replaced = {name: _TWINS[type(module)].__name__ for name, module in places}
    if not dry_run:
        for module in {id(module): module for _, module in places}.values():
            module.__class__ = _TWINS[type(module)]
    return replaced
