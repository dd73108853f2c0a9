from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from processors.trainer.errors import NonFiniteLossError, SequenceTooLongError, TokenOutOfVocabularyError
from processors.trainer.sampling import Delta, Generator, Limits, SampleJob, Sampling, groups
from tests.support.tiny_model import MAX_POSITIONS, VOCABULARY, build_tiny_model
from tests.trainer.conftest import LORA
from tests.trainer.sampling.jobs import GREEDY, PROMPTS, WARM, alone, generated, job, moved, together

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from processors.trainer.adapter import Adapter
    from processors.trainer.base_model import SharedBase


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with biases, which an adapter may have copies of."""
    return build_tiny_model(tmp_path_factory.mktemp("model") / "biased", biases=True)


@pytest.fixture
def adapter(new_adapter: Callable[..., Adapter]) -> Adapter:
    """An adapter that has moved away from the base."""
    return moved(new_adapter())


@pytest.fixture
def kinds(new_adapter: Callable[..., Adapter]) -> list[Adapter | None]:
    """The bare base, two plain adapters, one with biases of its own, one with DoRA."""
    specs = [LORA, LORA, replace(LORA, bias="all"), replace(LORA, use_dora=True)]
    return [None, *(moved(new_adapter(seed, lora), seed) for seed, lora in enumerate(specs))]


def test_sixteen_requests_of_several_adapters_get_the_texts_that_each_gets_alone(
    base: SharedBase, kinds: list[Adapter | None]
) -> None:
    rng = random.Random(4)
    jobs, wanted = [], {}
    for number in range(16):
        prompts = rng.sample(PROMPTS, rng.randrange(1, 4))
        sampling = Sampling(
            rng.randrange(1, 12),
            temperature=rng.choice([0.0, 0.7, 1.3]),
            top_p=rng.choice([1.0, 0.9]),
            top_k=rng.choice([0, 50]),
            seed=number,
            completions=rng.randrange(1, 3),
        )
        jobs.append(job(base, prompts, sampling, kinds[number % len(kinds)]))
        wanted[jobs[-1].operation_id] = alone(base, prompts, sampling, kinds[number % len(kinds)])
    found = together(Generator(base, Limits(rows=12, pass_tokens=32)), jobs)
    assert {operation_id: finished.completions for operation_id, finished in found.items()} == wanted


def test_jobs_join_and_leave_while_others_go_on(base: SharedBase, adapter: Adapter) -> None:
    generator = Generator(base)
    jobs = [job(base, [prompt], replace(WARM, max_tokens=6 + 5 * n), adapter) for n, prompt in enumerate(PROMPTS)]
    found = {}
    for each in jobs:
        generator.submit(each)
        found |= {finished.operation_id: finished for finished in generator.advance(3)}
    found |= together(generator, [])
    for each, prompt in zip(jobs, PROMPTS, strict=True):
        assert found[each.operation_id].completions == alone(base, [prompt], each.sampling, adapter)


def test_the_same_seed_gives_the_same_text_and_another_seed_another(base: SharedBase, adapter: Adapter) -> None:
    first = alone(base, PROMPTS, WARM, adapter)
    assert alone(base, PROMPTS, WARM, adapter) == first
    assert alone(base, PROMPTS, replace(WARM, seed=6), adapter) != first


def test_neither_neighbours_nor_its_place_change_a_text(base: SharedBase, adapter: Adapter) -> None:
    texts = {prompt: alone(base, [prompt], WARM, adapter)[0].text for prompt in PROMPTS}
    backwards = alone(base, PROMPTS[::-1], WARM, adapter)
    assert [each.text for each in backwards] == [texts[prompt] for prompt in PROMPTS[::-1]]


def test_several_completions_differ_and_are_those_of_a_prompt_given_several_times(
    base: SharedBase, adapter: Adapter
) -> None:
    several = alone(base, PROMPTS[:1], replace(WARM, completions=3), adapter)
    assert [each.completion_index for each in several] == [0, 1, 2]
    assert len({each.text for each in several}) == 3
    assert [each.text for each in alone(base, PROMPTS[:1] * 3, WARM, adapter)] == [each.text for each in several]


def test_sampling_reads_the_adapter_and_not_the_base(base: SharedBase, adapter: Adapter) -> None:
    assert alone(base, PROMPTS, GREEDY, adapter) != alone(base, PROMPTS, GREEDY)


def test_sampling_changes_no_state(base: SharedBase, adapter: Adapter) -> None:
    before = {name: tensor.clone() for name, tensor in adapter.weights().items()}
    together(Generator(base), [job(base, PROMPTS, WARM, adapter), job(base, PROMPTS, WARM)])
    assert all(torch.equal(before[name], tensor) for name, tensor in adapter.weights().items())
    moved(adapter)
    assert not all(torch.equal(before[name], tensor) for name, tensor in adapter.weights().items())


def test_training_between_slices_does_not_change_what_another_adapter_says(
    base: SharedBase, adapter: Adapter, new_adapter: Callable[..., Adapter]
) -> None:
    wanted = alone(base, PROMPTS, WARM, adapter)
    generator, other = Generator(base), new_adapter(9)
    generator.submit(job(base, PROMPTS, WARM, adapter))
    found = []
    while not found:
        found = generator.advance(4)
        moved(other, steps=1)
    assert found[0].completions == wanted


def test_an_ending_token_stops_a_row_and_is_not_in_its_text(base: SharedBase, adapter: Adapter) -> None:
    tokens = generated(base.activate(adapter.name, training=False), base.encode(PROMPTS[0]))
    ending = next(token for token in tokens[1:] if token != tokens[0])
    base.base.generation_config.eos_token_id = [ending]
    stopped = alone(base, PROMPTS[:1], GREEDY, adapter)[0]
    assert stopped.finish_reason == "stop"
    assert list(stopped.tokens) == tokens[: tokens.index(ending) + 1]
    assert stopped.text == base.decode(tokens[: tokens.index(ending)])


def test_a_stop_token_of_the_caller_ends_a_row(base: SharedBase, adapter: Adapter) -> None:
    tokens = alone(base, PROMPTS[:1], GREEDY, adapter)[0].tokens
    stopped = alone(base, PROMPTS[:1], replace(GREEDY, stop_tokens=frozenset({tokens[1]})), adapter)[0]
    assert stopped.finish_reason == "stop_token"
    assert stopped.tokens == tokens[: tokens.index(tokens[1]) + 1]


def test_a_stop_string_ends_a_row_before_it(base: SharedBase, adapter: Adapter) -> None:
    whole = alone(base, PROMPTS[:1], GREEDY, adapter)[0]
    stop = whole.text[3:6]
    stopped = alone(base, PROMPTS[:1], replace(GREEDY, stop=("never said", stop)), adapter)[0]
    assert stopped.finish_reason == "stop_string"
    assert stopped.text == whole.text[: whole.text.index(stop)]
    assert len(stopped.tokens) < len(whole.tokens)


def test_listeners_hear_the_whole_text_in_pieces(base: SharedBase, adapter: Adapter) -> None:
    heard: list[Delta] = []
    told = replace(job(base, PROMPTS, replace(WARM, stop=("e",)), adapter), on_tokens=heard.extend)
    found = together(Generator(base), [told])[told.operation_id]
    for completion in found.completions:
        own = [delta for delta in heard if delta.prompt_index == completion.prompt_index]
        assert "".join(delta.text for delta in own) == completion.text
        assert [delta.finish_reason for delta in own][-1] == completion.finish_reason


def test_a_completion_ends_where_the_positions_end(base: SharedBase, adapter: Adapter) -> None:
    prompt = "to be or not to be " * 4
    base.base.generation_config.eos_token_id = []
    found = alone(base, [prompt], Sampling(MAX_POSITIONS, 0.0), adapter)[0]
    assert len(found.tokens) == MAX_POSITIONS - len(base.encode(prompt))
    assert found.finish_reason == "length"


WRONG: dict[str, tuple[list[int], type[Exception]]] = {
    "as long as the model": ([1] * MAX_POSITIONS, SequenceTooLongError),
    "empty": ([], SequenceTooLongError),
    "beyond the vocabulary": ([1, VOCABULARY], TokenOutOfVocabularyError),
    "below the vocabulary": ([-1], TokenOutOfVocabularyError),
}


@pytest.mark.parametrize(("prompt", "error"), WRONG.values(), ids=WRONG)
def test_a_wrong_prompt_is_refused_and_leaves_nothing(
    base: SharedBase, prompt: list[int], error: type[Exception]
) -> None:
    generator = Generator(base)
    with pytest.raises(error):
        generator.submit(SampleJob(bytes(16), None, [[1], prompt], GREEDY))
    assert not generator.busy


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_without_finite_output_fails_its_own_job_alone(
    base: SharedBase, adapter: Adapter, new_adapter: Callable[..., Adapter], temperature: float
) -> None:
    broken = new_adapter(3)
    next(iter(broken.parameters.values())).data.fill_(float("nan"))
    bad, good = (job(base, PROMPTS, Sampling(12, temperature), each) for each in (broken, adapter))
    found = together(Generator(base), [bad, good])
    assert isinstance(found[bad.operation_id].error, NonFiniteLossError)
    assert found[good.operation_id].completions == alone(base, PROMPTS, good.sampling, adapter)


def test_a_pass_that_fails_ends_the_jobs_of_its_group_and_no_others(
    base: SharedBase, kinds: list[Adapter | None]
) -> None:
    bad, good = job(base, PROMPTS, GREEDY, kinds[3]), job(base, PROMPTS, GREEDY, kinds[1])
    weight = next(p for name, p in kinds[3].parameters.items() if "lora_A" in name)  # type: ignore[union-attr]
    weight.data = weight.data[:, :-1]
    found = together(Generator(base), [bad, good])
    assert isinstance(found[bad.operation_id].error, RuntimeError)
    assert found[good.operation_id].completions == alone(base, PROMPTS, GREEDY, kinds[1])


def test_a_prompt_that_cannot_be_read_ends_no_job_that_is_being_generated(
    base: SharedBase, adapter: Adapter, new_adapter: Callable[..., Adapter]
) -> None:
    generator, broken = Generator(base), new_adapter(3)
    weight = next(p for name, p in broken.parameters.items() if "lora_A" in name)
    weight.data = weight.data[:, :-1]
    good, bad = job(base, PROMPTS, GREEDY, adapter), job(base, PROMPTS, GREEDY, broken)
    generator.submit(good)
    generator.advance(1)
    found = together(generator, [bad])
    assert isinstance(found[bad.operation_id].error, RuntimeError)
    assert found[good.operation_id].completions == alone(base, PROMPTS, GREEDY, adapter)


@pytest.mark.parametrize("slices", [0, 1, 4])
def test_a_cancelled_job_leaves_at_once_and_the_others_go_on(base: SharedBase, adapter: Adapter, slices: int) -> None:
    generator = Generator(base, Limits(rows=6, pass_tokens=8))
    gone, stays = job(base, PROMPTS, WARM, adapter), job(base, PROMPTS, WARM, adapter)
    generator.submit(gone)
    generator.submit(stays)
    for _ in range(slices):
        generator.advance(1)
    assert generator.cancel(gone.operation_id)
    assert not generator.cancel(gone.operation_id)
    found = together(generator, [])
    assert found.keys() == {stays.operation_id}
    assert found[stays.operation_id].completions == alone(base, PROMPTS, WARM, adapter)


def test_a_slice_ends_after_its_tokens(base: SharedBase, adapter: Adapter) -> None:
    heard: list[Delta] = []
    generator = Generator(base)
    generator.submit(replace(job(base, PROMPTS[:1], replace(WARM, max_tokens=100), adapter), on_tokens=heard.extend))
    generator.advance(1)
    before = len(heard)
    generator.advance(3)
    assert len(heard) - before <= 3


def test_a_small_job_does_not_wait_for_all_of_a_large_one(base: SharedBase, adapter: Adapter) -> None:
    generator = Generator(base, Limits(rows=4))
    large = job(base, PROMPTS, replace(WARM, completions=16, max_tokens=4), adapter)
    small = job(base, PROMPTS[:1], replace(WARM, max_tokens=4), adapter)
    generator.submit(large)
    generator.advance(1)
    generator.submit(small)
    order: list[bytes] = []
    while generator.busy:
        order += [finished.operation_id for finished in generator.advance(4)]
    assert order == [small.operation_id, large.operation_id]


def test_rows_are_generated_together_as_far_as_all_their_tokens_have_room(base: SharedBase) -> None:
    each = job(base, ["to be"], replace(WARM, completions=6, max_tokens=40))
    generator = Generator(base, Limits(cache_bytes=3 * (len(each.prompts[0]) + 40) * base.cell_bytes))
    generator.submit(each)
    generator.advance(1)
    assert len(generator._groups[None]._batch.rows) == 3


def test_adapters_that_share_no_pass_share_the_memory_for_keys_and_values_in_turns(
    base: SharedBase, kinds: list[Adapter | None]
) -> None:
    jobs = [job(base, PROMPTS[:1], replace(WARM, completions=4, max_tokens=6), kind) for kind in (*kinds[2:], kinds[3])]
    room = 3 * (len(jobs[0].prompts[0]) + 6) * base.cell_bytes
    generator = Generator(base, Limits(cache_bytes=room))
    for each in jobs:
        generator.submit(each)
    found, most = {}, 0
    while generator.busy:
        found |= {finished.operation_id: finished for finished in generator.advance(1)}
        most = max(most, sum(group.held_bytes for group in generator._groups.values()))
    assert 0 < most <= room
    for each, kind in zip(jobs, (*kinds[2:], kinds[3]), strict=True):
        assert found[each.operation_id].completions == alone(base, PROMPTS[:1], each.sampling, kind)


def test_who_holds_the_memory_lets_a_group_that_has_none_go_before_its_own_next_rows(
    base: SharedBase, kinds: list[Adapter | None]
) -> None:
    lengths = {"uneven": 8, "many": 3, "one": 16}  # the many never end all at once, and nothing fits beside the one
    uneven, many, one = (
        job(base, PROMPTS[:1], replace(WARM, completions=12 if name == "many" else 1, max_tokens=length), kinds[kind])
        for (name, length), kind in zip(lengths.items(), (3, 3, 4), strict=True)
    )
    generator = Generator(base, Limits(cache_bytes=2 * (len(one.prompts[0]) + 8) * base.cell_bytes))
    generator.submit(uneven)
    generator.submit(many)
    generator.advance(1)
    generator.submit(one)
    order: list[bytes] = []
    while generator.busy:
        order += [finished.operation_id for finished in generator.advance(1)]
    assert order == [uneven.operation_id, one.operation_id, many.operation_id]


def test_memory_for_keys_and_values_is_bounded_and_one_row_always_fits(base: SharedBase, adapter: Adapter) -> None:
    jobs = [job(base, PROMPTS, WARM, adapter) for _ in range(3)]
    found = together(Generator(base, Limits(cache_bytes=1)), jobs)
    assert all(found[each.operation_id].completions == alone(base, PROMPTS, WARM, adapter) for each in jobs)


def test_a_job_whose_prompts_find_no_memory_fails_and_those_under_way_go_on(
    base: SharedBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(_rows: object, _device: object) -> None:
        raise MemoryError

    generator, first, second = Generator(base), job(base, PROMPTS[:1], GREEDY), job(base, PROMPTS[1:3], GREEDY)
    generator.submit(first)
    ended = generator.advance(1)
    generator.submit(second)
    with monkeypatch.context() as patched:
        patched.setattr(groups, "Prefill", no_memory)
        ended += generator.advance(1)
    while generator.busy:
        ended += generator.advance(64)
    found = {each.operation_id: each.error for each in ended}
    assert isinstance(found[second.operation_id], MemoryError)
    assert found[first.operation_id] is None
