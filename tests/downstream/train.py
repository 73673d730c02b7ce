"""Train and evaluate a small network on MMRel, streamed by its name with `load_dataset`."""

import numpy as np
import torch
from datasets import load_dataset
from torch import nn
from torch.utils.data import DataLoader

STEPS = 8
BATCH = 8  # rows
WORKERS = 2
SIDE = 32  # pixels
WORDS = 512  # different words
LENGTH = 16  # words of a question
ANSWERS = ("no", "yes")


def encode(row):
    """Return the pixels, the words of the question as numbers, and the answer's class."""
    pixels = np.asarray(row["image"].convert("RGB").resize((SIDE, SIDE)), dtype=np.float32) / 255
    words = [sum(map(ord, word)) % WORDS for word in row["question"].lower().split()][:LENGTH]
    words += [0] * (LENGTH - len(words))
    return {
        "pixels": torch.from_numpy(pixels).permute(2, 0, 1),
        "words": torch.tensor(words),
        "answer": torch.tensor(ANSWERS.index(row["answer"])),
    }


def load(split):
    """Return a loader of the yes/no questions of a split, read by several workers."""
    rows = load_dataset("mmrel", "real", split=split, streaming=True)
    rows = rows.filter(lambda task: task == "discriminative", input_columns="task")
    if split == "train":
        rows = rows.shuffle(seed=0, buffer_size=64)
    encoded = rows.map(encode, remove_columns=rows.column_names).with_format("torch")
    return DataLoader(encoded, BATCH, num_workers=WORKERS)


class Network(nn.Module):
    """A linear layer over a convolution of the picture and the mean of the words."""

    def __init__(self):
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(3, 16, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()
        )
        self.text = nn.EmbeddingBag(WORDS, 32)
        self.classifier = nn.Linear(16 * 16 + 32, 2)

    def forward(self, batch):
        features = [self.image(batch["pixels"]), self.text(batch["words"])]
        return self.classifier(torch.cat(features, 1))


def train(network):
    """Train for STEPS batches, over the split as often as needed."""
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    step = 0
    while step < STEPS:
        for batch in load("train"):
            loss = nn.functional.cross_entropy(network(batch), batch["answer"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            print(f"step {step} loss {loss.item():.3f}")
            if step == STEPS:
                break


def evaluate(network):
    """Return how many answers of the test split are correct, and how many there are."""
    correct = total = 0
    with torch.inference_mode():
        for batch in load("test"):
            correct += (network(batch).argmax(1) == batch["answer"]).sum().item()
            total += len(batch["answer"])
    return correct, total


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = Network()
    train(network)
    correct, total = evaluate(network)
    print(f"test: {correct} of {total} right")


if __name__ == "__main__":
    main()
