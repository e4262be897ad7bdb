"""The lecture's training loop in NumPy, on our layers, in PyTorch, JAX and scikit-learn.

Each imports its library when it is made: see `_peers`.
"""

from typing import Any, Protocol

from benchmarks._jobs import CLASSES, PIXELS, RATE, Job


class Loop(Protocol):
    """A training loop in some library."""

    def iterate(self, count: int) -> None:
        """Do some iterations of training."""

    def evaluate(self) -> tuple[float, float]:
        """Return the accuracies on the training set and on the test set."""


def initial_weights(job: Job) -> list[Any]:
    """Return ``W1 b1 W2 b2`` as the lecture begins."""
    import numpy as np

    rng = np.random.default_rng(0)
    return [
        (0.01 * rng.standard_normal((PIXELS, job.hidden))).astype(job.dtype),
        np.zeros(job.hidden, job.dtype),
        (0.01 * rng.standard_normal((job.hidden, CLASSES))).astype(job.dtype),
        np.zeros(CLASSES, job.dtype),
    ]


class NumPyLoop:
    """The lecture's layers, written out in one place."""

    input_gradient = True
    """The lecture takes the gradient of the images too, which nobody reads."""

    def __init__(self, job: Job, data: Any):
        import numpy as np

        self.np, self.job = np, job
        self.x, self.t, self.x_test, self.t_test = (
            a.astype(job.dtype, copy=False) if a.ndim == 2 else np.eye(CLASSES, dtype=job.dtype)[a]
            for a in data
        )
        self.parameters = initial_weights(job)
        self.losses: list[float] = []

    def forward(self, x: Any, t: Any) -> tuple[float, Any, Any, Any]:
        """Return the loss, and what `gradient` needs."""
        np = self.np
        W1, b1, W2, b2 = self.parameters
        h = np.dot(x, W1) + b1
        mask = h <= 0
        a = h.copy()
        a[mask] = 0
        z = np.dot(a, W2) + b2
        z = z - np.max(z, axis=1, keepdims=True)
        e = np.exp(z)
        y = e / np.sum(e, axis=1, keepdims=True)
        rows = np.arange(len(y))
        return -np.sum(np.log(y[rows, t.argmax(axis=1)] + 1e-7)) / len(y), mask, a, y

    def gradient(self, x: Any, t: Any) -> tuple[Any, Any, Any, Any]:
        """Return the gradients of the parameters."""
        np = self.np
        W1, _, W2, _ = self.parameters
        _, mask, a, y = self.forward(x, t)
        dz = (y - t) / len(y)
        dh = np.dot(dz, W2.T)
        dh[mask] = 0
        if self.input_gradient:
            np.dot(dh, W1.T)
        return np.dot(x.T, dh), np.sum(dh, axis=0), np.dot(a.T, dz), np.sum(dz, axis=0)

    def iterate(self, count: int) -> None:
        """Do some iterations of training."""
        for _ in range(count):
            drawn = self.np.random.choice(len(self.x), self.job.batch)
            x, t = self.x[drawn], self.t[drawn]
            for parameter, gradient in zip(self.parameters, self.gradient(x, t), strict=True):
                parameter -= RATE * gradient
            self.losses.append(self.forward(x, t)[0])

    def evaluate(self) -> tuple[float, float]:
        """Return the accuracies on the training set and on the test set."""
        np = self.np
        W1, b1, W2, b2 = self.parameters

        def accuracy(x: Any, t: Any) -> float:
            y = np.dot(np.maximum(np.dot(x, W1) + b1, 0), W2) + b2
            return float(np.mean(y.argmax(axis=1) == t.argmax(axis=1)))

        return accuracy(self.x, self.t), accuracy(self.x_test, self.t_test)


class LeanNumPyLoop(NumPyLoop):
    """The same without the gradient of the images."""

    input_gradient = False


class LayersLoop:
    """The lecture's script on our layers."""

    def __init__(self, job: Job, data: Any):
        import numpy as np

        from net import TwoLayerNet

        x, t, x_test, t_test = data
        one_hot = np.eye(CLASSES)
        self.np, self.job = np, job
        self.train, self.test = (x, one_hot[t]), (x_test, one_hot[t_test])
        self.network = TwoLayerNet(PIXELS, job.hidden, CLASSES, dtype=job.dtype, rng=0)
        self.losses: list[float] = []

    def iterate(self, count: int) -> None:
        """Do some iterations of training."""
        network, (x_train, t_train) = self.network, self.train
        for _ in range(count):
            batch_mask = self.np.random.choice(len(x_train), self.job.batch)
            x_batch, t_batch = x_train[batch_mask], t_train[batch_mask]
            grad = network.gradient(x_batch, t_batch)
            for key in ("W1", "b1", "W2", "b2"):
                network.params[key] -= RATE * grad[key]
            self.losses.append(network.loss(x_batch, t_batch))

    def evaluate(self) -> tuple[float, float]:
        """Return the accuracies on the training set and on the test set."""
        return self.network.accuracy(*self.train), self.network.accuracy(*self.test)


class TorchLoop:
    """PyTorch, eager, on plain tensors: quicker than modules and an optimiser."""

    def __init__(self, job: Job, data: Any):
        import torch

        self.torch, self.job = torch, job
        self.x, self.t, self.x_test, self.t_test = (
            torch.from_numpy(a).to(getattr(torch, job.dtype))
            if a.ndim == 2
            else torch.from_numpy(a)
            for a in data
        )
        self.parameters = [torch.from_numpy(a).requires_grad_() for a in initial_weights(job)]
        self.losses: list[float] = []

    def logits(self, x: Any) -> Any:
        """Return the output of the second layer."""
        W1, b1, W2, b2 = self.parameters
        return self.torch.addmm(b2, self.torch.addmm(b1, x, W1).relu_(), W2)

    def iterate(self, count: int) -> None:
        """Do some iterations of training."""
        torch, loss = self.torch, self.torch.nn.functional.cross_entropy
        for _ in range(count):
            drawn = torch.randint(len(self.x), (self.job.batch,))
            x, t = self.x.index_select(0, drawn), self.t.index_select(0, drawn)
            gradients = torch.autograd.grad(loss(self.logits(x), t), self.parameters)
            with torch.no_grad():
                torch._foreach_add_(self.parameters, gradients, alpha=-RATE)
                self.losses.append(loss(self.logits(x), t).item())

    def evaluate(self) -> tuple[float, float]:
        """Return the accuracies on the training set and on the test set."""
        with self.torch.inference_mode():
            train, test = (
                (self.logits(x).argmax(dim=1) == t).double().mean().item()
                for x, t in [(self.x, self.t), (self.x_test, self.t_test)]
            )
        return train, test


class JaxLoop:
    """JAX: a scan over the iterations of an epoch, compiled as a whole."""

    def __init__(self, job: Job, data: Any):
        import jax
        import numpy as np
        from jax import numpy as jnp

        jax.config.update("jax_enable_x64", job.dtype == "float64")
        self.jax, self.np, self.job = jax, np, job
        self.train, self.test = (
            (jnp.asarray(x, job.dtype), jnp.asarray(t)) for x, t in [data[:2], data[2:]]
        )
        self.parameters = tuple(map(jnp.asarray, initial_weights(job)))
        self.losses: list[Any] = []

        def logits(parameters: Any, x: Any) -> Any:
            W1, b1, W2, b2 = parameters
            return jax.nn.relu(x @ W1 + b1) @ W2 + b2

        def loss(parameters: Any, x: Any, t: Any) -> Any:
            chosen = jax.nn.log_softmax(logits(parameters, x))
            return -jnp.mean(jnp.take_along_axis(chosen, t[:, None], axis=1))

        @jax.jit
        def epoch(parameters: Any, x_train: Any, t_train: Any, drawn: Any) -> Any:
            def step(parameters: Any, drawn: Any) -> Any:
                x, t = x_train[drawn], t_train[drawn]
                gradients = jax.grad(loss)(parameters, x, t)
                parameters = tuple(p - RATE * g for p, g in zip(parameters, gradients, strict=True))
                return parameters, loss(parameters, x, t)

            return jax.lax.scan(step, parameters, drawn)

        @jax.jit
        def accuracy(parameters: Any, x: Any, t: Any) -> Any:
            return jnp.mean(logits(parameters, x).argmax(axis=1) == t)

        self.epoch, self.accuracy = epoch, accuracy

    def iterate(self, count: int) -> None:
        """Do some iterations of training."""
        drawn = self.np.random.choice(len(self.train[0]), (count, self.job.batch))
        self.parameters, losses = self.epoch(self.parameters, *self.train, drawn)
        self.losses += self.np.asarray(losses).tolist()

    def evaluate(self) -> tuple[float, float]:
        """Return the accuracies on the training set and on the test set."""
        train, test = (float(self.accuracy(self.parameters, *s)) for s in (self.train, self.test))
        return train, test


class SklearnLoop:
    """scikit-learn's MLPClassifier, an epoch by each ``partial_fit``."""

    def __init__(self, job: Job, data: Any):
        import numpy as np
        from sklearn.neural_network import MLPClassifier

        self.np, self.job = np, job
        self.x, self.t, self.x_test, self.t_test = (
            a.astype(job.dtype, copy=False) if a.ndim == 2 else a for a in data
        )
        self.model = MLPClassifier(
            (job.hidden,),
            solver="sgd",
            alpha=0,
            batch_size=job.batch,
            learning_rate_init=RATE,
            momentum=0,
            nesterovs_momentum=False,
        )

    def iterate(self, count: int) -> None:
        """Do some iterations of training."""
        n = count * self.job.batch
        self.model.partial_fit(self.x[:n], self.t[:n], classes=self.np.arange(CLASSES))

    def evaluate(self) -> tuple[float, float]:
        """Return the accuracies on the training set and on the test set."""
        return self.model.score(self.x, self.t), self.model.score(self.x_test, self.t_test)
