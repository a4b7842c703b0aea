"""The settings of ``params.yaml``, one frozen model per section."""

from flatmin.settings.data import (
    HUMAN_LABELS,
    AsymmetricNoise,
    DatasetSpec,
    HumanNoise,
    ImageFolder,
    InstanceNoise,
    Own,
    OwnImages,
    PairFlipNoise,
    Parquet,
    SymmetricNoise,
    Validation,
)
from flatmin.settings.declaring import SELECTED, Count, Fraction, Settings, keyed, setting
from flatmin.settings.run import Augmentation, MethodSpec, ModelSpec, ResolvedMethod, RunSettings, TrainingSpec
from flatmin.settings.study import ClaimsSpec, CorruptionSpec, EvaluationSpec, SelectionSpec, SharpnessSpec, TableSpec

__all__ = [
    "HUMAN_LABELS",
    "SELECTED",
    "AsymmetricNoise",
    "Augmentation",
    "ClaimsSpec",
    "CorruptionSpec",
    "Count",
    "DatasetSpec",
    "EvaluationSpec",
    "Fraction",
    "HumanNoise",
    "ImageFolder",
    "InstanceNoise",
    "MethodSpec",
    "ModelSpec",
    "Own",
    "OwnImages",
    "PairFlipNoise",
    "Parquet",
    "ResolvedMethod",
    "RunSettings",
    "SelectionSpec",
    "Settings",
    "SharpnessSpec",
    "SymmetricNoise",
    "TableSpec",
    "TrainingSpec",
    "Validation",
    "keyed",
    "setting",
]
