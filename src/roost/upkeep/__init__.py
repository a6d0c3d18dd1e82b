"""What has to be done in a namespace from time to time, by whichever process is there; never twice for economy's sake,
and without harm when it is done twice after all.

Here live the lease that chooses the process, and the duties. What a duty may do to the log is said in `docs/wire.md`.
"""

from roost.upkeep.lease import Lease
from roost.upkeep.prune import Prune, Pruned
from roost.upkeep.rights import keeping
from roost.upkeep.upkeep import START_S, Duty, Upkeep, duties_of

__all__ = ["START_S", "Duty", "Lease", "Prune", "Pruned", "Upkeep", "duties_of", "keeping"]
