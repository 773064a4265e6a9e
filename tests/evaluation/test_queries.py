"""Queries: each is the step that would come next, asked of the same state, and none sees another."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.episodes.plan import NULL, QUERY, STREAM
from harness.episodes.source import Episodes
from harness.evaluation import rollout
from harness.evaluation.rollout import absorbed, query_logits, step_through, training_logits
from harness.method.interface import Feedback, Method, State, Task, one_hot
from harness.method.registry import build_method, load_method, task_for
from harness.testing import episodes_of, protocols, tiny_episodes
from tests.helpers.plans import of_kind

QUERIED = ("continual", "n_way_k_shot")
PROTOCOLS = {
    "continual": of_kind("continual", "glyphs", subtasks=3, shots=2, queries=3),
    "n_way_k_shot": of_kind("n_way_k_shot", "glyphs", ways=3, shots=2, queries=3),
}
REAL: dict[str, dict[str, Any]] = {
    "cl_lstm": {"channels": 4, "lstm": 8, "resolution": 8},
    "opn": {"channels": 4},
    "lstm": {"channels": 4, "units": 8},
    "nearest_pixel": {},
}
FEW = settings(max_examples=5)


class Toy(Method):
    """A recurrent learner: all that it saw and was told moves its state, and its state moves every answer."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.mix = torch.nn.Parameter(torch.linspace(-1, 1, task.ways))

    def start(self, episodes: int) -> State:
        return {"mind": torch.zeros(episodes, self.task.ways), "steps": torch.zeros(episodes, dtype=torch.int64)}

    def observe(self, state: State, feedback: Feedback) -> State:
        label = one_hot(feedback.target, self.task.ways)
        if feedback.x is not None:
            label = label * self.seen(feedback.x)
        return {**state, "mind": torch.tanh(0.9 * state["mind"] + label + 0.1)}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        mind = torch.tanh(state["mind"] + self.seen(x) * self.mix)
        return mind * 3 + state["steps"].unsqueeze(1), {"mind": mind, "steps": state["steps"] + 1}

    def adapt(self, state: State) -> State:
        return {**state, "mind": state["mind"] * 1.5}

    def seen(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, ::7].mean(1, keepdim=True)


class Peeking(Toy):
    """Centres its answers over the queries, which therefore see each other."""

    def query(self, state: State, x: Tensor) -> Tensor:
        logits = super().query(state, x)
        return logits - logits.mean(1, keepdim=True)


class Learning(Toy):
    """Takes along from one lot of queries to the next what it saw in them."""

    carried = 0.0

    def query(self, state: State, x: Tensor) -> Tensor:
        logits = super().query(state, x) + self.carried
        self.carried += float(x.mean()) + 1
        return logits


class Chaining(Toy):
    """Answers each query from the state that the one before it left behind."""

    def query(self, state: State, x: Tensor) -> Tensor:
        answers = []
        for each in x.unbind(1):
            logits, state = self.predict(state, each)
            answers.append(logits)
        return torch.stack(answers, 1)


def built(cls: type[Method], protocol: Any, episodes: Episodes, options: dict[str, Any] | None = None) -> Method:
    channels, height, width = episodes.x.shape[2:]
    task = task_for(cls, protocol, (channels, height, width))
    return build_method(cls, task, options or {}, seed=3).eval()


@torch.no_grad()
def answers(method: Method, episodes: Episodes) -> Tensor:
    """Logits of the queries [Q, B, ways], as they are scored."""
    return step_through(method, episodes)[0][-int((episodes.plan.phase == QUERY).sum()) :]


def with_queries(episodes: Episodes, x: Tensor) -> Episodes:
    """The same episodes with other queries, x [Q, B, C, H, W]."""
    plan, first = episodes.plan, episodes.plan.first_query
    before = {name: getattr(plan, name)[:first] for name in ("feedback_step", "phase")}
    longer = {
        name: torch.cat(
            [torch.from_numpy(before[name]), torch.full((len(x),), int(getattr(plan, name)[first]))]
        ).numpy()
        for name in before
    }
    return dataclasses.replace(episodes, x=torch.cat([episodes.x[:first], x]), plan=dataclasses.replace(plan, **longer))


def check_independence(method: Method, episodes: Episodes, data: st.DataObject) -> None:
    """Fails if any query's answer depends on which other queries are asked, in what order, or how many at once."""
    queries = episodes.x[episodes.plan.first_query :]
    alone = answers(method, episodes)

    def assert_same(chosen: list[int], found: Tensor) -> None:
        torch.testing.assert_close(found, alone[chosen], rtol=1e-4, atol=1e-5)

    everyone = list(range(len(queries)))
    for chosen in (
        everyone,
        data.draw(st.permutations(everyone)),
        data.draw(st.lists(st.sampled_from(everyone), min_size=1, max_size=len(everyone), unique=True)),
        [*everyone, *data.draw(st.lists(st.sampled_from(everyone), max_size=3))],
    ):
        assert_same(chosen, answers(method, with_queries(episodes, queries[chosen])))
    strangers = 50 * torch.randn(2, *queries.shape[1:], generator=torch.Generator().manual_seed(0))
    with_strangers = with_queries(episodes, torch.cat([strangers[:1], queries, strangers[1:]]))
    assert_same(everyone, answers(method, with_strangers)[1:-1])
    with pytest.MonkeyPatch.context() as patch:
        for at_once in (1, data.draw(st.integers(2, 2 * queries.shape[0] * queries.shape[1])), 10**9):
            patch.setattr(rollout, "QUERIES_AT_ONCE", at_once)
            assert_same(everyone, answers(method, episodes))


@given(protocols(QUERIED), st.data())
@settings(max_examples=20)
def test_queries_of_a_method_with_a_state_are_independent(protocol: Any, data: st.DataObject) -> None:
    episodes = data.draw(episodes_of(protocol))
    check_independence(built(Toy, protocol, episodes), episodes, data)


@pytest.mark.slow
@pytest.mark.parametrize("kind", QUERIED)
@pytest.mark.parametrize("name", REAL)
@given(data=st.data())
@FEW
def test_queries_of_real_methods_are_independent(name: str, kind: str, data: st.DataObject) -> None:
    protocol = PROTOCOLS[kind]
    episodes = data.draw(episodes_of(protocol))
    check_independence(built(load_method(name).cls, protocol, episodes, REAL[name]), episodes, data)


@pytest.mark.parametrize("kind", QUERIED)
@pytest.mark.parametrize("cls", [Peeking, Learning, Chaining])
def test_a_method_whose_queries_see_each_other_is_caught(cls: type[Method], kind: str) -> None:
    @given(st.data())
    @settings(FEW, database=None, phases=[Phase.generate])
    def independent(data: st.DataObject) -> None:
        protocol = PROTOCOLS[kind]
        episodes = data.draw(episodes_of(protocol))
        check_independence(built(cls, protocol, episodes), episodes, data)

    with pytest.raises(AssertionError, match="not close"):
        independent()


def stepped_on(method: Method, episodes: Episodes, query: int) -> Tensor:
    """The answer [B, ways] to a query that is shown as one more step of the stream, whose state nobody keeps."""
    plan, first = episodes.plan, episodes.plan.first_query
    steps = [*range(first), first + query]
    longer = dataclasses.replace(plan, feedback_step=plan.feedback_step[steps], phase=plan.phase[steps] * 0 + STREAM)
    assert longer.feedback_step[-1] == first - 1
    with torch.no_grad():
        return step_through(method, dataclasses.replace(episodes, x=episodes.x[steps], plan=longer))[0][-1]


class Unadapted(Toy):
    """The toy without its own `adapt`, which a stream would not call."""

    def adapt(self, state: State) -> State:
        return state


@pytest.mark.slow
@given(protocols(("continual",)), st.data())
def test_a_query_is_the_step_that_would_follow_the_last_one_of_the_stream(protocol: Any, data: st.DataObject) -> None:
    episodes = data.draw(episodes_of(protocol))
    method = built(Unadapted, protocol, episodes)
    for query, found in enumerate(answers(method, episodes)):
        torch.testing.assert_close(found, stepped_on(method, episodes, query))


@pytest.mark.parametrize("name", REAL)
def test_so_it_is_for_real_methods(name: str) -> None:
    episodes = tiny_episodes(PROTOCOLS["continual"], numbers=(4, 5, 6))
    method = built(load_method(name).cls, PROTOCOLS["continual"], episodes, REAL[name])
    for query, found in enumerate(answers(method, episodes)):
        torch.testing.assert_close(found, stepped_on(method, episodes, query), rtol=1e-4, atol=1e-5)


@given(protocols(QUERIED), st.data())
def test_a_query_is_one_step_on_from_the_adapted_state_which_it_leaves_as_it_was(
    protocol: Any, data: st.DataObject
) -> None:
    episodes = data.draw(episodes_of(protocol))
    method, first = built(Toy, protocol, episodes), episodes.plan.first_query
    with torch.no_grad():
        *_, (_, state) = rollout.steps(method, episodes)
        before = {name: leaf.clone() for name, leaf in state.items()}
        found = query_logits(method, episodes, state)
        assert all(torch.equal(state[name], leaf) for name, leaf in before.items())
        if protocol.kind == "continual":
            state = method.observe(state, Feedback(episodes.target[first - 1]))
        state = method.adapt(state)
        for query, x in enumerate(episodes.x[first:]):
            torch.testing.assert_close(found[query], method.predict(state, x)[0])


@pytest.mark.parametrize("kind", QUERIED)
@pytest.mark.parametrize("name", REAL)
def test_a_methods_own_query_answers_as_stepping_on_does(name: str, kind: str) -> None:
    episodes = tiny_episodes(PROTOCOLS[kind], numbers=(7, 8))
    method = built(load_method(name).cls, PROTOCOLS[kind], episodes, REAL[name])
    with torch.no_grad():
        state = method.adapt(absorbed(method, episodes))
        x = episodes.x[episodes.plan.first_query :].transpose(0, 1)
        torch.testing.assert_close(method.query(state, x), Method.query(method, state, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", QUERIED)
@pytest.mark.parametrize("name", [*REAL, "toy"])
def test_training_gives_the_answers_that_are_scored(name: str, kind: str) -> None:
    episodes = tiny_episodes(PROTOCOLS[kind], numbers=(1, 2, 3))
    cls = Toy if name == "toy" else load_method(name).cls
    method = built(cls, PROTOCOLS[kind], episodes, REAL.get(name))
    with torch.no_grad():
        trained = training_logits(method, episodes)
    torch.testing.assert_close(trained, answers(method, episodes), rtol=1e-4, atol=1e-5)


class Counting(Toy):
    """Counts the queries that it is asked at once."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.lots: list[int] = []

    def query(self, state: State, x: Tensor) -> Tensor:
        self.lots.append(x.shape[1])
        return super().query(state, x)


class Transductive(Counting):
    """Says that its queries may be looked at together."""

    transductive = True


@pytest.mark.parametrize(("cls", "scored"), [(Counting, [2, 2, 2, 2, 1]), (Transductive, [9])])
def test_queries_are_asked_in_bounded_lots_but_all_at_once_in_training_or_of_a_transductive_method(
    cls: type[Counting], scored: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "QUERIES_AT_ONCE", 5)  # of two episodes, two queries each
    episodes = tiny_episodes(PROTOCOLS["continual"])
    method: Any = built(cls, PROTOCOLS["continual"], episodes)
    answers(method, episodes)
    assert method.lots == scored
    training_logits(method.train(), episodes)
    assert method.lots[len(scored) :] == [9]


def test_nothing_is_due_after_support_pairs() -> None:
    plan = tiny_episodes(PROTOCOLS["n_way_k_shot"]).plan
    assert (plan.feedback_step[plan.first_query :] == NULL).all()
