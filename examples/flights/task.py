"""Will this flight arrive more than 15 minutes late? A small PyTorch network, trained by airlines that share no row.

What a row becomes is in features.py; here are the model and the rule that holds whole days out for the test. Loss,
batches, scores and export are TorchTask's defaults.
"""

import torch
from torch import Tensor, nn

from archipel.data.site_data import SiteData
from archipel.tasks.torch import Split, Sums, TorchTask, encode_labels, feature_sums, scaling

from .features import CODES, NUMBERS, WORDS, code_columns, is_test_day, number_columns


class Net(nn.Module):
    """Scaled numbers and one learnt vector a code, one hidden layer, one logit."""

    mean: Tensor
    scale: Tensor

    def __init__(self, sums: Sums, width: int = 4, hidden: int = 48, dropout: float = 0.3) -> None:
        super().__init__()
        for name, values in zip(("mean", "scale"), scaling(sums), strict=True):
            # The same at every site, because computed from sums over all of them: no need to travel each round.
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)
        self.vectors = nn.Embedding(WORDS, width)
        nn.init.normal_(self.vectors.weight, std=0.1)
        inputs = len(NUMBERS) + len(CODES) * width
        self.layers = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 1))

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """Return the logit of "late" a row; what was not observed counts as the mean of all sites."""
        scaled = ((numbers - self.mean) / self.scale).nan_to_num()
        logits: Tensor = self.layers(torch.cat([scaled, self.vectors(codes).flatten(1)], dim=1))
        return logits.squeeze(1)


class Flights(TorchTask):
    """Late or on time, from what is known an hour before departure."""

    classes = ("on time", "late")
    features = ("numbers", "codes")
    label = "outcome"
    evaluation_rows = 8192

    def statistics(self, site: SiteData) -> Sums:
        """Disclose counts, sums and sums of squares of the training rows' numbers, for scaling."""
        return feature_sums(self.read(site, {}).train["numbers"])

    def read(self, site: SiteData, statistics: Sums) -> Split:  # noqa: ARG002 (only reading by statistics needs them)
        """Hold out whole days, the same at every site: flights of one day share their weather and their queues."""
        rows = {"numbers": number_columns(site.columns), "codes": code_columns(site.columns)}
        rows["outcome"] = encode_labels(site.columns["outcome"], self.classes)
        test = is_test_day(site.columns)
        return Split(train={k: v[~test] for k, v in rows.items()}, test={k: v[test] for k, v in rows.items()})

    def model(self, statistics: Sums) -> nn.Module:
        """Build the network; the same one at every site."""
        return Net(statistics)
