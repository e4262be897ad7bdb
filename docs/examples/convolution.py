"""Filters and mistakes of a convolutional network trained on 5,000 digits."""

from matplotlib.figure import Figure

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

plot_filters({"before": before, "after": network.params["W1"]}, "convolution.png")

digits = network.predict(x_test).argmax(axis=1)
wrong = (digits != t_test).nonzero()[0]
print(f"{len(wrong)} of {len(x_test)} digits wrong, the first: {wrong[:5].tolist()}")

figure = Figure(figsize=(10, 3.5), layout="constrained")
figure.suptitle("Label and prediction of the first 20 mistakes")
for axes, i in zip(figure.subplots(2, 10).ravel(), wrong, strict=False):
    axes.imshow(x_test[i, 0], cmap="gray_r")
    axes.set_title(f"{t_test[i]}, not {digits[i]}", fontsize=9)
    axes.axis("off")
figure.savefig("convolution_mistakes.png", dpi=100)
