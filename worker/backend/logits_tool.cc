// Teacher-forced logits: feeds token ids to a backend and writes what it computes, for comparisons with other engines.
//   worker-logits MODEL [--device D] [--isa I] [--threads N] [--chunk N] [--ctx N] [--mutant NAME]
//                 [--raw FILE|-] [--greedy N] [--bench DECODE]
// Standard input: one text a line, ids separated by blanks; each line starts anew at position 0 and is answered before
// the next one is read. Prints one line per position: the five best ids with log-probabilities. --raw writes all logits
// as f32 instead, row by row (- is standard output). --greedy prints the ids of N greedy tokens per text. --mutant
// breaks the engine on purpose. Exit status: 64 usage or ids, 65 model or backend, 66 no such file, 70 a step failed.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <numeric>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "worker/backend/create_backend.h"
#include "worker/backend/mutant_backend.h"

namespace {

using namespace orch::worker;  // NOLINT: a tool of one file

struct Arguments {
  std::string model;
  std::string raw;
  std::optional<std::string> mutant;
  BackendOptions options;
  std::uint32_t chunk = kStepRowsMax;
  std::uint32_t bench = 0;
  std::uint32_t greedy = 0;

  std::uint32_t generated() const { return std::max(bench, greedy); }
};

std::optional<Arguments> parse(int argc, char** argv) {
  Arguments a;
  a.options.slots = 1;
  a.options.device = "cpu";
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const bool more = i + 1 < argc;
    const auto number = [&] { return static_cast<std::uint32_t>(std::strtoul(argv[++i], nullptr, 10)); };
    if (flag == "--isa" && more)
      a.options.isa = argv[++i];
    else if (flag == "--device" && more)
      a.options.device = argv[++i];
    else if (flag == "--raw" && more)
      a.raw = argv[++i];
    else if (flag == "--threads" && more)
      a.options.threads = number();
    else if (flag == "--ctx" && more)
      a.options.context = number();
    else if (flag == "--chunk" && more)
      a.chunk = std::max(1U, number());
    else if (flag == "--bench" && more)
      a.bench = number();
    else if (flag == "--greedy" && more)
      a.greedy = number();
    else if (flag == "--mutant" && more)
      a.mutant = argv[++i];
    else if (flag.starts_with("--") || !a.model.empty())
      return std::nullopt;
    else
      a.model = flag;
  }
  a.chunk = std::min(a.chunk, kStepRowsMax);
  if (a.model.empty()) return std::nullopt;
  return a;
}

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void print_top(std::uint32_t position, const float* logits, std::uint32_t vocabulary) {
  std::vector<std::uint32_t> ids(vocabulary);
  std::iota(ids.begin(), ids.end(), 0U);
  std::partial_sort(ids.begin(), ids.begin() + 5, ids.end(), [logits](std::uint32_t a, std::uint32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  double sum = 0;
  for (std::uint32_t i = 0; i < vocabulary; ++i) sum += std::exp(static_cast<double>(logits[i] - logits[ids[0]]));
  std::printf("%u", position);
  for (std::size_t i = 0; i < 5; ++i) {
    std::printf(" %u:%.5f", ids[i], static_cast<double>(logits[ids[i]] - logits[ids[0]]) - std::log(sum));
  }
  std::printf("\n");
}

bool step(Backend& backend, const std::vector<Row>& rows, const std::vector<std::vector<PageId>>& tables,
          std::span<float> logits) {
  const auto done = backend.step({rows, tables}, {logits});
  if (!done.ok()) std::fprintf(stderr, "step failed: %s\n", done.error().message.c_str());
  return done.ok();
}

using Tables = std::vector<std::vector<PageId>>;

// All ids in chunks, logits of the last only. False when a step failed.
bool prefill(LoadedBackend& loaded, const Arguments& a, const std::vector<std::uint32_t>& ids, const Tables& tables,
             std::vector<float>& logits) {
  logits.resize(loaded.config.vocabulary);
  for (std::uint32_t at = 0; at < ids.size(); at += a.chunk) {
    std::vector<Row> rows;
    for (std::uint32_t p = at; p < ids.size() && p < at + a.chunk; ++p)
      rows.push_back({ids[p], p, 0, p + 1 == ids.size()});
    const bool last = rows.back().want_logits;
    if (!step(*loaded.backend, rows, tables, last ? std::span<float>(logits) : std::span<float>())) return false;
  }
  return true;
}

// `count` greedy tokens after `start` positions; appends them to `out`.
bool decode(LoadedBackend& loaded, std::size_t start, std::uint32_t count, const Tables& tables,
            std::vector<float>& logits, std::vector<std::uint32_t>& out) {
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto best = static_cast<std::uint32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    out.push_back(best);
    const std::uint32_t position = static_cast<std::uint32_t>(start) + i;
    if (!step(*loaded.backend, {{best, position, 0, true}}, tables, logits)) return false;
  }
  return true;
}

int run_bench(LoadedBackend& loaded, const Arguments& a, const std::vector<std::uint32_t>& ids, const Tables& tables) {
  std::vector<float> logits;
  std::vector<std::uint32_t> out;
  const double start = now_seconds();
  if (!prefill(loaded, a, ids, tables, logits)) return 70;
  const double middle = now_seconds();
  if (!decode(loaded, ids.size(), a.bench, tables, logits, out)) return 70;
  const double end = now_seconds();
  std::printf("%s: prefill %zu tokens %.1f tok/s, decode %u tokens %.1f tok/s\n", loaded.backend->info().name.c_str(),
              ids.size(), static_cast<double>(ids.size()) / (middle - start), a.bench, a.bench / (end - middle));
  return 0;
}

int run_greedy(LoadedBackend& loaded, const Arguments& a, const std::vector<std::uint32_t>& ids, const Tables& tables) {
  std::vector<float> logits;
  std::vector<std::uint32_t> out;
  if (!prefill(loaded, a, ids, tables, logits)) return 70;
  if (!decode(loaded, ids.size(), a.greedy, tables, logits, out)) return 70;
  for (std::size_t i = 0; i < out.size(); ++i) std::printf("%s%u", i == 0 ? "" : " ", out[i]);
  std::printf("\n");
  return 0;
}

// Where --raw writes: nullptr without it.
using RawFile = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;
RawFile open_raw(const std::string& path) {
  if (path.empty()) return {nullptr, [](std::FILE*) { return 0; }};
  if (path == "-") return {stdout, std::fflush};
  return {std::fopen(path.c_str(), "wb"), std::fclose};
}

int run_logits(LoadedBackend& loaded, const Arguments& a, const std::vector<std::uint32_t>& ids, const Tables& tables,
               std::FILE* raw) {
  const std::uint32_t vocabulary = loaded.config.vocabulary;
  for (std::uint32_t at = 0; at < ids.size(); at += a.chunk) {
    std::vector<Row> rows;
    for (std::uint32_t p = at; p < ids.size() && p < at + a.chunk; ++p) rows.push_back({ids[p], p, 0, true});
    std::vector<float> logits(rows.size() * vocabulary);
    if (!step(*loaded.backend, rows, tables, logits)) return 70;
    if (raw != nullptr) {
      if (std::fwrite(logits.data(), sizeof(float), logits.size(), raw) != logits.size()) return 70;
      continue;
    }
    for (std::size_t i = 0; i < rows.size(); ++i) print_top(rows[i].position, &logits[i * vocabulary], vocabulary);
  }
  return 0;
}

// 0, or 64 with a line that names the limit.
int check_ids(const LoadedBackend& loaded, const Arguments& a, const std::vector<std::uint32_t>& ids) {
  if (ids.empty() || ids.size() + a.generated() > loaded.memory.context) {
    std::fprintf(stderr, "ids: %zu plus %u generated, allowed 1 to %u\n", ids.size(), a.generated(),
                 loaded.memory.context);
    return 64;
  }
  for (const std::uint32_t id : ids) {
    if (id < loaded.config.vocabulary) continue;
    std::fprintf(stderr, "ids: %u, allowed 0 to %u\n", id, loaded.config.vocabulary - 1);
    return 64;
  }
  return 0;
}

int run_texts(LoadedBackend& loaded, const Arguments& a) {
  Tables tables(1);
  for (PageId p = 0; p < loaded.memory.pages; ++p) tables[0].push_back(p);
  const RawFile raw = open_raw(a.raw);
  if (!a.raw.empty() && raw == nullptr) {
    std::fprintf(stderr, "raw: '%s' cannot be written\n", a.raw.c_str());
    return 64;
  }
  for (std::string line; std::getline(std::cin, line);) {
    std::vector<std::uint32_t> ids;
    std::istringstream words(line);
    for (std::uint32_t id = 0; words >> id;) ids.push_back(id);
    int code = words.eof() ? check_ids(loaded, a, ids) : 64;
    if (code != 0) return code;
    if (a.bench != 0) {
      code = run_bench(loaded, a, ids, tables);
    } else if (a.greedy != 0) {
      code = run_greedy(loaded, a, ids, tables);
    } else {
      code = run_logits(loaded, a, ids, tables, raw.get());
    }
    if (code != 0) return code;
    std::fflush(raw != nullptr ? raw.get() : stdout);
  }
  return 0;
}

orch::Result<MutantBackend, ModelError> load(const GgufFile& file, const Arguments& a) {
  if (a.mutant) return create_mutant_backend(file, a.options, *a.mutant);
  MutantBackend right;
  ORCH_TRY(loaded, create_backend(file, a.options, {}));
  right.loaded = std::move(loaded);
  return right;
}

}  // namespace

int main(int argc, char** argv) {
  const auto a = parse(argc, argv);
  if (!a) {
    std::fprintf(stderr, "usage: worker-logits MODEL [options] < ids; the options stand at the top of %s\n",
                 "worker/backend/logits_tool.cc");
    return 64;
  }
  auto file = GgufFile::open(a->model);
  if (!file.ok()) {
    std::fprintf(stderr, "%s: %s\n", file.error().field.c_str(), file.error().message.c_str());
    return file.error().kind == ModelErrorKind::missing_file ? 66 : 65;
  }
  auto engine = load(**file, *a);
  if (!engine.ok()) {
    std::fprintf(stderr, "%s: %s\n", engine.error().field.c_str(), engine.error().message.c_str());
    return 65;
  }
  std::fprintf(stderr, "%s\n", describe(engine->loaded.memory).c_str());
  return run_texts(engine->loaded, *a);
}
