"""MMRel's metric for users of `evaluate`, a wrapper of `relation_accuracy`.

metric = evaluate.load(FOLDER)  # the path that `mmrel path evaluate` prints
metric.compute(predictions=[{"question_id": "q1", "answer": "Yes."}], references=[...])
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import datasets
import evaluate

import relation_accuracy


class MMRelAccuracy(evaluate.Metric):  # type: ignore[misc]
    """Accuracy, precision, recall, F1 and pair accuracy on MMRel; docs/metric.md explains them.

    `evaluate` stores rows in Arrow, which gives every row the same keys. Rows are stored as JSON
    instead, so that `relation_accuracy.compute` gets them unchanged.
    """

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=relation_accuracy.__doc__ or "",
            citation="arXiv 2406.09121",
            inputs_description=relation_accuracy.compute.__doc__ or "",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def add_batch(self, *, predictions: Iterable[Any], references: Iterable[Any]) -> None:
        """Add predictions and references of `relation_accuracy.compute`."""
        super().add_batch(
            predictions=list(map(json.dumps, predictions)),
            references=list(map(json.dumps, references)),
        )

    def add(self, *, prediction: Any, reference: Any) -> None:
        """Add one prediction and one reference."""
        super().add(prediction=json.dumps(prediction), reference=json.dumps(reference))

    def _compute(
        self,
        predictions: Iterable[str],
        references: Iterable[str],
        reader: str = "words",
        task: str = "discriminative",
        partial: bool = False,
        run: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        answers, records = list(map(json.loads, predictions)), list(map(json.loads, references))
        return relation_accuracy.compute(
            answers, records, reader=reader, task=task, partial=partial, run=run
        )
