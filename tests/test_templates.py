"""Templates and tasks: what they refuse, and that what they accept is rendered to the letter."""

from __future__ import annotations

from pathlib import Path

import pytest

from glotprompt.errors import ConfigError
from glotprompt.task import BUILT_IN_TASKS, Task, Template

WORDS = {"yes": "Yes", "no": ["No", "Maybe"]}


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("{text}", "has 0 {mask}"),
        ("{mask} {text} {mask}", "has 2 {mask}"),
        ("{mask}", "has the fields []"),
        ("{mask} {text} {text}", "['text', 'text']"),
        ("{mask} {premise}", "['premise']"),
        ("{mask} {hypothesis}", "['hypothesis']"),
        ("{mask} {text} {premise} {hypothesis}", "it needs {text}, or {premise} and {hypothesis}"),
        ("{mask} {premise} {hypothesis} {premise}", "each once"),
        ("{mask} {txt}", "unknown field {txt}; known are mask, text, premise, hypothesis. Did you mean 'text'?"),
        ("{mask} {hypotesis}", "Did you mean 'hypothesis'?"),
        ("{mask} {} {text}", "unknown field {}"),
        ("{mask} {0} {text}", "unknown field {0}"),
        ("{mask} {text.upper}", "unknown field {text.upper}"),
        ("{mask} {text", "{{"),
        ("{mask} text}", "{{"),
        ("{mask} {text:>9}", "plain"),
        ("{mask!r} {text}", "plain"),
        ("{mask} {text:{mask}}", "plain"),
        ("", "has 0 {mask}"),
    ],
)
def test_a_wrong_template_says_what_is_wrong(pattern: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Template(pattern)
    assert says in str(caught.value)
    assert repr(pattern) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_render_puts_every_field_in_its_place() -> None:
    assert Template("{mask} : {text}!").render({"text": "a b"}, "<mask>") == "<mask> : a b!"
    pair = Template("{hypothesis} ? {mask}, {premise}")
    assert pair.render({"premise": "p", "hypothesis": "h"}, "[MASK]") == "h ? [MASK], p"


def test_fields_stand_in_the_order_of_the_template() -> None:
    assert Template("{premise} ? {mask} , {hypothesis}").fields == ("premise", "hypothesis")
    assert Template("{hypothesis} ? {mask} , {premise}").fields == ("hypothesis", "premise")
    assert Template("{text} {mask}").fields == ("text",)


def test_braces_in_template_and_text_are_literal() -> None:
    template = Template("{{{mask}}} {{text}} : {text}")
    assert template.fields == ("text",)
    assert template.render({"text": "{mask} {x} {{"}, "<mask>") == "{<mask>} {text} : {mask} {x} {{"


def test_fields_that_the_template_does_not_name_are_left_out() -> None:
    assert Template("{mask} {text}").render({"text": "a", "title": "b"}, "M") == "M a"


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ConfigError, match="needs premise, hypothesis, the example has text"):
        Template("{premise} {mask} {hypothesis}").render({"text": "a"}, "M")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{mask} : {text}", False),
        ("{text} {mask}", True),
        ("{text}{mask}", False),
        ("It is ({mask}) : {text}", False),
        ("topic:\n{mask} {text}", True),
        ("{{mask}}: {mask} {text}", True),
        ("{text} {{{mask}}}", False),
    ],
)
def test_space_before_mask(pattern: str, expected: bool) -> None:
    assert Template(pattern).space_before_mask is expected


# --- tasks


def test_labels_keep_their_order_and_words_become_tuples() -> None:
    task = Task("t", "{mask} {text}", WORDS)
    assert task.labels == ("yes", "no")
    assert task.verbalizer == {"yes": ("Yes",), "no": ("No", "Maybe")}
    assert task == Task("t", Template("{mask} {text}"), {"yes": ["Yes"], "no": ("No", "Maybe")})


@pytest.mark.parametrize(
    ("verbalizer", "says"),
    [
        ({}, "0 label"),
        ({"yes": "Yes"}, "at least two"),
        ({"yes": "Yes", "no": []}, "label 'no' needs a non-empty word"),
        ({"yes": "Yes", "no": ""}, "label 'no' needs a non-empty word"),
        ({"yes": ["Yes", " "], "no": "No"}, "label 'yes' needs a non-empty word"),
        ({"yes": "Yes", "no": 3}, "label 'no'"),
        ({"yes": "Yes", "no": ["No", 3]}, "label 'no'"),
        ({"yes": "Yes", "no": {"word": "No"}}, "label 'no'"),
    ],
)
def test_a_verbalizer_needs_two_labels_with_words(verbalizer: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Task("t", "{mask} {text}", verbalizer)  # pyright: ignore[reportArgumentType]
    assert says in str(caught.value)
    assert "'t'" in str(caught.value)


@pytest.mark.parametrize("name", sorted(BUILT_IN_TASKS))
def test_built_in_tasks_are_found_by_their_names(name: str) -> None:
    task = Task.load(name)
    assert task.name == name
    assert task is BUILT_IN_TASKS[name]


def test_the_built_in_tasks_have_the_papers_labels() -> None:
    assert Task.load("nli").labels == ("entailment", "neutral", "contradiction")
    assert Task.load("nli").template.fields == ("premise", "hypothesis")
    assert len(Task.load("news").labels) == 7
    assert Task.load("news").template.fields == ("text",)


def test_a_toml_file(tmp_path: Path) -> None:
    path = tmp_path / "topics.toml"
    path.write_text(
        'name = "mine"\ntemplate = "{mask} : {text}"\n[verbalizer]\nnkhani = "Yes"\nñu = ["No", "Maybe"]\n'.replace(
            "ñu", '"ñu"'
        ),
        encoding="utf-8",
    )
    assert Task.load(path) == Task("mine", "{mask} : {text}", {"nkhani": "Yes", "ñu": ["No", "Maybe"]})
    assert Task.load(str(path)) == Task.load(path)


def test_without_a_name_the_file_gives_it(tmp_path: Path) -> None:
    path = tmp_path / "topics.toml"
    path.write_text('template = "{mask} : {text}"\nverbalizer = { a = "Yes", b = "No" }\n', encoding="utf-8-sig")
    assert Task.load(path).name == "topics"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"template = ", "not valid TOML"),
        (b"name = '\xff'", "not valid TOML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer, not the file itself"),
        (b'templat = "{mask} {text}"', "unknown key 'templat'. Did you mean 'template'?"),
        (b'template = "{mask} {text}"', "'verbalizer' is missing"),
        (b'template = "{mask} {text}"\n[verbalizer]\na/b = "Yes"\nc = "No"', 'needs quotes: "health/medicine" = ...'),
        ('template = "{mask} {text}"\n[verbalizer]\nñu = "Yes"\nc = "No"'.encode(), "needs quotes"),
        (b"x = " + b"[" * 100_000, "it is nested too deeply"),
        (b'[verbalizer]\na = "Yes"', "'template' is missing"),
        (b'template = "{mask} {text}"\nverbalizer = "Yes"', "verbalizer must map"),
        (b'template = "{text}"\n[verbalizer]\na = "Yes"\nb = "No"', "has 0 {mask}"),
        (b'template = "{mask} {text}"\n[verbalizer]\na = 1\nb = 0', "label 'a'"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "t.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        Task.load(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no task 'newz': neither built in .*news, nli.* Did you mean 'news'\?"):
        Task.load("newz")


@pytest.mark.parametrize("task", [*BUILT_IN_TASKS.values(), Task("t", "{{x}} {mask} {text}", WORDS)])
def test_round_trip(task: Task) -> None:
    again = Task.from_dict(task.to_dict())
    assert again == task
    assert again.labels == task.labels
    assert again.identity() == task.identity()


def test_what_a_task_says_is_its_identity() -> None:
    task = Task("t", "{mask} {text}", WORDS)
    others = [
        Task("t", "{mask}: {text}", WORDS),
        Task("t", "{mask} {text}", {"yes": "Yes", "no": "No"}),
        Task("t", "{mask} {text}", {"yes": "Yes", "no": ["Maybe", "No"]}),
        Task("t", "{mask} {text}", dict(reversed(WORDS.items()))),
    ]
    assert len({other.identity() for other in [task, *others]}) == 5
    assert Task("u", "{mask} {text}", WORDS).identity() == task.identity(), "its name changes no number"


@pytest.mark.parametrize(
    ("pattern", "moved"),
    [
        ("{mask} : {text}", "{text} : {mask}"),
        ("{premise} ? {mask} , {hypothesis}", "{premise} ? {hypothesis} , {mask}"),
        ("{text} . It is {mask} !", "{text} . It is {mask}"),
        ("{text} {mask}", "{text} {mask}"),
        ("{{a}} {mask} {{b}} {text} {{c}}", "{{a}} {text} {{c}} {{b}} {mask}"),
        ("{mask}{premise} and {hypothesis}.", "{premise} and {hypothesis}.{mask}"),
    ],
)
def test_a_decoder_finds_the_mask_at_the_end(pattern: str, moved: str) -> None:
    assert Template(pattern).for_decoder == Template(moved)
