# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The paper's baselines without a language model, as Agents: DRRN and Symbolic-PPO.

Import `drrn` or `symbolic_ppo`; each has a `Config`, `train(config)` and `load(folder)`. The latter needs the extra
`baselines`. The ablations of the language model (AFlan, NPAE, NPA, NPE) are options of `ScoringPolicy`, not here.
"""
