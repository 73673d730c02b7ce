"""The metric of MMRel for users of `evaluate`: a thin cover over `relation_accuracy`, which it imports.

metric = evaluate.load(FOLDER)  # what `mmrel path evaluate` prints
metric.compute(predictions=[{"question_id": "q1", "answer": "Yes."}], references=[...], reader="words")
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import datasets
import evaluate

import relation_accuracy


class MMRelAccuracy(evaluate.Metric):  # type: ignore[misc]
    """Accuracy, precision, recall, F1 and pair accuracy on MMRel; docs/metric.md explains them.

    `evaluate` keeps rows in Arrow, where every row must have every key. Rows travel as JSON instead, so that
    whatever `relation_accuracy.compute` takes is taken here, and with the same errors.
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
        """Adds predictions and references of `relation_accuracy.compute`."""
        super().add_batch(
            predictions=list(map(json.dumps, predictions)),
            references=list(map(json.dumps, references)),
        )

    def add(self, *, prediction: Any, reference: Any) -> None:
        """Adds one prediction and one reference."""
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
