"""The site decides: its policy, what it remembers and a task in; allowed, pending or refused out."""

from archipel.site.policy.judge import Judge
from archipel.site.policy.verdict import Allowed, Pending, Refused, Verdict

__all__ = ["Allowed", "Judge", "Pending", "Refused", "Verdict"]
