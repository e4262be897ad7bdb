"""A classifier with scikit-learn's interface, trained by compiled kernels.

scikit-learn is installed by the extra ``sklearn``. No other package of njitnet imports it.
"""

try:
    from net.sklearn.classifier import MLPClassifier
except ImportError as error:
    if (error.name or "").partition(".")[0] not in ("sklearn", "scipy"):
        raise
    raise ImportError(
        "net.sklearn: expected scikit-learn 1.7 or newer, which \"pip install 'njitnet[sklearn]'\" "
        f"installs, got: {error}"
    ) from error

__all__ = ["MLPClassifier"]
