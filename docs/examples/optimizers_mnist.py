"""Loss of one network on MNIST, trained by each of six optimizers."""

from net import (
    SGD,
    AdaGrad,
    Adam,
    Momentum,
    MultiLayerNet,
    Nesterov,
    RMSprop,
    load_mnist,
    plot_histories,
    train,
)

(x_train, t_train), (x_test, t_test) = load_mnist()

optimizers = {
    "SGD": SGD(),
    "Momentum": Momentum(),
    "Nesterov": Nesterov(),
    "AdaGrad": AdaGrad(),
    "RMSprop": RMSprop(lr=0.001),
    "Adam": Adam(),
}
histories = {}
for name, optimizer in optimizers.items():
    network = MultiLayerNet(784, [100, 100, 100, 100], 10, dtype="float32", rng=0)
    histories[name] = train(
        network, x_train, t_train, x_test, t_test, iterations=2000, batch_size=128,
        optimizer=optimizer, rng=1,
    )  # fmt: skip
    print(f"{name:9} test accuracy {histories[name].test_acc:.4f}")

plot_histories(histories, "optimizers_mnist.png", title="Five layers, batches of 128")
