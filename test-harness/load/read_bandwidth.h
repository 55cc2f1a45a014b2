// What so many threads read from memory together: the roof of decoding, whose every token reads the weights once.
// Blocks; starts its own threads and ends them.
#pragma once

namespace orch::bench {

// Bytes per second of all threads together, over passes that follow each other. Other work on the machine and other
// guests of its host make passes slower and never faster, so the best one is the figure and the others tell how much to
// trust it.
struct Bandwidth {
  double best = 0;
  double median = 0;
  double worst = 0;
};

// `passes` over hundreds of MiB a thread; at least one.
Bandwidth read_bandwidth(unsigned threads, unsigned passes);

}  // namespace orch::bench
