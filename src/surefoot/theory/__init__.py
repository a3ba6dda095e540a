"""The mathematics, as pure functions: one chapter a file, in the order in which one studies them.

`averages` · `distributions` · `returns` · `advantages` · `importance` · `policy_gradient` · `objectives` ·
`off_policy` · `divergences` · `fisher` · `conjugate_gradient` · `trust_region` · `minibatches` · `meta` ·
`statistics`

A formula of the library stands here once, for one trajectory or one step, with its equation, its symbols and
its source. Everything else calls it.
"""
