"""A training repository that knows MMRel by its name alone: streams it, trains a small network, evaluates it."""

import numpy as np
import torch
from datasets import load_dataset
from torch import nn
from torch.utils.data import DataLoader

STEPS, BATCH, WORKERS, SIDE, WORDS, LENGTH = 8, 8, 2, 32, 512, 16
ANSWERS = ("no", "yes")


def encode(row):
    """Pixels, the question's words as numbers, the answer."""
    pixels = np.asarray(row["image"].convert("RGB").resize((SIDE, SIDE)), dtype=np.float32) / 255
    words = [sum(map(ord, word)) % WORDS for word in row["question"].lower().split()][:LENGTH]
    words += [0] * (LENGTH - len(words))
    return {
        "pixels": torch.from_numpy(pixels).permute(2, 0, 1),
        "words": torch.tensor(words),
        "answer": torch.tensor(ANSWERS.index(row["answer"])),
    }


def load(split):
    """Yes/no questions of a split, in batches, read by several workers."""
    rows = load_dataset("mmrel", "real", split=split, streaming=True)
    rows = rows.filter(lambda task: task == "discriminative", input_columns="task")
    if split == "train":
        rows = rows.shuffle(seed=0, buffer_size=64)
    return DataLoader(
        rows.map(encode, remove_columns=rows.column_names).with_format("torch"),
        BATCH,
        num_workers=WORKERS,
    )


class Network(nn.Module):
    """A convolution over the picture and the mean of the words, joined."""

    def __init__(self):
        super().__init__()
        self.see = nn.Sequential(
            nn.Conv2d(3, 16, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()
        )
        self.read = nn.EmbeddingBag(WORDS, 32)
        self.say = nn.Linear(16 * 16 + 32, 2)

    def forward(self, batch):
        return self.say(torch.cat([self.see(batch["pixels"]), self.read(batch["words"])], 1))


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = Network()
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
    right = total = 0
    with torch.inference_mode():
        for batch in load("test"):
            right += (network(batch).argmax(1) == batch["answer"]).sum().item()
            total += len(batch["answer"])
    print(f"test: {right} of {total} right")


if __name__ == "__main__":
    main()
