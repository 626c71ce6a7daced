"""The agent: joins a site to a control plane, keeps the link, does the work it is given, and serves models."""

from archipel.site.agent.agent import run_agent
from archipel.site.agent.folder import AgentStatus, SiteFolder, read_status
from archipel.site.agent.join import join

__all__ = ["AgentStatus", "SiteFolder", "join", "read_status", "run_agent"]
