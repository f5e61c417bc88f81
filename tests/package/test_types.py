"""What type checkers know is what is there: `make lint` checks the client that uses every public name."""

from __future__ import annotations

import ast
import copy
import pickle
import typing
from pathlib import Path

import numpy as np

import fastopt
from fastopt import plan, policy
from fastopt.cem.result import Result

from . import typed_client


def test_the_client_uses_every_public_name():
    used: dict[str, set[str]] = {"fastopt": set(), "policy": set(), "plan": set()}
    for node in ast.walk(ast.parse(Path(typed_client.__file__).read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in used:
            used[node.value.id].add(node.attr)
    assert used["fastopt"] >= set(fastopt.__all__)
    assert used["policy"] >= set(policy.__all__)
    assert used["plan"] >= set(plan.__all__)


def test_the_client_runs():
    typed_client.main()


def test_a_result_has_the_fields_that_its_type_says():
    def run(**options: typing.Any) -> Result:
        return fastopt.minimize_cem(lambda x: float(np.square(x).sum()), np.ones(2), maxiter=3, rng=0, **options)

    typed = typing.get_type_hints(Result)
    result = run(covariance="full")
    assert set(typed) == set(result)
    assert set(typed) - set(run()) == {"covariance"}
    assert not set(typed) & set(vars(Result))  # which would hide the key
    for one in (result, result.copy(), copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        for name, kind in typed.items():
            assert one[name] is getattr(one, name)
            assert isinstance(one[name], typing.get_origin(kind) or kind), name
