#include "pool-managerd/shell/generations.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

namespace orch::pool {
namespace {

constexpr const char* kFile = "generations";

// Of one line; tabs separate, and no path of a model file has one.
std::vector<std::string> fields_of(const std::string& line) {
  std::vector<std::string> out;
  std::size_t begin = 0;
  for (std::size_t tab = line.find('\t'); tab != std::string::npos; tab = line.find('\t', begin)) {
    out.push_back(line.substr(begin, tab - begin));
    begin = tab + 1;
  }
  out.push_back(line.substr(begin));
  return out;
}

}  // namespace

std::vector<ReplicaSpec> Generations::current() const {
  std::vector<ReplicaSpec> out = configured_;
  std::ifstream file(state_dir_.path() + "/" + kFile);
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> fields = fields_of(line);
    if (fields.size() != 6) continue;
    const auto spec = std::find_if(out.begin(), out.end(), [&](const auto& each) { return each.place == fields[0]; });
    std::uint32_t generation = 0;
    const auto read = std::from_chars(fields[1].data(), fields[1].data() + fields[1].size(), generation);
    if (spec == out.end() || read.ec != std::errc()) continue;
    if (spec->model_path != fields[2] || spec->model_digest != fields[3]) continue;
    spec->generation = generation;
    spec->replica_id = replica_id_of(spec->place, generation);
    spec->model_path = fields[4];
    spec->model_digest = fields[5];
  }
  return out;
}

Status<runtime::StateDir::Error> Generations::store(const std::vector<ReplicaSpec>& replicas) const {
  std::string text;
  for (const ReplicaSpec& was : configured_) {
    const auto is =
        std::find_if(replicas.begin(), replicas.end(), [&](const auto& each) { return each.place == was.place; });
    if (is == replicas.end() || is->generation == 0 || is->model_path.find('\t') != std::string::npos) continue;
    for (const std::string& field :
         {was.place, std::to_string(is->generation), was.model_path, was.model_digest, is->model_path})
      text += field + '\t';
    text += is->model_digest + '\n';
  }
  return state_dir_.write_file(kFile, text, true);
}

}  // namespace orch::pool
