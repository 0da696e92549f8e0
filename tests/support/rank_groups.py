"""Groups of processes that share one model, and rank 0's part of their work, in the test's process."""

from __future__ import annotations

from services.engine.loading.for_worker import load_for
from services.engine.ranks.rank_group import RankGroup
from services.engine.ranks.rank_plan import RankPlan
from services.engine.runner import ModelRunner
from tests.support.endpoints import ENDPOINTS


def start_ranks(plan: RankPlan) -> RankGroup:
    """The group of a plan; the caller closes it."""
    return RankGroup(plan, ENDPOINTS.bound_socket("127.0.0.1", 0, "--tp"))


def runner_of(group: RankGroup, plan: RankPlan) -> ModelRunner:
    """Loads rank 0's share, and waits for the other ranks."""
    model, steps = load_for(
        plan.model,
        plan.deterministic,
        plan.dtype,
        group.kv_pages,
        plan.kv_format,
        kernels=plan.kernels,
        decodes=plan.decodes,
        group=group.group,
    )
    group.wait_until_ready()
    return ModelRunner(model, group.kv_pages, 1, group, steps, plan.kv_format)
