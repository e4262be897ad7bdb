"""The networks that the command line can train."""

import argparse
from typing import Any


def check_options(options: argparse.Namespace) -> None:
    """Check that the options apply to the chosen network.

    Parameters
    ----------
    options : argparse.Namespace

    Raises
    ------
    ValueError
        If an option does not apply to the network.
    """
    for name in ("activation", "dropout", "batch_norm"):
        if getattr(options, name) not in (None, False) and options.network != "multi-layer":
            raise ValueError(
                f"argument --{name.replace('_', '-')}: expected --network multi-layer with it, "
                f"got {options.network}"
            )
    if options.network != "multi-layer" and options.hidden and len(options.hidden) > 1:
        raise ValueError(
            f"argument --hidden: expected one number for {options.network}, got "
            f"{len(options.hidden)}; --network multi-layer takes several"
        )


def make_network(
    options: argparse.Namespace,
    image: tuple[int, int],
    classes: int,
    rng: Any,
    hidden: list[int] | None = None,
) -> Any:
    """Make the network that the options describe.

    Parameters
    ----------
    options : argparse.Namespace
    image : (int, int)
        Height and width of the images.
    classes : int
        Number of classes.
    rng : numpy.random.Generator or RandomState
    hidden : list of int, optional
        Sizes of the hidden layers, instead of ``options.hidden``.

    Returns
    -------
    Network
    """
    import net

    common = {"dtype": options.dtype, "rng": rng}
    pixels, sizes = image[0] * image[1], hidden or options.hidden
    network: Any
    if options.network == "two-layer":
        network = net.TwoLayerNet(pixels, (sizes or [50])[0], classes, **common)
    elif options.network == "multi-layer":
        activation = options.activation or "relu"
        args = (pixels, sizes or [100, 100], classes, activation, activation)
        if options.dropout is not None or options.batch_norm:
            network = net.MultiLayerNetExtend(
                *args,
                use_dropout=options.dropout is not None,
                dropout_ration=options.dropout or 0.0,
                use_batchnorm=options.batch_norm,
                **common,
            )
        else:
            network = net.MultiLayerNet(*args, **common)
    elif options.network == "simple-conv":
        network = net.SimpleConvNet(
            (1, *image), hidden_size=(sizes or [100])[0], output_size=classes, **common
        )
    else:
        network = net.DeepConvNet(
            (1, *image), hidden_size=(sizes or [50])[0], output_size=classes, **common
        )
    network.weight_decay = options.weight_decay
    return network


def make_optimizer(options: argparse.Namespace) -> Any:
    """Make the optimizer that the options describe.

    Parameters
    ----------
    options : argparse.Namespace

    Returns
    -------
    Optimizer
    """
    from net.optimizers import OPTIMIZERS
    from net.training_checks import LEARNING_RATE

    rate = options.learning_rate
    if rate is None and options.optimizer == "sgd":
        rate = LEARNING_RATE
    kind = OPTIMIZERS[options.optimizer]
    return kind() if rate is None else kind(lr=rate)
