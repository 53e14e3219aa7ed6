"""What is optimised, and how: the perceptron, and before it the network that teaches it, as a LightningModule."""

from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, SequentialLR

from digitrec.engines.choice import is_quicker, processor_flags
from digitrec.training.data import Batch, seed_for
from digitrec.training.recipe import Recipe
from digitrec.training.teacher import distillation_loss


class DigitClassifier(LightningModule):
    """A network under AdamW with a one-cycle learning rate (Smith and Topin, 2018).

    It learns labels, or, with a `teacher` (whose weights stay as they are), the answers that one gives to the same
    distorted images.
    """

    def __init__(
        self, network: nn.Module, recipe: Recipe, seed: int, steps_per_epoch: int, teacher: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.network, self.recipe, self.seed, self.steps_per_epoch = network, recipe, seed, steps_per_epoch
        # In a tuple, which hides it from Lightning: it is neither optimised, nor in checkpoints, nor set to training.
        self.teachers = (teacher,) if teacher else ()
        self.bf16 = False
        self.training_losses: list[Tensor] = []
        self.losses: list[Tensor] = []
        self.right: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        """uint8 or float 0…255 [n, 784] → float32 logits [n, 10]."""
        return self.answers(self.network, images)

    def answers(self, network: nn.Module, images: Tensor) -> Tensor:
        """Of the network or its teacher. Lightning's own mixed precision would refuse to clip a fused optimiser."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits: Tensor = network(images)
        return logits.float()

    def on_fit_start(self) -> None:
        self.bf16 = multiplies_bf16(self.device)
        for teacher in self.teachers:
            teacher.to(self.device).eval()

    def on_train_epoch_start(self) -> None:
        """Dropout draws from torch's own generator: it begins anew each epoch, so that a resumed one is the same."""
        torch.manual_seed(seed_for(self.seed, self.current_epoch, "dropout"))
        self.training_losses = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        loss = self.loss(images, labels)
        self.training_losses.append(loss.detach())
        return loss

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Mean over the batch: against the teacher's answers if there is one, else against labels."""
        how = self.recipe.distillation
        if how is None or not self.teachers:
            return F.cross_entropy(self(images), labels, label_smoothing=self.recipe.label_smoothing)
        with torch.no_grad():
            taught = self.answers(self.teachers[0], images)
        return distillation_loss(self(images), taught, how.temperature)

    def on_validation_epoch_start(self) -> None:
        self.losses, self.right = [], []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels = batch
        logits = self(images)
        self.losses.append(F.cross_entropy(logits, labels, reduction="none"))
        self.right.append((logits.argmax(1) == labels).float())

    def on_validation_epoch_end(self) -> None:
        """Means over all rows, and the standard error of the loss: how far it may be from the truth by chance.

        Validation ends every epoch, so the training loss is told here too; a `log` in each step costs as much as a
        small network's forward pass.
        """
        losses = torch.cat(self.losses)
        self.log("train_loss", torch.stack(self.training_losses).mean())
        self.log("val_loss", losses.mean())
        self.log("val_loss_error", losses.std() / len(losses) ** 0.5)
        self.log("val_accuracy", torch.cat(self.right).mean())

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        optimizer = torch.optim.AdamW(self.parameter_groups(), lr=recipe.peak_lr, fused=True)
        schedule = self.schedule(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weights decay; biases and batch norm's scales, of which one a unit, do not."""
        groups = {decay: [p for p in self.parameters() if (p.ndim > 1) == decay] for decay in (True, False)}
        return [
            {"params": parameters, "weight_decay": self.recipe.weight_decay if decay else 0.0}
            for decay, parameters in groups.items()
        ]

    def schedule(self, optimizer: torch.optim.Optimizer) -> LRScheduler:
        """One cycle after the other, a step a batch."""
        recipe = self.recipe
        first = min(recipe.first_cycle, recipe.epochs - 1)
        cycles: list[LRScheduler] = [
            OneCycleLR(optimizer, recipe.peak_lr, total_steps=epochs * self.steps_per_epoch, pct_start=recipe.peak_at)
            for epochs in (first, recipe.epochs - first)
            if epochs
        ]
        return SequentialLR(optimizer, cycles, [first * self.steps_per_epoch]) if first else cycles[0]


def multiplies_bf16(device: torch.device) -> bool:
    """Whether trainings on this device multiply in bf16; sums, losses, weights and the optimiser stay fp32.

    Where it is quicker: GPUs that have it, and processors with AMX or of AMD's Zen 4 and later (a layer of `default`
    takes half as long as in fp32, torch 2.13).
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return is_quicker("bf16", processor_flags())
