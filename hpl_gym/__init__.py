"""HPL-Gym: long-horizon text environments whose state can be saved and restored anywhere.

Importing this package registers `HPL/ALFWorld-v0` and `HPL/WebShop-v0`.
"""

import gymnasium

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
