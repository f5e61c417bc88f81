"""The modules: torch's in all but the forward call; put into models that have torch's; a line search over a model."""

from __future__ import annotations

import copy
import pickle

import pytest

import fastopt

torch = pytest.importorskip("torch")
nn = pytest.importorskip("fastopt.torch.nn")
from fastopt.torch.policy import kl_line_search  # noqa: E402


def small_model():
    shared = torch.nn.Dropout(0.3)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 8),
        torch.nn.BatchNorm1d(8),
        torch.nn.LeakyReLU(0.2),
        shared,
        torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(inplace=True), shared, torch.nn.Dropout(0.1)),
    )


@pytest.mark.parametrize(
    "module",
    [
        nn.Dropout(0.3, inplace=True),
        nn.LeakyReLU(0.2),
        nn.ReLU(True),
        nn.BiasLeakyReLUDropout(3, 0.2, 0.1, inplace=True, dtype=torch.float64),
    ],
    ids=repr,
)
def test_modules_are_copied_and_pickled(module):
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert type(twin) is type(module)
        assert repr(twin) == repr(module)
        assert twin.state_dict().keys() == module.state_dict().keys()
        twin.load_state_dict(module.state_dict())


def test_modules_are_those_of_torch():
    for name in ("Dropout", "LeakyReLU", "ReLU"):
        ours, theirs = getattr(nn, name), getattr(torch.nn, name)
        assert issubclass(ours, theirs)
        assert repr(ours()) == repr(theirs())
    assert isinstance(nn.Dropout().eval()(torch.ones(2)), torch.Tensor)
    with pytest.raises(ValueError, match="probability"):
        nn.Dropout(1.5)


def test_replaced_modules_stay_what_they_were():
    model = small_model()
    model[3].eval()
    seen = []
    model[3].register_forward_hook(lambda *_: seen.append(1))
    model[2].mark = 7
    parts, keys, shown = list(model.modules()), list(model.state_dict()), repr(model)
    plan = nn.replace_modules(model, dry_run=True)
    assert plan == {"2": "LeakyReLU", "3": "Dropout", "4.2": "Dropout", "4.3": "Dropout"}
    assert not any(isinstance(m, nn.Dropout | nn.LeakyReLU) for m in parts)
    assert nn.replace_modules(model) == plan
    assert nn.replace_modules(model) == {}
    assert all(one is other for one, other in zip(model.modules(), parts, strict=True))
    assert (list(model.state_dict()), repr(model), model[2].mark) == (keys, shown, 7)
    assert type(model[3]) is nn.Dropout
    assert model[3] is model[4][2]
    assert not model[3].training
    assert model[4][3].training
    assert type(model[4][1]) is torch.nn.ReLU
    model(torch.ones(3, 4)).sum().backward()
    assert len(seen) == 2
    assert pickle.loads(pickle.dumps(model.state_dict())).keys() == set(keys)


def test_subclasses_are_left_alone():
    class Own(torch.nn.Dropout):
        def forward(self, x):
            return x + self.p

    model = torch.nn.ModuleList([Own(), torch.nn.Dropout2d(), torch.nn.AlphaDropout(), torch.nn.Dropout()])
    assert nn.replace_modules(model) == {"3": "Dropout"}
    assert type(model[0]) is Own
    alone = torch.nn.Dropout()
    assert nn.replace_modules(alone) == {"": "Dropout"}
    assert type(alone) is nn.Dropout
    with pytest.raises(TypeError, match="model: expected"):
        nn.replace_modules([alone])


def test_a_replaced_model_computes_what_it_did():
    """In eval mode to the bit; in training with the masks of its own draws, read back from what the layers drop."""
    model = small_model()
    twin = copy.deepcopy(model)
    nn.replace_modules(twin)
    x = torch.randn(16, 4)
    assert torch.equal(twin.eval()(x), model.eval()(x))
    model, twin = torch.nn.Sequential(model[0], model[2], model[3]), torch.nn.Sequential(twin[0], twin[2], twin[3])
    model.train(), twin.train()
    y = twin(x)
    model[2].forward = lambda h: torch.where(y != 0, h / (1 - round(65536 * 0.3) / 65536), 0)
    torch.testing.assert_close(y, model(x))
    y.sum().backward(), model(x).sum().backward()
    torch.testing.assert_close(twin[0].weight.grad, model[0].weight.grad)


def test_transformers_take_replaced_modules():
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert len(nn.replace_modules(layer)) == 3
    layer(torch.ones(2, 5, 8)).sum().backward()
    with torch.inference_mode():
        layer.eval()(torch.ones(2, 5, 8))


def test_a_layer_of_three_modules():
    linear, activation, dropout = torch.nn.Linear(4, 6), torch.nn.LeakyReLU(0.3), torch.nn.Dropout(0.2)
    plain = torch.nn.Sequential(copy.deepcopy(linear), activation)
    bias = linear.bias
    fused = nn.BiasLeakyReLUDropout.from_modules(linear, activation, dropout.eval())
    assert fused.bias is bias
    assert linear.bias is None
    assert (fused.num_features, fused.negative_slope, fused.p, fused.training) == (6, 0.3, 0.2, False)
    x = torch.randn(5, 4)
    torch.testing.assert_close(fused(linear(x)), plain(x))
    fused.train()
    y = fused(linear(x))
    torch.testing.assert_close(y[y != 0], (plain(x) / (1 - round(65536 * 0.2) / 65536))[y != 0])
    slope = nn.BiasLeakyReLUDropout.from_modules(torch.nn.Linear(4, 6), torch.nn.ReLU())
    assert (slope.negative_slope, slope.p, slope.training) == (0.0, 0.0, True)
    with pytest.raises(ValueError, match="linear: expected a layer with a bias"):
        nn.BiasLeakyReLUDropout.from_modules(linear, activation)
    with pytest.raises(TypeError, match="activation: expected a LeakyReLU or ReLU, got Tanh"):
        nn.BiasLeakyReLUDropout.from_modules(torch.nn.Linear(4, 6), torch.nn.Tanh())
    for wrong in ({"num_features": -1}, {"num_features": 3, "p": 2}, {"num_features": 3, "negative_slope": -1}):
        with pytest.raises(ValueError, match="expected"):
            nn.BiasLeakyReLUDropout(**wrong)


# ---- a line search over a model --------------------------------------------------------------------------------------


def policy(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 16, bias=False), nn.BiasLeakyReLUDropout(16), nn.Dropout(0.2), torch.nn.Linear(16, 4)
    )


def search(model, params, **options):
    torch.manual_seed(1)
    x, better = torch.randn(64, 3), torch.randint(4, (64,))
    state = torch.get_rng_state()
    old = model(x).log_softmax(1)
    gain = old.gather(1, better[:, None]).mean()
    direction = torch.autograd.grad(gain, list(model.parameters()))
    old = old.detach()

    def evaluate():
        assert not torch.is_grad_enabled()
        new = model(x).log_softmax(1)
        return (new - old).gather(1, better[:, None]).mean(), (old.exp() * (old - new)).sum(1).mean()

    return kl_line_search(params, direction, evaluate, rng_state=state, **options), direction


def test_a_search_with_the_masks_of_the_old_policy():
    model = policy()
    before = [p.detach().clone() for p in model.parameters()]
    versions = [p._version for p in model.parameters()]
    result, direction = search(model, model)
    assert result.success
    assert 0 < result.kl <= 0.01
    for p, old, d, version in zip(model.parameters(), before, direction, versions, strict=True):
        assert torch.equal(p, old + d * result.step)
        assert p._version > version
    twin = policy()
    assert search(twin, list(twin.parameters()))[0] == result


def test_the_generator_after_a_search():
    w = torch.nn.Parameter(torch.zeros(3))

    def evaluate():
        return (w * torch.rand(3)).sum(), w.square().sum()

    for given in (False, True):
        torch.manual_seed(0)
        state = torch.get_rng_state()
        torch.rand(3)
        after = torch.get_rng_state()
        w.data.zero_()
        torch.set_rng_state(state)
        assert kl_line_search([w], [torch.ones(3)], evaluate, **({"rng_state": after} if given else {})).success
        assert torch.equal(torch.get_rng_state(), state if given else after)


def test_a_search_that_fails_or_is_refused():
    model = policy()
    before = [p.detach().clone() for p in model.parameters()]
    result, direction = search(model, model, max_kl=1e-30, max_evaluations=2)
    assert not result.success
    assert all(map(torch.equal, model.parameters(), before))
    for wrong, error, words in (
        (direction[:2], ValueError, "direction: expected 4 tensors like params, got 2"),
        ([d.double() for d in direction], TypeError, "direction.*float32"),
        ([d.numpy() for d in direction], TypeError, r"direction\[0\]: expected a torch.Tensor"),
        (
            [d.bfloat16() for d in direction],
            TypeError,
            r"direction\[0\]: expected a dense tensor of float32 or float64",
        ),
    ):
        with pytest.raises(error, match=words):
            kl_line_search(model, wrong, lambda: (0, 0))
    assert fastopt.torch.policy.kl_line_search is kl_line_search


def test_a_line_search_along_a_negated_view():
    """Whose memory holds the numbers with the other sign; none of a parameter's is written as it is."""
    w, negated = torch.zeros(3), torch._neg_view(torch.tensor([1.0, -2.0, 0.5]))
    result = kl_line_search([w], [negated], lambda: ((w * negated).sum(), w.square().sum()))
    assert result.success
    torch.testing.assert_close(w, result.step * torch.tensor([-1.0, 2.0, -0.5]))
    with pytest.raises(TypeError, match=r"params\[0\]: expected a tensor that is not a negated view"):
        kl_line_search([negated], [w], lambda: (1.0, 0.0))
