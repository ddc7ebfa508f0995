"""HPL-Gym: long-horizon text environments whose state can be saved and restored anywhere.

Importing this package registers `HPL/ALFWorld-v0`, `HPL/WebShop-v0` and `HPL/InterCodeSQL-v0`.
"""

from importlib.metadata import version

import gymnasium

__version__ = version("hpl-gym")

gymnasium.register(
    "HPL/ALFWorld-v0",
    entry_point="hpl_gym.alfworld.env:ALFWorldEnv",
    max_episode_steps=30,
)
gymnasium.register(
    "HPL/WebShop-v0",
    entry_point="hpl_gym.webshop.env:WebShopEnv",
    max_episode_steps=10,
)
gymnasium.register(
    "HPL/InterCodeSQL-v0",
    entry_point="hpl_gym.intercode_sql.env:InterCodeSQLEnv",
    max_episode_steps=10,
)
