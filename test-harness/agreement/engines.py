"""The engines that are compared, each as distributions over given token ids: llama.cpp's own server, and ours.

llama.cpp names its BEST most probable tokens at a position (the rest is one bucket) and the log-probability of the token that
follows in the text. Ours gives the whole distribution.
"""

import dataclasses
import pydoc_data.topics
import subprocess

import numpy as np

from orch_cluster import request

BEST = 256
OPENINGS = [
    "The history of the lighthouse begins", "To make a good soup, first", "In mathematics, a prime number is", "The old ship sailed out of the harbour and",
    "A computer program is", "When the rain stopped, the children", "Photosynthesis is the process by which", "The king called his advisors and said",
    "Dear Sir or Madam, I am writing", "The river flows from the mountains", "Once upon a time in a small village",
    "The main difference between a virus and a bacterium",
    "My favourite season is autumn because", "In the year 1815, the", "Water boils at", "She opened the letter slowly and",
    "The first rule of gardening is", "Electric cars have become popular", "The theory of evolution explains", "He walked into the empty station",
    "A good teacher knows that", "The stock market fell sharply", "Bread is made from", "The moon orbits the Earth",
]
# Every other text is a conversation: its first token is the one that this model's template puts where others have a BOS.
CHAT = "<|im_start|>user\n{} ... Go on, please.<|im_end|>\n<|im_start|>assistant\n"


@dataclasses.dataclass
class Place:
    """What llama.cpp says at one position of a text: `ids` best first with `log`, and the log-probability of the next token."""
    position: int
    ids: np.ndarray
    log: np.ndarray
    next_log: float


@dataclasses.dataclass
class Text:
    name: str
    ids: list
    first: int  # the first judged position; the last one is len(ids) - 2
    chat: bool = False


def is_chat(number):
    return number % 2 == 1


def place_of(position, step):
    top = step["top_logprobs"]
    return Place(position, np.array([t["id"] for t in top]), np.array([t["logprob"] for t in top]), step["logprob"])


class LlamaCpp:
    """llama.cpp's HTTP server at `url`, one request at a time."""

    def __init__(self, url):
        self.url = url

    def _post(self, path, body):
        reply = request("POST", self.url + path, body, timeout=600)
        if reply.status != 200:
            raise RuntimeError(f"{path}: {reply.status} {reply.body[:300]}")
        return reply.json()

    def tokenize(self, text, special=False):
        return self._post("/tokenize", {"content": text, "add_special": False, "parse_special": special})["tokens"]

    def write(self, number, positions):
        """(Text, [Place]): llama.cpp goes on with an opening and says its distribution at each position."""
        opening = OPENINGS[number % len(OPENINGS)]
        prompt = self.tokenize(CHAT.format(opening) if is_chat(number) else opening, special=is_chat(number))
        body = {"prompt": prompt, "n_predict": positions, "temperature": 0.7, "top_k": 40, "seed": number, "n_probs": BEST, "ignore_eos": True,
                "cache_prompt": False}
        steps = self._post("/completion", body)["completion_probabilities"]
        text = Text(f"written {number}", prompt + [s["id"] for s in steps], len(prompt) - 1, is_chat(number))
        return text, [place_of(text.first + k, s) for k, s in enumerate(steps)]

    def force(self, text, best=BEST):
        """[Place] of a given text, one request a position: the next token is forced by a bias, which the reported numbers precede."""
        places = []
        for position in range(text.first, len(text.ids) - 1):
            following = text.ids[position + 1]
            step = self._post("/completion", {"prompt": text.ids[:position + 1], "n_predict": 1, "temperature": 0, "n_probs": best,
                                              "logit_bias": [[following, 1000.0]], "cache_prompt": True})["completion_probabilities"][0]
            if step["id"] != following:
                raise RuntimeError(f"{text.name}: token {following} was not forced at position {position}")
            places.append(place_of(position, step))
        return places


def prose(tokenize, count, length):
    """`count` texts of `length` tokens that no engine here wrote: the language reference that comes with Python."""
    texts = []
    for name in sorted(pydoc_data.topics.topics):
        if len(texts) >= count:
            return texts[:count]
        ids = tokenize(pydoc_data.topics.topics[name])
        texts += [Text(f"{name} {at}", ids[at:at + length], 0) for at in range(0, min(len(ids) - length + 1, 3 * length), length)]
    raise ValueError(f"only {len(texts)} texts of {length} tokens")


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


class OurEngine:
    """A worker-logits process: one line of ids in, the logits of every position out. Use as a context manager."""

    def __init__(self, tool, model, vocabulary, *options):
        self.vocabulary = vocabulary
        self.process = subprocess.Popen([tool, model, "--ctx", "512", "--raw", "-", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.stderr.close()
        self.process.wait(20)

    def logits(self, ids):
        self.process.stdin.write((" ".join(map(str, ids)) + "\n").encode())
        self.process.stdin.flush()
        wanted = len(ids) * self.vocabulary * 4
        raw = self.process.stdout.read(wanted)
        if len(raw) != wanted:
            raise RuntimeError(f"worker-logits ended: {self.process.stderr.read().decode(errors='replace')}")
        return np.frombuffer(raw, dtype=np.float32).reshape(len(ids), self.vocabulary)

    def log_probabilities(self, ids):
        return log_softmax(self.logits(ids))
