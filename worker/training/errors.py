"""What can stop a training, for people to read."""

from shared.errors import Conflict, Invalid


class CannotTrain(Invalid):
    """These pictures, or this prior to begin with, cannot be trained on with these settings."""


class Diverged(CannotTrain):
    """The loss is no number any more; the last checkpoint stays."""


class TrainingMismatch(Conflict):
    """The folder holds a training of other pictures or settings."""
