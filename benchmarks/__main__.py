"""`python3 run.py bench NAME …`: one benchmark per module, each prints a table and its bars."""

import argparse
import importlib
import sys

BENCHMARKS = {
    "gateway": "requests/s, streamed tokens/s and added latency with a null worker",
    "guard": "processor time of the guard's rules for 2 KB of text, and for a delta of a stream",
    "batches": "latency of one short text beside a batch of embeddings, and without it",
    "chat": "output tokens/s beside llama-server at 1, 4, 8 and 16 clients",
    "engines": "llama.cpp, OpenVINO, transformers, GenAI and llama-server on one model",
    "plot-engines": "draw what bench engines measured",
    "agents": "agents with long prompts at once, beside llama-server with its defaults",
    "embeddings": "one short text, many clients and one large request, beside the bare model",
    "scale": "texts/s of several embedding workers with a core each; memory over one long job",
    "transformers": "output tokens/s of the transformers backend beside generate",
    "perplexity": "perplexity of the OpenVINO backend's precisions beside transformers",
    "constrained": "output tokens/s of answers held to a schema beside free ones",
    "speculation": "output tokens/s with guessed tokens beside without",
    "first-minutes": "from a server's start to an answer, memory, disk, beside llama-server",
    "cold": "time to first token with nothing loaded, beside llama-server started for it",
    "prefix": "time to first token of a second turn over a long history",
    "returning": "time to first token of 12 agents that come back in turn on 4 slots",
    "idle": "memory of the stack with nothing loaded, and after an unload",
    "pressure": "two models by turns where memory takes one, and one where it takes none",
    "unload": "memory that unloads give back, over 20 cycles of each backend",
    "estimate": "memory that models are thought to take beside what they took",
    "containers": "size, build, start and idle memory of each image",
    "replicas": "texts/s of 1, 2 and 3 embedding workers; requests lost while containers change",
    "fleet": "what a gateway pays for up to a thousand workers; cache hits by policy, simulated",
    "resilience": "workers that fail, slow down, freeze or vanish under load: what clients notice",
    "soak": "a day of mixed work in little time: what stays in each process",
    "make-minilm": "write all-MiniLM-L6-v2 as a GGUF file",
    "make-model": "write random-weight models of Qwen2.5's shapes",
}
# Of those whose name is another: a module named as a library would hide it.
MODULES = {
    "first-minutes": "first_minutes",
    "make-minilm": "make_minilm_gguf",
    "make-model": "make_qwen_shape",
    "plot-engines": "plot_engines",
    "transformers": "transformers_chat",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="run.py bench",
        description=__doc__,
        epilog="\n".join(f"{name:<12}{what}" for name, what in BENCHMARKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=BENCHMARKS)
    chosen = parser.parse_args(sys.argv[1:2])
    module = MODULES.get(chosen.name, chosen.name)
    benchmark = importlib.import_module(f"benchmarks.{module}")
    code: int = benchmark.main(sys.argv[2:])
    return code


if __name__ == "__main__":
    sys.exit(main())
