"""The modules are plain torch, and behave so outside of this project, too."""

import weakref

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from mnistport import networks
from mnistport.layers import Conv2d, ReluMaxPool


@pytest.fixture
def small() -> tuple[nn.Sequential, torch.Tensor]:
    torch.manual_seed(0)
    module = nn.Sequential(Conv2d(2, 3, 3), ReluMaxPool()).double()
    return module, torch.randn(4, 2, 6, 6, dtype=torch.float64)


def gradients(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.grad.clone() for name, weight in module.named_parameters()}


@pytest.mark.parametrize("name", list(networks.BUILT_IN))
def test_weights_are_contiguous_and_every_gradient_is_made_by_torch(name):
    """None of our own autograd functions is between the loss and the pixels."""
    module = networks.get(name).module()
    assert all(weight.is_contiguous() for weight in module.state_dict().values())
    queue, seen = [module(torch.rand(2, 784)).sum().grad_fn], set()
    while queue:
        node = queue.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        assert type(node).__module__ == "builtins" or "Accumulate" in type(node).__name__
        queue += [before for before, _ in node.next_functions]
    assert len(seen) > 2


def test_every_kind_of_hook_is_called(small):
    module, image = small
    called: list[str] = []
    conv = module[0]
    conv.register_forward_pre_hook(lambda *_: called.append("before"))
    conv.register_forward_hook(lambda *_: called.append("after"))
    conv.register_full_backward_hook(lambda *_: called.append("backward"))
    conv.weight.register_hook(lambda _: called.append("weight"))
    convolved = conv(image.requires_grad_())
    convolved.retain_grad()
    convolved.grad_fn.register_hook(lambda *_: called.append("grad_fn"))
    module[1](convolved).sum().backward()
    assert sorted(called) == ["after", "backward", "before", "grad_fn", "weight"]
    assert convolved.grad.count_nonzero() > 0


def test_nothing_keeps_the_input_after_the_backward_pass(small):
    module, image = small
    image = image.clone()
    alive = weakref.ref(image)
    loss = module(image).sum()
    loss.backward()
    del image
    assert alive() is None


def test_function_transforms_agree_with_backward(small):
    module, image = small
    weights = {name: weight.detach() for name, weight in module.named_parameters()}

    def loss(weights, image):
        return torch.func.functional_call(module, weights, (image,)).square().sum()

    module(image).square().sum().backward()
    expected = gradients(module)
    whole = torch.func.grad(loss)(weights, image)
    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, image[:, None])
    _, along = torch.func.jvp(lambda w: loss(w, image), (weights,), (expected,))
    for name, gradient in expected.items():
        assert torch.allclose(whole[name], gradient, rtol=1e-10)
        assert torch.allclose(each[name].sum(0), gradient, rtol=1e-10)
    square = sum(gradient.square().sum() for gradient in expected.values())
    assert torch.allclose(along, square)


def test_vmap_works_through_dropout_in_training():
    module = networks.get("convnet").module()
    weights = {name: weight.detach() for name, weight in module.named_parameters()}

    def score(pixels):
        return torch.func.functional_call(module, weights, (pixels[None],))[0]

    each = torch.func.vmap(score, randomness="different")(torch.rand(3, 784))
    assert each.shape == (3, 10)


@pytest.mark.parametrize("way", ["compile", "trace", "export"])
def test_torchs_compilers_accept_the_modules(small, way):
    module, image = small
    module(image).sum().backward()
    expected, value = gradients(module), module(image)
    if way == "compile":
        other = torch.compile(module, backend="eager", fullgraph=True)
    elif way == "trace":
        other = torch.jit.trace(module, image)
    else:
        other = torch.export.export(module, (image,)).module()
    module.zero_grad()
    result = other(image)
    assert torch.allclose(result, value)
    if way != "export":  # whose parameters are others
        result.sum().backward()
        found = gradients(module)
        assert all(torch.allclose(found[name], expected[name]) for name in expected)


def test_a_network_in_training_mode_can_be_exported_and_compiled():
    module = networks.get("deep").module()
    exported = torch.export.export(module, (torch.rand(2, 784),))
    assert exported.module()(torch.rand(2, 784)).shape == (2, 10)
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    assert compiled(torch.rand(2, 784)).shape == (2, 10)


def test_pruned_weights_stay_pruned():
    module = networks.get("hvass").module()
    prune.l1_unstructured(module.conv1, "weight", amount=0.5)
    module(torch.rand(3, 784)).sum().backward()
    dropped = module.conv1.weight_mask == 0
    assert dropped.sum() == module.conv1.weight.numel() // 2
    assert (module.conv1.weight_orig.grad[dropped] == 0).all()
