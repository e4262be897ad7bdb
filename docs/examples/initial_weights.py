"""Initial weights: a network learns with those of He and Xavier, but not with too small ones."""

from net import SGD, MultiLayerNet, load_mnist, plot_histories, train

(x_train, t_train), (x_test, t_test) = load_mnist()

histories = {}
for name, std in {"std=0.01": 0.01, "Xavier": "xavier", "He": "he"}.items():
    network = MultiLayerNet(
        784, [100, 100, 100, 100], 10, weight_init_std=std, dtype="float32", rng=0
    )
    histories[name] = train(
        network, x_train, t_train, x_test, t_test, iterations=2000, batch_size=128,
        optimizer=SGD(lr=0.01), rng=1,
    )  # fmt: skip
    print(f"{name:8} test accuracy {histories[name].test_acc:.4f}")

plot_histories(histories, "initial_weights.png", title="Initial weights of five layers with ReLU")
