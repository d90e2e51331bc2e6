"""Four small tasks with known answers, written for this book: for prompts with examples.

What is told to a model before the question, and how its answer is scored, is built in the
chapter; here are the items, the labels and the forms in which an item can be written.
"""

import json

from lib.data.origin import EMBEDDED, Dataset

# The labels of the two tasks that choose among a few; the other two have open answers.
LABELS = {
    "sentiment": ("negative", "positive"),
    "topic": ("food", "music", "sports", "weather"),
}
TASKS = ("antonyms", "past tense", "sentiment", "topic")
# How an item is written: task -> name -> template, which ends with the label. "bare" says
# nothing of the task, "described" names it in every item.
FORMATS = {
    "antonyms": {
        "bare": "{input} -> {label}",
        "named": "Word: {input}\nOpposite: {label}",
        "described": "The opposite of {input} is {label}",
    },
    "past tense": {
        "bare": "{input} -> {label}",
        "named": "Verb: {input}\nPast tense: {label}",
        "described": "The past tense of {input} is {label}",
    },
    "sentiment": {
        "bare": "{input} -> {label}",
        "named": "Review: {input}\nSentiment: {label}",
        "described": "Is the review “{input}” positive or negative? It is {label}",
    },
    "topic": {
        "bare": "{input} -> {label}",
        "named": "Sentence: {input}\nTopic: {label}",
        "described": "Is “{input}” about food, music, sports or weather? About {label}",
    },
}


def task(name: str) -> Dataset:
    """The items of one of `TASKS`: rows of input, label.

    130 antonyms, 120 past tenses (those with one accepted form), 108 short reviews of two
    sentiments, 104 sentences on four topics; the labels of the last two are balanced, and
    none stands in its own input. Raises ValueError for another name.
    """
    if name not in TASKS:
        raise ValueError(f"name: got {name!r}, wants one of {', '.join(TASKS)}")
    lines = (EMBEDDED / "tasks.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return Dataset(
        name=name,
        source="written for this book",
        licence="CC BY 4.0",
        is_full=True,
        rows=[
            {"input": r["input"], "label": r["label"]}
            for r in rows
            if r["task"] == name
        ],
        unit="items",
        texts=("input",),
    )
