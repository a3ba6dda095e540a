"""The formulas of the library as pure functions, one file for each chapter of the documentation.

`averages` · `distributions` · `returns` · `values` · `advantages` · `importance` · `policy_gradient` ·
`objectives` · `off_policy` · `divergences` · `fisher` · `conjugate_gradient` · `trust_region` ·
`minibatches` · `meta` · `statistics` · `dice`

Each formula is written once, for one trajectory or one step, with its equation, its symbols and its source.
The other packages call it.
"""
