"""Protocols: models of the kinds, loading, description in words, JSON Schema, feasibility.

What a kind is made of, by floor:

- `harness/protocol/kinds/`: its pydantic model, with its description in words and every fact that the rest of the
  harness asks of a kind (`base.Protocol` lists them: label delay, ways, shots, ranking metric, ...);
- `harness/episodes/plans/`: how its episodes are drawn;
- `harness/evaluation/score/`: what its answers come to.

Each package has one table of the kinds. A further kind can be one module, which holds all three and registers them with
`harness.evaluation.kinds.register`; `tests/helpers/revisit.py` is such a module.
"""
