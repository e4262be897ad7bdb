"""A convolutional network learns filters from 5,000 digits."""

from net import Adam, SimpleConvNet, load_mnist, plot_filters, train

(x_train, t_train), (x_test, t_test) = load_mnist(flatten=False)
x_train, t_train, x_test, t_test = x_train[:5000], t_train[:5000], x_test[:1000], t_test[:1000]

network = SimpleConvNet(dtype="float32", rng=0)
before = network.params["W1"].copy()
history = train(
    network, x_train, t_train, x_test, t_test, iterations=500, optimizer=Adam(lr=0.001), rng=1
)
for iteration, train_acc, test_acc in zip(
    history.evaluated_at, history.train_acc_list, history.test_acc_list, strict=True
):
    print(f"iteration {iteration:3}: training set {train_acc:.3f}, test set {test_acc:.3f}")
print(f"at the end:    training set {history.train_acc:.3f}, test set {history.test_acc:.3f}")

wrong = [i for i in range(len(x_test)) if network.predict(x_test[i : i + 1]).argmax() != t_test[i]]
print(f"{len(wrong)} of {len(x_test)} digits wrong, the first: {wrong[:5]}")

plot_filters({"before": before, "after": network.params["W1"]}, "convolution.png")
