"""Serialisation of networks: layers, options, parameters and buffers as text and arrays."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels._arrays import FLOAT32, FLOAT64
from net import layers as built_in
from net.layer_list import is_custom

Array = NDArray[Any]
Arrays = Mapping[str, Array]

KEY = "structure"
"""Name, among the arrays of a file, of the JSON text that describes the network."""

_FORMAT = 1
_OWN = "custom "
"""Prefix, in a file, of a custom class that has the name of a class of `net`."""
_NETWORKS = {
    "Network": "net.network",
    "TwoLayerNet": "net.two_layer_net",
    "MultiLayerNet": "net.multi_layer_net",
    "MultiLayerNetExtend": "net.multi_layer_net",
    "SimpleConvNet": "net.conv_net",
    "DeepConvNet": "net.conv_net",
}
_TWO_LAYER_NET: dict[str, Any] = {  # for files of version 0.1, which have no structure
    "format": _FORMAT,
    "network": "TwoLayerNet",
    "weight_decay": 0.0,
    "layers": [
        ["Affine1", "Affine", {"input_gradient": False}],
        ["Relu1", "Relu", {}],
        ["Affine2", "Affine", {"input_gradient": True}],
    ],
    "last_layer": ["SoftmaxWithLoss", {}],
}


def describe(network: Any) -> dict[str, Any]:
    """Return the classes and options of a network and its layers.

    Parameters
    ----------
    network : Network

    Returns
    -------
    dict
        Values that `json.dumps` accepts, equal for networks that differ only in the values of their
        arrays.
    """
    return {
        "format": _FORMAT,
        "network": _class_name(type(network)),
        "weight_decay": float(network.weight_decay),
        "layers": [
            [name, _class_name(type(layer)), _options(layer)]
            for name, layer in network.layers.items()
        ],
        "last_layer": [_class_name(type(network.last_layer)), _options(network.last_layer)],
    }


def _class_name(kind: type[Any]) -> str:
    """Return the name of a class in a file, which differs from the names of all other classes."""
    name = kind.__name__
    taken = name in built_in.__all__ or name in _NETWORKS
    return _OWN + name if taken and is_custom(kind) else name


def _check_constructors(network: Any) -> None:
    """Raise if a custom layer has constructor arguments that would not be saved."""
    for name, layer in (*network.layers.items(), ("last_layer", network.last_layer)):
        kind = type(layer)
        if not is_custom(kind):
            continue
        saved = {n for a in ("parameters", "buffers", "options") for n in getattr(kind, a, ())}
        named = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        arguments = inspect.signature(kind).parameters.values()
        lost = [a.name for a in arguments if a.kind in named and a.name not in saved]
        if lost:
            raise TypeError(
                f"{name}: expected the arguments of {kind.__name__} among its parameters, buffers "
                f"and options, to be saved, got others: {', '.join(lost)}"
            )


def _options(layer: Any) -> dict[str, Any]:
    return {name: _plain(getattr(layer, name)) for name in getattr(layer, "options", ())}


def _plain(value: Any) -> Any:
    """Convert an option to values that JSON can represent."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"options: expected numbers, text or lists of them, to be saved, got {value!r}")


def to_arrays(network: Any, check: bool = False) -> dict[str, Array]:
    """Return a network as named arrays.

    Parameters
    ----------
    network : Network
    check : bool, default False
        Whether to raise TypeError if a custom layer could not be constructed again.

    Returns
    -------
    dict of str to ndarray
        The parameters and buffers, and the structure as JSON text under `KEY`.
    """
    if check:
        _check_constructors(network)
    arrays = {key: np.asarray(value) for key, value in (*network.params.items(),
              *network.buffers.items()) if value is not None}  # fmt: skip
    return {**arrays, KEY: np.array(json.dumps(describe(network)))}


def from_arrays(
    base: type[Any],
    cls: type[Any],
    arrays: Arrays,
    source: str,
    own_layers: Iterable[type[Any]] = (),
) -> Any:
    """Construct a network from arrays that `to_arrays` returned.

    Parameters
    ----------
    base : type
        The class `Network`.
    cls : type
        The expected class: `Network` or a subclass.
    arrays : mapping of str to ndarray
        The arrays; additional arrays are ignored.
    source : str
        Name of the file, for error messages.
    own_layers : iterable of type
        Classes of layers other than those of `net`.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        If an array is missing, a class is unknown, or the parts do not fit together.
    """
    structure = _TWO_LAYER_NET
    if KEY in arrays or not {"W1", "b1", "W2", "b2"} <= arrays.keys():
        structure = _read(arrays, source)
    kind = _network_class(cls, structure["network"], source)
    known = {
        **{name: getattr(built_in, name) for name in built_in.__all__ if name != "Layer"},
        **{_class_name(layer): layer for layer in own_layers},
    }
    network = object.__new__(kind)
    counts: dict[str, int] = {}
    made: dict[str, Any] = {}
    for name, type_name, options in structure["layers"]:
        layer_class = known.get(type_name)
        if layer_class is None:
            raise ValueError(
                f"{source}: expected layers of net, got {type_name!r} ({name}); give its class as "
                f"load(path, layers=[{type_name.removeprefix(_OWN)}])"
            )
        made[name] = _layer(layer_class, name, options, arrays, counts, source)
    last_name, last_options = structure["last_layer"]
    if last_name not in known:
        raise ValueError(f"{source}: expected a last layer of net, got {last_name!r}")
    try:
        last = known[last_name](**last_options)
        base.__init__(network, made, last, weight_decay=structure["weight_decay"])
        _check_fit(network)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{source}: expected a network, got parts that are inconsistent ({error})"
        ) from (error)
    return network


def _read(arrays: Arrays, source: str) -> dict[str, Any]:
    """Read the structure from the arrays of a file, and check its types."""
    try:
        structure = json.loads(str(arrays[KEY][()]))
        right = (
            structure["format"] == _FORMAT
            and type(structure["network"]) is str
            and type(structure["weight_decay"]) in (int, float)
            and all(
                type(name) is type(kind) is str and type(options) is dict
                for name, kind, options in structure["layers"]
            )
            and len({name for name, _, _ in structure["layers"]}) == len(structure["layers"])
            and [type(part) for part in structure["last_layer"]] == [str, dict]
        )
    except (KeyError, RecursionError, TypeError, ValueError):
        right = False
    if not right:
        found = ", ".join(f"{key} {a.shape} of {a.dtype}" for key, a in arrays.items())
        raise ValueError(f"{source}: expected a network saved by `save`, got {found or 'nothing'}")
    checked: dict[str, Any] = structure
    return checked


def _network_class(cls: type[Any], name: str, source: str) -> type[Any]:
    """Return the class of a saved network, after checking that it is `cls` or a subclass."""
    if name == _class_name(cls):
        return cls
    if name not in _NETWORKS:
        raise ValueError(
            f"{source}: expected a network of net, got a {name}; call "
            f"{name.removeprefix(_OWN)}.load instead"
        )
    kind: type[Any] = getattr(import_module(_NETWORKS[name]), name)
    if not issubclass(kind, cls):
        raise ValueError(
            f"{source}: expected a {cls.__name__}, got a {name}; call {name}.load or Network.load"
        )
    return kind


def _layer(
    kind: type[Any],
    name: str,
    options: dict[str, Any],
    arrays: Arrays,
    counts: dict[str, int],
    source: str,
) -> Any:
    """Construct a layer, with its arrays selected by their numbers."""
    given: dict[str, Array] = {}
    for attribute in ("parameters", "buffers"):
        names = tuple(getattr(kind, attribute, ()))
        number = 1 + max((counts.get(f"{attribute} {n}", 0) for n in names), default=0)
        for n in names:
            counts[f"{attribute} {n}"] = number
            key = f"{n}{number}"
            custom = is_custom(kind) and attribute == "buffers"
            if key not in arrays:
                if custom:  # it was None
                    continue
                raise ValueError(f"{source}: expected {key} of the layer {name}, got no such array")
            right = arrays[key].dtype in (FLOAT32, FLOAT64) and 0 not in arrays[key].shape
            if not right and not (custom and arrays[key].dtype.kind in "biuf"):
                raise ValueError(
                    f"{source}: expected {key} of float32 or float64, not empty, got "
                    f"{arrays[key].shape} of {arrays[key].dtype}"
                )
            given[n] = arrays[key]
    buffers = {n: given.pop(n) for n in getattr(kind, "buffers", ()) if n in given}
    unknown = options.keys() - set(getattr(kind, "options", ()))
    if unknown:
        raise ValueError(f"{source}: expected options of {kind.__name__}, got {sorted(unknown)}")
    try:
        layer = kind(**given, **options)
        for n, value in buffers.items():
            current: Any = getattr(layer, n, None)
            if np.shape(current) not in ((), value.shape):
                raise ValueError(f"expected {n} {np.shape(getattr(layer, n))}, got {value.shape}")
            setattr(layer, n, value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{source}: expected arguments of {name}, got other arguments ({error})"
        ) from error
    return layer


def _check_fit(network: Any) -> None:
    """Check that dtypes agree and that the sizes of consecutive layers of `net` match.

    The check detects a damaged file when it is read, not when the network is used.
    """
    places = network.params.places().items()
    kinds = {
        np.asarray(network.params[key]).dtype
        for key, (layer, _) in places
        if not is_custom(type(layer))
    }
    if len(kinds) > 1 or kinds - {FLOAT32, FLOAT64}:
        raise ValueError(f"expected all float32 or all float64, got {sorted(map(str, kinds))}")
    size = None
    for name, layer in network.layers.items():
        if type(layer) is built_in.Affine:
            if size not in (None, layer.W.shape[0]):
                raise ValueError(f"expected {name}.W ({size}, ...), got {layer.W.shape}")
            size = layer.W.shape[1]
        elif type(layer).__name__ == "BatchNormalization":
            if size not in (None, layer.gamma.size):
                raise ValueError(f"expected {name}.gamma ({size},), got {layer.gamma.shape}")
        elif type(layer).__name__ not in ("Relu", "Sigmoid", "Dropout"):
            size = None
