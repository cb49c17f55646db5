"""The simulator beside the real game: recorded figures, measurements of the same quantities, and their comparison.

python -m envs.fidelity                          # everything; some minutes
python -m envs.fidelity --only units times      # some groups of rows
"""

from perceiver_agents import require

require("pysc2", "pysc2_evolved", "websocket")
