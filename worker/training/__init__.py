"""Training a prior from pictures, step by step, so that it may be stopped and goes on.

    train(pictures, settings, folder, *, init, device, on_step, classes, enough) -> None

runs until done. `pictures` is a sequence of functions that each decode one picture; `settings` a
`shared.recipes.TrainingSettings`; `folder` is where the training keeps its state; `init` the folder of an installed
prior whose weights it begins with; `classes`, of each picture the names of what it shows, which the recipe
textual_inversion needs; `enough()`, asked after each step of the denoiser, whether it is to end there.
`on_step(TrainingProgress)` is called after each step, and whatever it raises
passes through and ends the call: nothing is lost but the steps since the last checkpoint. Called again with the same
pictures, settings and init, it goes on from there; on a CPU the weights come out as if it had never stopped. Raises
CannotTrain (pictures or init), Diverged (the loss is no number), TrainingMismatch (`folder` holds another training),
OSError (a full disk; the checkpoint before stays).

    install(folder, target, *, name, about) -> None

makes a prior of a finished training: float16 weights in the diffusers layout, a card in words (README.md) and in
numbers (card.json), samples.png; whole or not at all. `about` is what the card is to say of the data: `licence`,
`dataset`, `sources` (hashes of the files), or anything else that JSON can hold.

    samples(folder) -> Path

is where samples of a running training lie, once there are any; `history(folder)` is where its held-out figures do.
"""

from worker.training.errors import CannotTrain, Diverged, TrainingMismatch
from worker.training.install import install
from worker.training.run import TrainingProgress
from worker.training.trainer import history, samples, train

__all__ = ["CannotTrain", "Diverged", "TrainingMismatch", "TrainingProgress", "history", "install", "samples", "train"]
