// Teacher-forced logits: feeds token ids to a backend and writes what it computes, for comparisons with other engines.
//   worker-logits MODEL [--isa I] [--threads N] [--chunk N] [--ctx N] [--bench DECODE] [--raw FILE] < "id id id ..."
// Prints one line per position: the five best ids with log-probabilities. --raw writes all logits as f32, row by row.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <numeric>
#include <string>
#include <vector>

#include "worker/backend/create_backend.h"

namespace {

using namespace orch::worker;  // NOLINT: a tool of one file

struct Arguments {
  std::string model;
  std::string raw;
  BackendOptions options;
  std::uint32_t chunk = kStepRowsMax;
  std::uint32_t bench = 0;
};

Arguments parse(int argc, char** argv) {
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
    else
      a.model = flag;
  }
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
  const auto done = backend.step({rows, tables}, logits);
  if (!done.ok()) std::fprintf(stderr, "step failed: %s\n", done.error().message.c_str());
  return done.ok();
}

// Prefill of all ids without logits but the last, then `bench` greedy tokens.
int run_bench(LoadedBackend& loaded, const Arguments& a, const std::vector<std::uint32_t>& ids,
              const std::vector<std::vector<PageId>>& tables) {
  const std::uint32_t vocabulary = loaded.config.vocabulary;
  std::vector<float> logits(vocabulary);
  const double start = now_seconds();
  for (std::uint32_t at = 0; at < ids.size(); at += a.chunk) {
    std::vector<Row> rows;
    for (std::uint32_t p = at; p < ids.size() && p < at + a.chunk; ++p)
      rows.push_back({ids[p], p, 0, p + 1 == ids.size()});
    const bool last = rows.back().want_logits;
    if (!step(*loaded.backend, rows, tables, last ? std::span<float>(logits) : std::span<float>())) return 70;
  }
  const double middle = now_seconds();
  for (std::uint32_t i = 0; i < a.bench; ++i) {
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    const std::uint32_t position = static_cast<std::uint32_t>(ids.size()) + i;
    if (!step(*loaded.backend, {{static_cast<std::uint32_t>(best), position, 0, true}}, tables, logits)) return 70;
  }
  const double end = now_seconds();
  std::printf("%s: prefill %zu tokens %.1f tok/s, decode %u tokens %.1f tok/s\n", loaded.backend->info().name.c_str(),
              ids.size(), static_cast<double>(ids.size()) / (middle - start), a.bench, a.bench / (end - middle));
  return 0;
}

int run_logits(LoadedBackend& loaded, const Arguments& a, const std::vector<std::uint32_t>& ids,
               const std::vector<std::vector<PageId>>& tables) {
  const std::uint32_t vocabulary = loaded.config.vocabulary;
  std::ofstream raw;
  if (!a.raw.empty()) raw.open(a.raw, std::ios::binary);
  for (std::uint32_t at = 0; at < ids.size(); at += a.chunk) {
    std::vector<Row> rows;
    for (std::uint32_t p = at; p < ids.size() && p < at + a.chunk; ++p) rows.push_back({ids[p], p, 0, true});
    std::vector<float> logits(rows.size() * vocabulary);
    if (!step(*loaded.backend, rows, tables, logits)) return 70;
    if (raw.is_open()) {
      raw.write(reinterpret_cast<const char*>(logits.data()),
                static_cast<std::streamsize>(logits.size() * sizeof(float)));
      continue;
    }
    for (std::size_t i = 0; i < rows.size(); ++i) print_top(rows[i].position, &logits[i * vocabulary], vocabulary);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments a = parse(argc, argv);
  a.chunk = std::min(a.chunk, kStepRowsMax);
  auto file = GgufFile::open(a.model);
  if (!file.ok()) {
    std::fprintf(stderr, "%s: %s\n", file.error().field.c_str(), file.error().message.c_str());
    return file.error().kind == ModelErrorKind::missing_file ? 66 : 65;
  }
  auto loaded = create_backend(**file, a.options, {});
  if (!loaded.ok()) {
    std::fprintf(stderr, "%s: %s\n", loaded.error().field.c_str(), loaded.error().message.c_str());
    return 65;
  }
  std::fprintf(stderr, "%s\n", describe(loaded->memory).c_str());
  std::vector<std::uint32_t> ids;
  for (std::uint32_t id = 0; std::cin >> id;) ids.push_back(id);
  if (ids.empty() || ids.size() + a.bench > loaded->memory.context) {
    std::fprintf(stderr, "ids: %zu plus %u generated, allowed 1 to %u\n", ids.size(), a.bench, loaded->memory.context);
    return 64;
  }
  std::vector<std::vector<PageId>> tables(1);
  for (PageId p = 0; p < loaded->memory.pages; ++p) tables[0].push_back(p);
  return a.bench != 0 ? run_bench(*loaded, a, ids, tables) : run_logits(*loaded, a, ids, tables);
}
