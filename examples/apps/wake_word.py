"""Listen for a wake word in a stream of audio: `wake_word.py -m MODEL --wav FILE.wav` (16 kHz, mono, 16 bits).

A spectral frame every 20 ms goes into the model as it comes. Three kinds of model work:

- a window model, input (1, T, 1, M): the script keeps the last T frames in a ring buffer, in the model's own type, and hands the
  window over through `interpreter.tensor()`, without a copy of its own;
- a streaming model, inputs frame (1, 1, 1, M) and state, outputs scores and state: what comes out goes in again;
- a streaming model that keeps its state in variables of its own, input (1, 1, 1, M).

Detections are smoothed over 5 frames, and one is followed by half a second of rest.
"""

from __future__ import annotations

import argparse
import sys
import wave
from importlib import import_module

import numpy as np

RATE, FRAME, HOP, BINS = 16_000, 480, 320, 40
SMOOTHED, REST, THRESHOLD = 5, 25, 0.7


def mel_filters(bins: int) -> np.ndarray:
    """(bins, FRAME // 2 + 1): triangles from 20 to 4000 Hz, evenly spaced in mel."""
    mel = np.linspace(1127 * np.log1p(20 / 700), 1127 * np.log1p(4000 / 700), bins + 2)
    hertz = 700 * np.expm1(mel / 1127)
    f = np.fft.rfftfreq(FRAME, 1 / RATE)
    up = (f - hertz[:-2, None]) / (hertz[1:-1] - hertz[:-2])[:, None]
    down = (hertz[2:, None] - f) / (hertz[2:] - hertz[1:-1])[:, None]
    return np.maximum(0, np.minimum(up, down))


def frames(audio: np.ndarray, bins: int) -> np.ndarray:
    """(n, bins) float32: the log of the mel spectrum of every frame, about 0 to 1."""
    filters, window = mel_filters(bins), np.hanning(FRAME)
    starts = range(0, len(audio) - FRAME + 1, HOP)
    power = np.stack([np.abs(np.fft.rfft(audio[s : s + FRAME] / 32768 * window)) ** 2 for s in starts])
    return np.clip((np.log10(power @ filters.T + 1e-6) + 6) / 10, 0, 1).astype(np.float32)


def quantized(x: np.ndarray, detail: dict) -> np.ndarray:
    """Real numbers in a tensor's own type."""
    scale, zero_point = detail["quantization"]
    if not scale:
        return x.astype(detail["dtype"])
    info = np.iinfo(detail["dtype"])
    return np.clip(np.round(x / scale) + zero_point, info.min, info.max).astype(detail["dtype"])


def real(q: np.ndarray, detail: dict) -> np.ndarray:
    """A tensor's values as real numbers."""
    scale, zero_point = detail["quantization"]
    return (q.astype(np.float32) - zero_point) * scale if scale else q.astype(np.float32)


class WindowModel:
    """A model of a whole window, over a ring buffer."""

    def __init__(self, interpreter):
        self.interpreter = interpreter
        self.detail = interpreter.get_input_details()[0]
        self.out = interpreter.get_output_details()[0]
        _, self.length, _, self.bins = self.detail["shape"]
        self.ring = np.tile(quantized(np.zeros(self.bins), self.detail), (self.length, 1))
        self.at = 0
        self.input = interpreter.tensor(self.detail["index"])
        self.output = interpreter.tensor(self.out["index"])

    def step(self, frame):
        """The scores after one more frame, in the output's own type."""
        self.ring[self.at] = quantized(frame, self.detail)
        self.at = (self.at + 1) % self.length
        self.input()[0, :, 0, :] = np.roll(self.ring, -self.at, axis=0)
        self.interpreter.invoke()
        return self.output()[0].copy()


class StreamingModel:
    """A model that is given its own state back."""

    def __init__(self, interpreter):
        self.interpreter = interpreter
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        (self.detail,) = [d for d in inputs if d["shape"][1] == 1]
        (state_in,) = [d for d in inputs if d["shape"][1] != 1]
        (self.out,) = [d for d in outputs if len(d["shape"]) == 2]
        (state_out,) = [d for d in outputs if len(d["shape"]) != 2]
        assert state_in["quantization"] == state_out["quantization"]
        self.bins = self.detail["shape"][3]
        self.state_in, self.state_out = state_in["index"], state_out["index"]
        interpreter.set_tensor(self.state_in, quantized(np.zeros(state_in["shape"]), state_in))

    def step(self, frame):
        """The scores after one more frame, in the output's own type."""
        interpreter = self.interpreter
        interpreter.set_tensor(self.detail["index"], quantized(frame, self.detail).reshape(1, 1, 1, -1))
        interpreter.invoke()
        interpreter.set_tensor(self.state_in, interpreter.get_tensor(self.state_out))
        return interpreter.get_tensor(self.out["index"])[0]


class StatefulModel:
    """A model that remembers the frames before."""

    def __init__(self, interpreter):
        self.interpreter = interpreter
        self.detail, self.out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        self.bins = self.detail["shape"][3]

    def step(self, frame):
        """The scores after one more frame, in the output's own type."""
        self.interpreter.set_tensor(self.detail["index"], quantized(frame, self.detail).reshape(1, 1, 1, -1))
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.out["index"])[0]


def kind_of(interpreter):
    """The class above that runs this model."""
    inputs = interpreter.get_input_details()
    if len(inputs) == 2:
        return StreamingModel
    return StatefulModel if inputs[0]["shape"][1] == 1 else WindowModel


def main():
    """Print when the word was heard."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--wav", required=True)
    parser.add_argument("--word", type=int, default=0, help="the class that wakes")
    parser.add_argument("--runtime", default="edgeq", choices=["edgeq", "tflite_runtime", "ai_edge_litert"])
    parser.add_argument("--reference", action="store_true", help="ask for the reference kernels")
    parser.add_argument("--save", help="write the raw scores to this .npy")
    args = parser.parse_args()

    tflite = import_module(f"{args.runtime}.interpreter")  # from tflite_runtime import interpreter as tflite
    resolver = tflite.OpResolverType.BUILTIN_REF if args.reference else tflite.OpResolverType.AUTO
    interpreter = tflite.Interpreter(model_path=args.model, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    model = kind_of(interpreter)(interpreter)

    with wave.open(args.wav) as f:
        if (f.getframerate(), f.getnchannels(), f.getsampwidth()) != (RATE, 1, 2):
            sys.exit(f"{args.wav}: 16 kHz, one channel, 16 bits are expected")
        audio = np.frombuffer(f.readframes(f.getnframes()), "<i2").astype(np.float64)
    scores, rest = [], 0
    for k, frame in enumerate(frames(audio, model.bins)):
        scores.append(model.step(frame))
        recent = np.mean([real(s, model.out)[args.word] for s in scores[-SMOOTHED:]])
        rest = max(0, rest - 1)
        if recent > THRESHOLD and not rest:
            print(f"{k * HOP / RATE:6.2f} s  wake word  {recent:.2f}")
            rest = REST
    if args.save:
        np.save(args.save, np.stack(scores))


if __name__ == "__main__":
    main()
