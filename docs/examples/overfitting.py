"""Overfitting to 300 images, without and with weight decay and dropout."""

from net import MultiLayerNetExtend, Trainer, load_mnist, plot_histories

(x_train, t_train), (x_test, t_test) = load_mnist()
x_train, t_train = x_train[:300], t_train[:300]  # few enough to overfit
x_test, t_test = x_test[:1000], t_test[:1000]

trainers = {}
for name, options in {
    "nothing": {},
    "weight decay 0.1": {"weight_decay_lambda": 0.1},
    "dropout 0.2": {"use_dropout": True, "dropout_ration": 0.2},
}.items():
    network = MultiLayerNetExtend(784, [100] * 6, 10, dtype="float32", rng=0, **options)
    trainers[name] = Trainer(
        network, x_train, t_train, x_test, t_test, epochs=201, mini_batch_size=100,
        optimizer="SGD", optimizer_param={"lr": 0.01}, verbose=False,
    )  # fmt: skip
    trainers[name].train()
    train_acc, test_acc = trainers[name].train_acc_list[-1], trainers[name].test_acc_list[-1]
    print(f"{name:16} training set {train_acc:.3f}, test set {test_acc:.3f}")

plot_histories(trainers, "overfitting.png", values="overfitting", title="Trained on 300 images")
