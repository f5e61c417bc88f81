"""Stable-Baselines3's PPO and A2C, several times as fast: `from fastopt.sb3 import PPO` for `stable_baselines3`.

Imports stable_baselines3; nothing else of the package does.
"""

from fastopt.sb3.a2c import A2C as A2C
from fastopt.sb3.ppo import PPO as PPO

__all__ = ["A2C", "PPO"]
