"""Training of a two-layer network on MNIST with the lecture's own loop."""

import numpy as np

from net import History, TwoLayerNet, load_mnist

np.random.seed(0)
(x_train, t_train), (x_test, t_test) = load_mnist(normalize=True, one_hot_label=True)
network = TwoLayerNet(input_size=784, hidden_size=50, output_size=10)

iters_num = 10_000
train_size = x_train.shape[0]
batch_size = 100
learning_rate = 0.1
iter_per_epoch = max(train_size / batch_size, 1)
history = History()

for i in range(iters_num):
    batch_mask = np.random.choice(train_size, batch_size)
    x_batch = x_train[batch_mask]
    t_batch = t_train[batch_mask]

    grad = network.gradient(x_batch, t_batch)

    for key in ("W1", "b1", "W2", "b2"):
        network.params[key] -= learning_rate * grad[key]

    history.train_loss_list.append(network.loss(x_batch, t_batch))

    if i % iter_per_epoch == 0:
        history.evaluated_at.append(i)
        history.train_acc_list.append(network.accuracy(x_train, t_train))
        history.test_acc_list.append(network.accuracy(x_test, t_test))
        print(f"{history.train_acc_list[-1]:.4f} {history.test_acc_list[-1]:.4f}")

history.plot("lecture.png")
