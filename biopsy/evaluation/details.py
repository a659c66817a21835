"""What details.json says of probabilities, thresholds and models."""

from typing import Any

from biopsy.core.job import Job
from biopsy.core.sections.figures import Evaluate
from biopsy.evaluation.abstention import describe_abstention
from biopsy.evaluation.calibration import describe_calibration, describe_fit
from biopsy.evaluation.conformal import describe_sets
from biopsy.evaluation.decision import decision_curve
from biopsy.evaluation.operating import operating_points
from biopsy.evaluation.predictions import Answers
from biopsy.networks.model_file import Card


def about_probabilities(test: Answers, val: Answers, wanted: Evaluate) -> dict[str, Any]:
    """Say how far the probabilities hold, where to cut them, when to give no or more answers, what acting is worth."""
    chosen, tested = (val.outcome, val.cases), (test.outcome, test.cases)
    folds = test.rows["fold"].to_numpy(str) if "fold" in test.rows else None
    return {
        "calibration": describe_calibration(test.outcome, test.temperatures),
        "operating_point": operating_points(chosen, tested, wanted.sensitivity),
        "abstention": describe_abstention(chosen, tested, wanted.abstain_error),
        "sets": describe_sets(chosen, tested, folds),
        "decision": decision_curve(*tested),
    }


def about_model(job: Job, card: Card) -> dict[str, Any]:
    """Say which model answered, by its hashes, and how its temperature was found."""
    name = {"fold": job.fold.name} if job.fold else {}
    data = {what: card.data[what] for what in ("labels", "split")}
    return {**name, "sha256": card.model_sha256, "data": data, **describe_fit(card.calibration, card.temperature)}
