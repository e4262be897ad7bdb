"""Training and evaluation of the course's networks, as benchmark jobs in several libraries.

A job has a method for each library, which returns a call, or a dict of calls by variant. The
networks in NumPy, PyTorch and JAX have the layers and the weights of a network of this project.
Names that older commits do not have are imported inside functions.
"""

from collections.abc import Callable
from functools import cache
from itertools import count
from typing import Any

import numpy as np

from benchmarks._numpy import Net
from benchmarks._operations import labels, normal
from benchmarks._report import installed
from benchmarks._timing import LIBRARIES, Call

RATES = {"SGD": 0.1, "Momentum": 0.01, "Adam": 0.001}
Data = tuple[Any, Any, Any, Any]


@cache
def images(count: int, dtype: str) -> Any:
    """Return random images as sparse as those of MNIST, where 19 % of the pixels are not zero."""
    rng = np.random.default_rng(count)
    ink = rng.random((count, 784), dtype=np.float32) < 0.19
    return (ink * rng.integers(1, 256, ink.shape, dtype=np.uint8) / np.float32(255)).astype(dtype)


@cache
def load(data: str) -> Data:
    """Return training images and labels, test images and labels.

    Parameters
    ----------
    data : {"mnist", "synthetic", "dense"}
        "synthetic" is small and as sparse as MNIST; "dense" has no zeros.
    """
    if data == "mnist":
        from net import load_mnist

        (x, t), (x_test, t_test) = load_mnist()
        return x, t.astype(np.int64), x_test, t_test.astype(np.int64)
    if data == "dense":
        return (*(normal(60_000, 784, dtype="float32"), labels(60_000)),
                *(normal(100, 784, dtype="float32"), labels(100)))  # fmt: skip
    return images(6000, "float32"), labels(6000), images(1000, "float32"), labels(1000)


class Job:
    """Computation to time in several libraries.

    Attributes
    ----------
    name : str
    per : int
        Iterations per call.
    flops : float
        Floating-point operations per iteration, without operations on zeros of the images; defined
        for jobs that are limited by arithmetic.
    """

    per = 1
    name: str

    def calls(self, libraries: tuple[str, ...] = LIBRARIES) -> dict[str, Call]:
        """Return the calls to time, by library, or by library and variant separated by a comma."""
        found: dict[str, Call] = {}
        for library in libraries:
            make = getattr(self, library, None)
            if make is None or not (library in ("njitnet", "script") or installed(library)):
                continue
            made = make()
            found |= made if isinstance(made, dict) else {library: made}
        return found


def two_layer_net(dtype: str, hidden: int = 50, rng: Any = 0) -> Any:
    """Return the lecture's network."""
    from net import TwoLayerNet

    return TwoLayerNet(784, hidden, 10, dtype=np.dtype(dtype), rng=np.random.default_rng(rng))


# ------------------------------------------------------------------------------------ user's loops
class _Answer:
    """Network with constant results, to time the script's own lines alone."""

    def __init__(self, network: Any, x: Any, t: Any):
        self.params, self.grads = network.params, network.gradient(x, t)

    def gradient(self, x: Any, t: Any) -> Any:
        return self.grads

    def loss(self, x: Any, t: Any) -> float:
        return 0.0

    def accuracy(self, x: Any, t: Any) -> float:
        return 0.0


class LectureLoop(Job):
    """The lecture's training loop, with its lines unchanged; a call is one epoch."""

    def __init__(self, dtype: str, data: str = "mnist"):
        x, t, x_test, t_test = load(data)
        self.name = f"the lecture's loop, {dtype}"
        self.train, self.test = (x, np.eye(10)[t]), (x_test, np.eye(10)[t_test])
        self.dtype, self.per = dtype, len(x) // 100

    def _loop(self, network: Any, data: Any) -> Call:
        (x_train, t_train), (x_test, t_test) = data
        train_size, iters_num, batch_size, learning_rate = len(x_train), self.per, 100, 0.1
        iter_per_epoch = max(train_size / batch_size, 1)
        train_loss_list, train_acc_list, test_acc_list = [], [], []

        def call() -> None:
            for i in range(iters_num):
                batch_mask = np.random.choice(train_size, batch_size)
                x_batch = x_train[batch_mask]
                t_batch = t_train[batch_mask]

                grad = network.gradient(x_batch, t_batch)

                for key in ("W1", "b1", "W2", "b2"):
                    network.params[key] -= learning_rate * grad[key]

                loss = network.loss(x_batch, t_batch)
                train_loss_list.append(loss)

                if i % iter_per_epoch == 0:
                    train_acc = network.accuracy(x_train, t_train)
                    test_acc = network.accuracy(x_test, t_test)
                    train_acc_list.append(train_acc)
                    test_acc_list.append(test_acc)

        return call

    def njitnet(self) -> Call:
        return self._loop(two_layer_net(self.dtype), (self.train, self.test))

    def script(self) -> Call:
        x, t = self.train
        answer = _Answer(two_layer_net(self.dtype), x[:100], t[:100])
        return self._loop(answer, (self.train, self.test))

    def numpy(self) -> Call:
        # Images and labels are in the dtype of the network, which is faster in NumPy.
        data = [(x.astype(self.dtype), t.astype(self.dtype)) for x, t in (self.train, self.test)]
        return self._loop(Net(two_layer_net(self.dtype), "SGD", 0.1), data)


class Layers(Job):
    """User's loop over single layers, as in the course: gradient, update and loss."""

    per = 200

    def __init__(self, hidden: tuple[int, ...], dtype: str = "float32", data: str = "mnist"):
        self.name = f"layers 784-{'-'.join(map(str, hidden))}-10, {dtype}"
        self.case = Case(self.name, hidden, dtype=dtype)
        self.x, self.t = load(data)[:2]

    def njitnet(self) -> Call:
        from net import Affine, Relu, SoftmaxWithLoss

        affine = [each for each in self.case.network().layers.values() if hasattr(each, "W")]
        layers: list[Any] = []
        for i, each in enumerate(affine):
            layers += [Affine(each.W, each.b, input_gradient=i > 0), Relu()]
        layers.pop()
        affine, last, rng = layers[::2], SoftmaxWithLoss(), np.random.default_rng(1)

        def forward(x: Any) -> Any:
            for layer in layers:
                x = layer.forward(x)
            return x

        def call() -> None:
            for _ in range(self.per):
                rows = rng.choice(len(self.x), 100)
                x, t = self.x[rows], self.t[rows]
                last.forward(forward(x), t)
                dout = last.backward()
                for layer in reversed(layers):
                    dout = layer.backward(dout)
                for layer in affine:
                    layer.W -= 0.1 * layer.dW
                    layer.b -= 0.1 * layer.db
                last.forward(forward(x), t)

        return call

    def numpy(self) -> Call:
        return self.case.numpy_loop(self.x, self.t, self.per, input_gradient=True)


# ------------------------------------------------------------------------------------------- train
class Case(Job):
    """Iterations of `net.train`, without its start-up, and the same iterations in other libraries.

    An iteration draws a batch, computes its gradient, updates the weights, and computes the loss of
    the batch with the new weights.
    """

    def __init__(
        self,
        name: str,
        hidden: tuple[int, ...] = (50,),
        activation: str = "relu",
        optimizer: str = "SGD",
        batch: int = 100,
        data: str = "mnist",
        dtype: str = "float32",
    ):
        self.name, self.hidden, self.activation, self.optimizer = (
            name,
            hidden,
            activation,
            optimizer,
        )
        self.batch, self.data, self.dtype = batch, data, dtype
        self.per = max(20, min(3000, 3_000_000 // (batch * sum(hidden))))
        self.lr = RATES[optimizer]

    @property
    def flops(self) -> float:
        x = load(self.data)[0][: self.batch]
        density = float(np.count_nonzero(load(self.data)[0][:1000]) / 784_000)
        forward, backward = Net(self.network(), "SGD", 0.1).flops(x, density)
        return 2 * forward + backward

    def network(self) -> Any:
        if self.hidden == (50,) and self.activation == "relu":
            return two_layer_net(self.dtype)
        from net import MultiLayerNet

        rng = np.random.default_rng(0)
        return MultiLayerNet(784, self.hidden, 10, self.activation, dtype=self.dtype, rng=rng)

    def own_optimizer(self) -> Any:
        import net

        return getattr(net, self.optimizer)(lr=self.lr)

    def njitnet(self) -> Call:
        from kernels._threads import Team
        from net.distributed import SingleProcess
        from net.training_run import TrainingRun

        data, rng = [load(self.data)[:2]], np.random.default_rng(1)
        group, optimizer = SingleProcess(), self.own_optimizer()
        run = TrainingRun(self.network(), data, optimizer, self.batch, rng, group)
        run.begin()
        run.start(Team(), 1_000_000)  # as in a long run
        run.advance(1)  # as `train` does: loading is not timed for any number of threads
        return lambda: run.advance(run.done + self.per)

    def numpy_loop(self, x: Any, t: Any, per: int, input_gradient: bool = False) -> Call:
        net = Net(self.network(), self.optimizer, self.lr, input_gradient)
        x, rng = x.astype(self.dtype, copy=False), np.random.default_rng(1)

        def call() -> None:
            for _ in range(per):
                rows = rng.choice(len(x), self.batch)
                net.step(x[rows], t[rows])
                net.loss(x[rows], t[rows])

        return call

    def numpy(self) -> Call:
        return self.numpy_loop(*load(self.data)[:2], self.per)

    def torch(self) -> Call:
        import torch

        network = torch_network(self.network())
        optimizer = torch_optimizer(network, self.optimizer, self.lr)
        dtype = getattr(torch, self.dtype)
        x, t = torch.from_numpy(load(self.data)[0]).to(dtype), torch.from_numpy(load(self.data)[1])
        loss = torch.nn.functional.cross_entropy

        def call() -> None:
            for _ in range(self.per):
                rows = torch.randint(len(x), (self.batch,))
                x_batch, t_batch = x.index_select(0, rows), t.index_select(0, rows)
                optimizer.zero_grad(set_to_none=True)
                loss(network(x_batch), t_batch).backward()
                optimizer.step()
                with torch.no_grad():
                    loss(network(x_batch), t_batch).item()

        return call

    def jax(self) -> Call:
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_enable_x64", self.dtype == "float64")
        x, t = jnp.asarray(load(self.data)[0], self.dtype), jnp.asarray(load(self.data)[1])
        relu, lr, rule = self.activation == "relu", self.lr, self.optimizer

        def loss(params: Any, x: Any, t: Any) -> Any:
            for i in range(0, len(params), 2):
                x = x @ params[i] + params[i + 1]
                if i + 2 < len(params):
                    x = jax.nn.relu(x) if relu else jax.nn.sigmoid(x)
            return -jnp.take_along_axis(jax.nn.log_softmax(x), t[:, None], 1).mean()

        def update(p: Any, g: Any, m: Any, v: Any, i: Any) -> Any:
            if rule == "SGD":
                return p - lr * g, m, v
            if rule == "Momentum":
                m = 0.9 * m - lr * g
                return p + m, m, v
            m, v = m + 0.1 * (g - m), v + 0.001 * (g * g - v)
            return p - lr * jnp.sqrt(1 - 0.999**i) / (1 - 0.9**i) * m / (jnp.sqrt(v) + 1e-7), m, v

        def step(state: Any, rows: Any) -> Any:
            params, m, v, i = state
            x_batch, t_batch = x[rows], t[rows]
            grads = jax.grad(loss)(params, x_batch, t_batch)
            i = i + 1
            updated = [update(*each, i) for each in zip(params, grads, m, v, strict=True)]
            params, m, v = (list(each) for each in zip(*updated, strict=True))
            return (params, m, v, i), loss(params, x_batch, t_batch)

        scan = jax.jit(lambda state, rows: jax.lax.scan(step, state, rows))
        params = [jnp.asarray(np.asarray(p)) for p in self.network().params.values()]
        zeros = [jnp.zeros_like(p) for p in params]
        state: Any = (params, zeros, zeros, jnp.zeros((), self.dtype))
        rng = np.random.default_rng(1)

        def call() -> None:
            nonlocal state
            state, losses = scan(state, rng.choice(len(x), (self.per, self.batch)))
            np.asarray(losses)

        return call


DEEP = (100, 100)
CASES: tuple[dict[str, Any], ...] = (
    {"name": "784-50-10, SGD"},
    {"name": "784-50-10, SGD, float64", "dtype": "float64"},
    {"name": "784-50-10, Sigmoid", "activation": "sigmoid"},
    {"name": "784-50-10, Momentum", "optimizer": "Momentum"},
    {"name": "784-50-10, Adam", "optimizer": "Adam"},
    {"name": "784-100-100-10, SGD", "hidden": DEEP},
    {"name": "784-100-100-10, Adam", "hidden": DEEP, "optimizer": "Adam"},
    {"name": "784-512-10, SGD", "hidden": (512,)},
    {"name": "784-50-10, batch 1", "batch": 1},
    {"name": "784-50-10, batch 1,000", "batch": 1000},
    {"name": "784-50-10, no zeros in the data", "data": "dense"},
)


# ------------------------------------------------------------------------------------------ PyTorch
def torch_network(network: Any) -> Any:
    """Return a network of this project, with its weights, in PyTorch."""
    import torch

    nn, parts = torch.nn, []
    for layer in network.layers.values():
        kind = type(layer).__name__
        if kind == "Affine":
            if any(isinstance(part, nn.Conv2d) for part in parts):
                parts += [] if any(isinstance(p, nn.Flatten) for p in parts) else [nn.Flatten()]
            part: Any = nn.Linear(*layer.W.shape)
        elif kind == "Convolution":
            filters, channels, height, width = layer.W.shape
            part = nn.Conv2d(channels, filters, (height, width), layer.stride, layer.pad)
        else:
            part = {"Relu": nn.ReLU, "Sigmoid": nn.Sigmoid, "Dropout": nn.Dropout,
                    "Pooling": lambda: nn.MaxPool2d(2)}[kind]()  # fmt: skip
        if hasattr(layer, "W"):
            W, b = np.asarray(layer.W), np.asarray(layer.b)
            part = part.to(getattr(torch, str(W.dtype)))
            with torch.no_grad():
                part.weight.copy_(torch.from_numpy(np.ascontiguousarray(W.T if W.ndim == 2 else W)))
                part.bias.copy_(torch.from_numpy(b))
        parts.append(part)
    return nn.Sequential(*parts)


def torch_optimizer(network: Any, rule: str, lr: float, fused: bool = True) -> Any:
    """Return PyTorch's optimizer of an update rule."""
    import torch

    if rule == "Adam":
        return torch.optim.Adam(network.parameters(), lr=lr, fused=fused)
    momentum = 0.9 if rule == "Momentum" else 0.0
    return torch.optim.SGD(network.parameters(), lr=lr, momentum=momentum)


# --------------------------------------------------------------------------- convolutional networks
class ConvNet(Job):
    """Gradient and Adam update of a convolutional network, on batches of 100 images."""

    def __init__(self, network: str, dtype: str = "float32", data: str = "synthetic"):
        self.kind, self.dtype, self.name = network, dtype, f"{network}, gradient and Adam, {dtype}"
        x, t = load(data)[:2]
        self.x = x[:1000].reshape(-1, 1, 28, 28).astype(dtype)
        self.t = t[:1000]

    @property
    def flops(self) -> float:
        return sum(Net(self.network(), "Adam", 0.001).flops(self.x[:100]))

    def network(self) -> Any:
        import net

        return getattr(net, self.kind)(dtype=np.dtype(self.dtype), rng=np.random.default_rng(0))

    def _batches(self) -> Callable[[], tuple[Any, Any]]:
        turn = count()

        def batch() -> tuple[Any, Any]:
            i = 100 * (next(turn) % 10)
            return self.x[i : i + 100], self.t[i : i + 100]

        return batch

    def njitnet(self) -> Call:
        from net import Adam

        network, optimizer, batch = self.network(), Adam(0.001), self._batches()
        return lambda: optimizer.update(network.params, network.gradient(*batch()))

    def numpy(self) -> Call:
        net, batch = Net(self.network(), "Adam", 0.001), self._batches()
        return lambda: net.step(*batch())

    def torch(self) -> dict[str, Call]:
        import torch

        def make(order: Any, fused: bool) -> Call:
            network = torch_network(self.network()).to(memory_format=order).train()
            optimizer = torch_optimizer(network, "Adam", 0.001, fused)
            batch, loss = self._batches(), torch.nn.functional.cross_entropy

            def call() -> None:
                x, t = map(torch.from_numpy, batch())
                optimizer.zero_grad(set_to_none=True)
                loss(network(x.contiguous(memory_format=order)), t).backward()
                optimizer.step()

            return call

        return {
            f"torch, {name}{', fused Adam' * fused}": make(order, fused)
            for name, order in torch_orders().items()
            for fused in (False, True)
        }


class ConvNetEvaluation(ConvNet):
    """Accuracy of a convolutional network on 1,000 images, in batches of 100."""

    def __init__(self, network: str, dtype: str = "float32", data: str = "synthetic"):
        super().__init__(network, dtype, data)
        self.name = f"{network}, accuracy of 1,000 images, {dtype}"

    @property
    def flops(self) -> float:
        return 10 * Net(self.network(), "Adam", 0.001).flops(self.x[:100])[0]

    def njitnet(self) -> Call:
        network = self.network()
        return lambda: network.accuracy(self.x, self.t)

    def numpy(self) -> Call:
        net = Net(self.network(), "Adam", 0.001)
        return lambda: net.accuracy(self.x, self.t, 100)

    def torch(self) -> dict[str, Call]:
        import torch

        def make(order: Any) -> Call:
            network = torch_network(self.network()).to(memory_format=order).eval()
            x, t = torch.from_numpy(self.x), torch.from_numpy(self.t)

            def call() -> None:
                with torch.inference_mode():
                    sum(
                        (network(x[i : i + 100].contiguous(memory_format=order)).argmax(1)
                         == t[i : i + 100]).sum().item()
                        for i in range(0, len(x), 100)
                    )  # fmt: skip

            return call

        return {f"torch, {name}": make(order) for name, order in torch_orders().items()}


class Evaluation(Job):
    """Accuracy of the lecture's network on the training set, by default of MNIST."""

    def __init__(self, dtype: str, data: str = "mnist"):
        self.x, self.t = load(data)[:2]
        self.dtype, self.name = dtype, f"accuracy of {len(self.x):,} images, {dtype}"
        self.bytes = self.x.nbytes

    def njitnet(self) -> Call:
        network = two_layer_net(self.dtype)
        return lambda: network.accuracy(self.x, self.t)

    def numpy(self) -> Call:
        net, x = Net(two_layer_net(self.dtype), "SGD", 0.1), self.x.astype(self.dtype)
        return lambda: net.accuracy(x, self.t)


def torch_orders() -> dict[str, Any]:
    """Return PyTorch's memory formats of images, by name."""
    import torch

    return {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
