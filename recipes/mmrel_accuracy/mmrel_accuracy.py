"""The metric of MMRel for those who use `evaluate`: a thin cover over `relation_accuracy`, which must be importable.

metric = evaluate.load("recipes/mmrel_accuracy")
metric.compute(predictions=[{"question_id": "q1", "answer": "Yes."}], references=[...], reader="words")
"""

import datasets
import evaluate
import relation_accuracy

_TEXT = datasets.Value("string")
_REFERENCE = ("answer", "split", "domain", "category", "style", "relation", "image_id", "pair_id", "task")
_REFERENCE += ("subject", "object")


class MMRelAccuracy(evaluate.Metric):  # type: ignore[misc]
    """Accuracy, precision, recall, F1 and pair accuracy on MMRel; METRIC.md explains them."""

    def _info(self) -> evaluate.MetricInfo:
        answer = {"question_id": _TEXT, "answer": _TEXT}
        record = {"question_id": _TEXT, **dict.fromkeys(_REFERENCE, _TEXT)}
        return evaluate.MetricInfo(
            description=relation_accuracy.__doc__,
            citation="arXiv 2406.09121",
            inputs_description=relation_accuracy.compute.__doc__,
            features=[
                datasets.Features({"predictions": answer, "references": record}),
                datasets.Features({"predictions": _TEXT, "references": _TEXT}),
            ],
        )

    def _compute(
        self, predictions, references, reader="words", task="discriminative", partial=False, run=None
    ):
        return relation_accuracy.compute(
            predictions, references, reader=reader, task=task, partial=partial, run=run
        )
