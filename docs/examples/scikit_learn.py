"""Compiled classifier in a pipeline and a grid search of scikit-learn."""

from matplotlib.figure import Figure
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from net import load_mnist
from net.sklearn import MLPClassifier

(x_train, t_train), (x_test, t_test) = load_mnist(normalize=False)
x_train, x_test = x_train.astype("float32"), x_test.astype("float32")

classifier = MLPClassifier(early_stopping=True, n_iter_no_change=5, random_state=0)
sizes, alphas = [(50,), (100,), (100, 100)], [1e-4, 0.1, 1.0, 10.0]
search = GridSearchCV(
    make_pipeline(MaxAbsScaler(), classifier),
    {"mlpclassifier__hidden_layer_sizes": sizes, "mlpclassifier__alpha": alphas},
    cv=3,
    n_jobs=2,
)
search.fit(x_train[:6000], t_train[:6000])

scores = search.cv_results_["mean_test_score"].reshape(len(alphas), len(sizes))
deviations = search.cv_results_["std_test_score"].reshape(scores.shape)
figure = Figure(figsize=(7, 4.5), layout="constrained")
axes = figure.subplots()
for i, size in enumerate(sizes):
    axes.errorbar(alphas, scores[:, i], deviations[:, i], capsize=4, label=f"hidden {size}")
    row = ", ".join(
        f"{alpha:g}: {score:.3f}" for alpha, score in zip(alphas, scores[:, i], strict=True)
    )
    print(f"hidden {size!s:10}  accuracy by alpha  {row}")
axes.set(xscale="log", xlabel="alpha", ylabel="accuracy in cross-validation")
axes.legend()
figure.savefig("scikit_learn.png", dpi=100)

best = search.best_estimator_.fit(x_train, t_train)
print(f"the best of them on all images: test accuracy {best.score(x_test, t_test):.4f}")
