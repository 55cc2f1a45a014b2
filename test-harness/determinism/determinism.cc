// determinism [--seeds=64] [--first=1] [--cells=8] [--vulkan] [--hardware] [--seed=N --cell=M] [--model=FILE]
//             [--faults]
// Each seed's job alone on the scalar reference against the same job in random cells, on a tiny model of the seed's own
// or on that of a GGUF file. --hardware refuses a software Vulkan device. Exit 0 iff no byte differs.
#include <bit>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "determinism/coverage.h"
#include "determinism/traffic.h"
#include "worker/core/kv_pages.h"
#include "worker/cpu/kernels.h"

namespace orch::determinism {
namespace {

struct Options {
  std::uint64_t first = 1;
  std::uint64_t seeds = 64;
  std::uint32_t cells = 8;
  std::optional<std::uint32_t> cell;
  std::uint32_t threads = 0;  // of every cell; 0: as drawn
  std::string model_path;
  std::unique_ptr<FileModel> model;  // of model_path
  bool vulkan = false;
  bool hardware = false;
  bool faults = false;
};

std::string file_of(std::uint64_t seed, std::uint32_t cell) {
  return "determinism-" + std::to_string(seed) + "-" + std::to_string(cell) + ".txt";
}

// The first position whose bytes differ, in words; both rows go into a file.
std::optional<std::string> first_logit_difference(const Trace& expected, const Trace& got, const std::string& file) {
  for (const auto& [position, computed] : got.logits) {
    const auto found = expected.logits.find(position);
    if (found == expected.logits.end()) continue;  // the reference wanted no logits there
    const std::vector<float>& row = computed.values;
    const std::vector<float>& wanted = found->second.values;
    if (std::memcmp(wanted.data(), row.data(), row.size() * sizeof(float)) == 0) continue;
    std::ofstream out(file);
    std::size_t first = row.size();
    for (std::size_t i = 0; i < row.size(); ++i) {
      const auto bits = [](float x) { return std::bit_cast<std::uint32_t>(x); };
      const bool same = bits(row[i]) == bits(wanted[i]);
      if (!same && first == row.size()) first = i;
      out << position << " " << i << " " << bits(wanted[i]) << " " << bits(row[i]) << (same ? "" : " *") << "\n";
    }
    return "logits of position " + std::to_string(position) + " differ from id " + std::to_string(first) + " on (" +
           file + ")";
  }
  return std::nullopt;
}

template <typename T>
bool ends_with(const std::vector<T>& whole, const std::vector<T>& tail, std::size_t from) {
  return whole.size() >= from && std::vector<T>(whole.begin() + static_cast<std::ptrdiff_t>(from), whole.end()) == tail;
}

std::optional<std::string> difference(const Trace& expected, const Trace& got, std::size_t resumed,
                                      const std::string& file) {
  if (!got.failure.empty() || !got.finished) return "it did not finish: " + got.failure;
  if (auto found = first_logit_difference(expected, got, file)) return found;
  if (got.logits.empty()) return "no logits were seen";
  if (!ends_with(expected.ids, got.ids, resumed)) return "token ids differ";
  if (!expected.scores.empty() && !ends_with(expected.scores, got.scores, resumed)) return "log-probabilities differ";
  if (expected.prompt_scores != got.prompt_scores) return "log-probabilities of the prompt differ";
  if (resumed == 0 && expected.text != got.text) return "texts differ";
  return std::nullopt;
}

class Checker {
 public:
  explicit Checker(const Options& options) : options_(options) {}

  std::optional<std::string> check(std::uint64_t seed, std::uint32_t number, Fault fault) {
    const Case of = make_case(seed, options_.model.get());
    const Trace& expected = reference(seed, of);
    Cell cell = make_cell(seed, number,
                          {.avx2 = worker::cpu::avx2_kernels() != nullptr,
                           .avx512vnni = worker::cpu::avx512vnni_kernels() != nullptr,
                           .vulkan = options_.vulkan,
                           .small = of.file != nullptr});
    if (options_.threads != 0) cell.threads = options_.threads;
    cell.hardware = options_.hardware;
    if (fault == Fault::stale_page) cell.share_prefixes = false;
    auto backend = make_backend(of, cell);
    if (!backend.ok()) {
      coverage_.add_refused();
      refusal_ = backend.error();
      return std::nullopt;
    }
    if (cell.device == Device::vulkan) device_ = (*backend)->info().device_name;
    std::vector<std::uint32_t> resume = expected.ids;
    if (resume.size() > cell.resume_behind) resume.resize(cell.resume_behind);
    if (resume.size() == expected.ids.size()) resume.clear();
    const Trace got = run(of, cell, **backend, resume, fault);
    coverage_.add(cell, got, !resume.empty());
    const auto found = difference(expected, got, resume.size(), file_of(seed, number));
    if (!found) return std::nullopt;
    ++differences_;
    return "seed " + std::to_string(seed) + " cell " + std::to_string(number) + " (" + of.model_name() + ", " +
           cell.describe() + "): " + *found + "; replay: determinism --seed=" + std::to_string(seed) +
           " --cell=" + std::to_string(number) + (options_.vulkan ? " --vulkan" : "") +
           (options_.hardware ? " --hardware" : "") + (of.file != nullptr ? " --model=" + options_.model_path : "");
  }
  const Coverage& coverage() const { return coverage_; }
  std::uint64_t differences() const { return differences_; }
  const std::string& device() const { return device_; }    // of the last cell on a Vulkan device
  const std::string& refusal() const { return refusal_; }  // of the last cell that was refused

 private:
  const Trace& reference(std::uint64_t seed, const Case& of) {
    if (seed == reference_seed_) return reference_;
    Cell alone;
    if (of.file != nullptr) alone.threads = 2;
    alone.pages = 2 * worker::pages_for(of.context());
    auto backend = make_backend(of, alone);
    ORCH_CHECK(backend.ok());
    reference_ = run(of, alone, **backend, {}, Fault::none);
    reference_seed_ = seed;
    return reference_;
  }

  const Options& options_;
  Coverage coverage_;
  std::uint64_t differences_ = 0;
  std::string device_;
  std::string refusal_;
  std::uint64_t reference_seed_ = 0;
  Trace reference_;
};

int check_all(const Options& options) {
  Checker checker(options);
  for (std::uint64_t seed = options.first; seed < options.first + options.seeds; ++seed) {
    for (std::uint32_t cell = options.cell.value_or(0); cell < (options.cell ? *options.cell + 1 : options.cells);
         ++cell) {
      if (const auto found = checker.check(seed, cell, Fault::none)) std::fprintf(stderr, "%s\n", found->c_str());
    }
  }
  const Coverage& coverage = checker.coverage();
  std::printf("%llu seeds, %s: %llu differences\n", static_cast<unsigned long long>(options.seeds),
              coverage.text().c_str(), static_cast<unsigned long long>(checker.differences()));
  if (!checker.device().empty()) std::printf("Vulkan device: %s\n", checker.device().c_str());
  bool exercised = coverage.cells() > 0;
  if (!options.cell && options.vulkan && coverage.vulkan() == 0) {
    std::fprintf(stderr, "no cell ran on a Vulkan device: %s\n", checker.refusal().c_str());
    exercised = false;
  }
  if (!options.cell && options.seeds * options.cells >= kCoveredCells) {
    for (const std::string& what : coverage.missing()) {
      std::fprintf(stderr, "among the cells was not %s\n", what.c_str());
      exercised = false;
    }
  }
  return checker.differences() == 0 && exercised ? 0 : 1;
}

int check_faults(const Options& options) {
  int missed = 0;
  for (const auto& [fault, name] :
       {std::pair{Fault::stale_page, "a page of another sequence"}, std::pair{Fault::one_bit, "one bit of one logit"},
        std::pair{Fault::other_seed, "another seed of the random numbers"}}) {
    Checker checker(options);
    bool seen = false;
    for (std::uint64_t seed = 1; seed <= 12 && !seen; ++seed) {
      for (std::uint32_t cell = 0; cell < 4 && !seen; ++cell) seen = checker.check(seed, cell, fault).has_value();
    }
    std::printf("%s: %s\n", name, seen ? "seen" : "NOT SEEN");
    missed += seen ? 0 : 1;
  }
  return missed == 0 ? 0 : 1;
}

template <typename T>
bool read_number(std::string_view argument, std::string_view name, T& out) {
  if (!argument.starts_with(name)) return false;
  const std::string_view digits = argument.substr(name.size());
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
  return error == std::errc() && end == digits.data() + digits.size();
}

int main_of(int argc, char** argv) {
  Options options;
  std::uint32_t cell = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--vulkan") {
      options.vulkan = true;
    } else if (argument == "--hardware") {
      options.hardware = true;
    } else if (argument == "--faults") {
      options.faults = true;
    } else if (argument.starts_with("--model=")) {
      options.model_path = argument.substr(8);
    } else if (read_number(argument, "--seed=", options.first)) {
      options.seeds = 1;
    } else if (read_number(argument, "--cell=", cell)) {
      options.cell = cell;
    } else if (!read_number(argument, "--seeds=", options.seeds) && !read_number(argument, "--first=", options.first) &&
               !read_number(argument, "--cells=", options.cells) &&
               !read_number(argument, "--threads=", options.threads)) {
      std::fprintf(stderr, "determinism: unknown argument %s\n", argv[i]);
      return 64;
    }
  }
  if (!options.model_path.empty()) {
    auto opened = FileModel::open(options.model_path);
    if (!opened.ok()) {
      std::fprintf(stderr, "determinism: %s: %s\n", options.model_path.c_str(), opened.error().c_str());
      return 65;
    }
    options.model = std::move(opened).value();
  }
  return options.faults ? check_faults(options) : check_all(options);
}

}  // namespace
}  // namespace orch::determinism

int main(int argc, char** argv) { return orch::determinism::main_of(argc, argv); }
