"""Which species is this penguin? A small network on four measurements, without any ML framework.

Everything a task needs is here: names for the classes, features and label, and the rule that holds rows out for the
test. The rest has defaults: one hidden layer, cross-entropy, features scaled by sums over all sites' training rows.
"""

from archipel.data.site_data import SiteData
from archipel.tasks.numpy import NumpyTask, Split, Sums, rows_of


class Penguins(NumpyTask):
    """Adelie, Chinstrap or Gentoo, told by bill, flipper and weight."""

    classes = ("Adelie", "Chinstrap", "Gentoo")
    features = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
    label = "species"

    def read(self, site: SiteData, statistics: Sums) -> Split:  # noqa: ARG002 (only reading by statistics needs them)
        """Hold out three rows of ten, by their place in the site's file: the same rule at every site."""
        samples = self.samples(site)
        held_out = site.row_ids % 10 < 3
        return Split(train=rows_of(samples, ~held_out), test=rows_of(samples, held_out))
