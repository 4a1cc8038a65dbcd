"""What the evaluation of a surrogate depends on, the section `evaluate` of `params.yaml`."""

from typing import Annotated, Literal

from pydantic import Field

from mno.core.config import Config
from mno.surrogate.trust import TrustConfig

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Level = Annotated[float, Field(gt=0.0, le=10.0)]
PeerName = Literal["mean", "persistence", "ridge", "quadratic", "gaussian_process"]
ToolName = Literal[PeerName, "reduced_basis", "kalman_filter", "ensemble_filter"]
Ratio = Annotated[float, Field(ge=0.125, le=8.0)]


class RobustnessConfig(Config):
    """How far from its training data a surrogate is tried; none of it changes another metric."""

    enabled: bool = True
    """whether it is measured at all"""
    samples: int = Field(default=32, ge=1)
    """test samples that are changed, and checked for their physics"""
    solved_samples: int = Field(default=8, ge=1)
    """samples that the solver solves anew, for each thing that is tried"""
    noise: list[Level] = [0.01, 0.02, 0.05, 0.1, 0.2]
    """noise on the inputs, in standard deviations of each over the training split; none where it is
    empty, as for the other lists"""
    missing: list[Share] = [0.1, 0.25, 0.5]
    """shares of the places at which inputs are not measured"""
    resolutions: list[Ratio] = [0.5, 2.0]
    """points along each axis, in those of the training data"""
    threshold: Level = 0.2
    """relative error up to which a rollout counts as usable"""
    seed: int = Field(default=0, ge=0)
    """of noise, missing places and solved samples"""


class EconomicsConfig(Config):
    """What solving and computing cost you; what is not given is measured, or left out."""

    solver_seconds: Positive | None = None
    """seconds that one solve takes your own solver; if not given, the scenario's own is measured"""
    queries_per_day: Positive | None = None
    """solutions that are needed in a day"""
    questions: Positive | None = None
    """solutions that are needed in all; if not given, those of the days within which it should
    pay"""
    hourly_rate: NotNegative | None = None
    """price of one hour of computing, of one core"""
    currency: str = Field(default="", max_length=8)
    """of that price, as EUR"""
    horizon_days: Positive = 365.0
    """days within which the surrogate should have paid for itself"""
    watts_per_core: Positive = 12.0
    """power of a busy processor core, W, for the estimate of energy; by default that of Green
    Algorithms for any processor (doi:10.1002/advs.202100707)"""
    comparison_seconds: NotNegative = 4.0
    """seconds to spend on solving problems, to compare with the solver; 0 for none"""


class KpiConfig(Config):
    """Targets; what has none is measured, and decides nothing."""

    relative_l2: Positive | None = None
    """largest relative L2 on the test split, a fraction: 0.03 is 3 %"""
    rmse: dict[str, Positive] = {}
    """largest RMSE by output field, in its unit"""
    max_error: dict[str, Positive] = {}
    """largest error at any point by output field, in its unit"""
    latency_ms: Positive | None = None
    """longest time of one prediction (median), ms, one thread"""
    latency_p95_ms: Positive | None = None
    """longest time that 95 % of predictions stay below, ms, one thread"""
    throughput_per_s: Positive | None = None
    """least predictions per second, with the best batch, one thread"""
    memory_mib: Positive | None = None
    """largest memory of a process that predicts one sample, MiB"""
    speedup: Positive | None = None
    """least number of times that a prediction is faster than a solve"""


class IntervalConfig(Config):
    """Bootstrap intervals of the metrics, over test samples."""

    level: Share = 0.95
    """confidence of an interval"""
    resamples: int = Field(default=2000, ge=100, le=100_000)
    """times the samples are drawn anew"""
    seed: int = Field(default=0, ge=0)
    """of the draws"""


class EvaluateConfig(Config):
    """How a surrogate is evaluated, and what it has to achieve; none of it changes a metric."""

    batch_size: int = Field(default=32, ge=1)
    """samples per forward pass"""
    check_samples: int = Field(default=4, ge=1)
    """test samples whose predictions are kept, to check the packaged model by"""
    intervals: IntervalConfig = IntervalConfig()
    """bootstrap intervals of the metrics"""
    robustness: RobustnessConfig = RobustnessConfig()
    """errors on data unlike the training data"""
    trust: TrustConfig = TrustConfig()
    """bounds on the errors of single predictions"""
    tools: list[ToolName] = []
    """what an engineer would try first, fitted to the same samples and compared with the model:
    `ridge` and `quadratic` regression and a `gaussian_process`, all on principal components, and,
    where the equation is linear, a `reduced_basis` (by pyMOR: pip install 'mno[pymor]'); beside an
    observer, a `kalman_filter` on a linear state space, and an `ensemble_filter` of 100 runs of the
    solver for each run, on some runs alone"""
    kpis: KpiConfig = KpiConfig()
    """what the surrogate has to achieve"""
    economics: EconomicsConfig = EconomicsConfig()
    """what solving and computing cost you"""
