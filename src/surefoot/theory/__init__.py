"""The formulas of the library as pure functions, one file for each chapter of the documentation.

`dynamic_programming` · `averages` · `distributions` · `returns` · `policy_gradient` · `values` ·
`advantages` · `importance` · `divergences` · `objectives` · `off_policy` · `fisher` ·
`conjugate_gradient` · `trust_region` · `minibatches` · `asynchrony` · `meta` ·
`statistics` · `dice`

Each formula is written once, for one trajectory or one step, with its equation, its symbols and its source.
The other packages call it.
"""
